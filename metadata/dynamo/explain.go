package dynamo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/aws/smithy-go"

	"github.com/splashdam/splashdam/objectlog"
)

// skewMin is above what a slow answer and a Date in whole seconds make. AWS refuses signatures that are five minutes off.
const skewMin = 2 * time.Minute

// failure is a call that got no answer to rely on: what it was, why, and what to do.
type failure struct {
	call, table, where string
	cause, remedy      string
	wraps              []error
}

func (f *failure) Error() string {
	s := fmt.Sprintf("%s of table %s at %s: %s", f.call, f.table, f.where, f.cause)
	if f.remedy != "" {
		s += ": " + f.remedy
	}
	return s
}

func (f *failure) Unwrap() []error { return f.wraps }

func (t *Table) failure(c *call, err error) *failure {
	call := c.action
	if c.object != "" {
		call += " " + c.object
	}
	return &failure{call: call, table: t.name, where: t.where, cause: err.Error(), wraps: []error{err}}
}

// damaged is the error of an answer whose content is wrong.
func (t *Table) damaged(c *call, err error) error {
	f := t.failure(c, err)
	f.remedy = "the table holds what this program did not write, or the server is faulty"
	return f
}

// explain translates the error of a call. Types and codes decide, never texts.
func (t *Table) explain(c *call, err error) error {
	f := t.failure(c, err)
	var keys *credentialsError
	var api smithy.APIError
	switch {
	case errors.Is(err, context.Canceled):
		f.cause = context.Canceled.Error()
	case errors.As(err, &keys):
		f.cause = keys.Error()
		if errors.Is(err, context.DeadlineExceeded) {
			f.remedy = "check the service that gives this machine its role, or the command of the profile"
			break
		}
		f.remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and its file, or give the machine a role"
	case errors.Is(err, context.DeadlineExceeded):
		f.cause = "no answer in time"
		f.remedy = "check the network between here and there, and the server's load"
	case c.status == 0:
		f.cause, f.remedy = connection(err)
	case errors.As(err, &api) && api.ErrorCode() != "" && api.ErrorCode() != unknownCode:
		t.explainCode(f, c, api)
	case c.status >= http.StatusInternalServerError:
		f.cause = fmt.Sprintf("HTTP %d %s", c.status, http.StatusText(c.status))
		f.remedy = "the server, or a proxy before it, is unwell"
	default:
		f.cause = fmt.Sprintf("answer of HTTP %d, content type %q, is not DynamoDB's (%v)", c.status, c.contentType, last(err))
		f.remedy = "check the endpoint: another service or a proxy answers there"
	}
	return f
}

// unknownCode is what the SDK says of an error answer that has no code.
const unknownCode = "UnknownError"

// explainCode translates the codes of the DynamoDB Developer Guide, "Error handling with DynamoDB", and of signature version 4.
func (t *Table) explainCode(f *failure, c *call, api smithy.APIError) {
	code := api.ErrorCode()
	f.cause = code
	if m := api.ErrorMessage(); m != "" {
		f.cause += ": " + m
	}
	skew, skewed := c.skew()
	switch code {
	case "ProvisionedThroughputExceededException", "ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException":
		c.throttled = true
		f.wraps = append(f.wraps, objectlog.ErrThrottled)
		f.remedy = "the table takes no more requests for now; raise its limits if this lasts"
	case "InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture":
		t.keys.refused()
		switch {
		case skewed:
			f.remedy = fmt.Sprintf("the clock of this machine is %s: set it, and keep it right with NTP", skew)
		case code == "RequestTimeTooSkewed" || code == "RequestExpired" || code == "RequestInTheFuture":
			f.remedy = "compare the clock of this machine with the server's"
		default:
			f.remedy = "the secret key does not belong to the access key: correct AWS_SECRET_ACCESS_KEY or the credentials file"
		}
	case "ExpiredTokenException", "ExpiredToken":
		t.keys.refused()
		f.remedy = "renew the session's credentials; a credentials file is read again within seconds"
	case "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "IncompleteSignatureException", "IncompleteSignature",
		"MissingAuthenticationToken", "MissingAuthenticationTokenException", "NotAuthorized", "OptInRequired":
		t.keys.refused()
		f.remedy = "the access key is not known there: correct AWS_ACCESS_KEY_ID or the credentials file, and check endpoint and region"
	case "AccessDeniedException", "AccessDenied":
		t.keys.refused() // other credentials may be allowed to
		f.remedy = fmt.Sprintf("allow these credentials the action dynamodb:%s on table %s", c.action, t.name)
	case "ResourceNotFoundException":
		f.remedy = fmt.Sprintf("there is no table %s: splashdam cluster init makes it; else check its name, endpoint and region", t.name)
	default:
		if c.status >= http.StatusInternalServerError {
			f.remedy = "the server is unwell"
		}
	}
}

// skew says how far the own clock is from the server's, if that is far enough to be the reason for a refusal.
func (c *call) skew() (string, bool) {
	if c.date.IsZero() {
		return "", false
	}
	ahead := c.received.Sub(c.date).Round(time.Second)
	switch {
	case ahead >= skewMin:
		return fmt.Sprintf("%v ahead of the server's", ahead), true
	case ahead <= -skewMin:
		return fmt.Sprintf("%v behind the server's", -ahead), true
	}
	return "", false
}

// connection explains why no answer came.
func connection(err error) (cause, remedy string) {
	cause = last(err).Error()
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		dns       *net.DNSError
		dial      *net.OpError
	)
	switch {
	case errors.As(err, &authority):
		return cause, "if its certificate is right, name the authority's file in SSL_CERT_FILE or AWS_CA_BUNDLE"
	case errors.As(err, &name), errors.As(err, &invalid):
		return cause, "the server's certificate does not fit: correct the endpoint's host, the certificate, or the clock of this machine"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return cause, "the server does not speak TLS there: write http:// in the endpoint, or use its TLS port"
	case errors.As(err, &dns):
		return cause, "correct the host in the endpoint, the region, or the name server"
	case errors.Is(err, syscall.ECONNREFUSED):
		return cause, "nothing listens there: start the server, or correct the endpoint"
	case errors.As(err, &dial) && dial.Op == "dial":
		return cause, "check the endpoint and the network"
	}
	return cause, "" // cut while it was sent or answered
}

// last is the innermost error: those around it are the SDK's words for the call, which the failure says itself.
func last(err error) error {
	for {
		switch x := err.(type) {
		case *net.OpError:
			return err // with address and cause
		case interface{ Unwrap() error }:
			inner := x.Unwrap()
			if inner == nil {
				return err
			}
			err = inner
		default:
			return err
		}
	}
}
