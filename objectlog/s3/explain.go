package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// explain makes an error for people of one for the SDK: operation, object, cause, and what to do. It has the credentials renewed if they
// are the cause.
func (b *Bucket) explain(ctx context.Context, x *exchange, err error) error {
	said := func(err error, advice string) error {
		if advice != "" {
			return fmt.Errorf("%s %s: %w; %s", x.verb, b.location(x.key), err, advice)
		}
		return fmt.Errorf("%s %s: %w", x.verb, b.location(x.key), err)
	}
	r := (*refusal)(nil)
	if !errors.As(err, &r) {
		if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
			err = fmt.Errorf("%w: %w", ended, err)
		}
		return said(err, b.adviceOnNetwork(err))
	}
	if r.code == "NoSuchKey" && r.status == http.StatusNotFound {
		return said(objectlog.ErrNotFound, "")
	}
	if r.throttled() {
		return said(fmt.Errorf("%w: %w", objectlog.ErrThrottled, err), "the store asks for fewer requests")
	}
	if r.credentials() {
		b.chain.refuse()
	}
	return said(err, b.adviceOn(r, x))
}

// throttled: see "Error responses" of the Amazon S3 API reference. A HEAD has no body, and what S3 itself answers 503 for is nearly always
// its rate.
func (r *refusal) throttled() bool {
	return r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable && r.code == "" && !r.text ||
		slices.Contains([]string{
			"SlowDown", "SlowDownRead", "SlowDownWrite", "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "Throttling",
			"ThrottlingException", "ThrottledException", "TooManyRequests", "TooManyRequestsException", "BandwidthLimitExceeded",
			"ServiceUnavailable", "Busy",
		}, r.code)
}

// credentials says whether other credentials may be what is wanted. With those of a role that has run out S3 says AccessDenied at times.
func (r *refusal) credentials() bool {
	return r.code == "AccessDenied" && strings.Contains(strings.ToLower(r.message), "expired") || slices.Contains([]string{
		"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId", "InvalidClientTokenId",
		"SignatureDoesNotMatch", "RequestExpired", "UnrecognizedClientException",
	}, r.code)
}

func (b *Bucket) adviceOn(r *refusal, x *exchange) string {
	if r.region != "" && r.region != b.region && r.status/100 != 5 {
		return fmt.Sprintf("the bucket is in region %s, not %s: say region=%s in its address", r.region, b.region, r.region)
	}
	switch {
	case r.text && strings.Contains(r.message, "HTTP request to an HTTPS server"):
		return "the endpoint speaks TLS: say https:// in it"
	case r.text:
		return fmt.Sprintf("%s is not an S3 endpoint, or something stands before it: check host and port (a console has another port than the store)",
			b.host)
	case r.credentials():
		return fmt.Sprintf("replace the credentials, which are those %s; they are read anew within %s", b.chain.origin(), renewPause)
	case r.status/100 == 3 || r.code == "AuthorizationHeaderMalformed":
		return "the bucket is in another region or at another endpoint: correct region= and endpoint= in its address"
	}
	switch r.code {
	case "NoSuchBucket":
		return fmt.Sprintf("create the bucket %s, or correct its name in the address", b.name)
	case "BucketAlreadyExists":
		return "the name belongs to somebody else: choose another"
	case "AccessDenied", "AllAccessDisabled", "AccountProblem":
		return b.adviceOnPermission(x)
	case "RequestTimeTooSkewed":
		return fmt.Sprintf("this machine's clock is %s the store's: set it (NTP)", apart(r.ahead))
	case "XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "EntityTooLarge":
		return "the store is full, or its quota: make room"
	case "XMinioServerNotInitialized":
		return "the store is starting, or has lost its disks"
	case "":
		if r.status == http.StatusForbidden {
			return b.adviceOnPermission(x)
		}
	}
	return ""
}

func (b *Bucket) adviceOnPermission(x *exchange) string {
	object := "arn:aws:s3:::" + b.name
	if strings.HasSuffix(x.permission, "Object") || x.permission == "s3:AbortMultipartUpload" {
		object += "/*"
	}
	return fmt.Sprintf("allow %s on %s to the credentials, which are those %s", x.permission, object, b.chain.origin())
}

// apart says how far the clock of this machine is before or behind another.
func apart(ahead time.Duration) string {
	if ahead = ahead.Round(time.Second); ahead.Abs() > 5*time.Minute {
		ahead = ahead.Round(time.Minute) // the request itself took a part of a second
	}
	switch {
	case ahead == 0: // the store gave no time
		return "too far from"
	case ahead < 0:
		return (-ahead).String() + " behind"
	}
	return ahead.String() + " ahead of"
}

func (b *Bucket) adviceOnNetwork(err error) string {
	var (
		authority   x509.UnknownAuthorityError
		hostname    x509.HostnameError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		name        *net.DNSError
		timeout     net.Error
	)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, errNoCredentials):
		return ""
	case errors.As(err, &authority):
		return "trust the authority that signed the store's certificate: SSL_CERT_FILE=its certificate in PEM"
	case errors.As(err, &hostname):
		return "the certificate is for another host: correct the endpoint, or say style=path"
	case errors.As(err, &certificate):
		return "the store's certificate is not valid: renew it, or set the clock"
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		return "the endpoint speaks plain HTTP: say http:// in it"
	case errors.As(err, &name):
		return "nobody knows the host: correct the endpoint, or say style=path"
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens on %s: start the store, or correct the endpoint", b.host)
	case errors.Is(err, errHung), errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, syscall.EHOSTUNREACH),
		errors.Is(err, syscall.ENETUNREACH):
		return fmt.Sprintf("check the network between here and %s, and the store's health", b.host)
	}
	return ""
}
