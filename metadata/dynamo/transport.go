package dynamo

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

const (
	// connectTimeout leaves time for two lost packets of the handshake; a host of the Region answers in milliseconds.
	connectTimeout = 3 * time.Second
	// tlsTimeout: a handshake is two round trips and some CPU of a machine that may be busy.
	tlsTimeout = 5 * time.Second
	// idleTimeout is below what servers and balancers grant a silent connection, usually a minute: a request on a connection that is being
	// closed has an unknown outcome, as it cannot be repeated.
	idleTimeout = 30 * time.Second
	// idlePerHost is above the requests that run together: a shard has few, a self-test 64.
	idlePerHost = 128
	// answerBytesMax is far above a page of a query: 1 MB of items, as base64 in JSON.
	answerBytesMax = 16 << 20
)

// newTransport is the package's own. It speaks HTTP/1.1, as DynamoDB does, and asks for no compression: the checksum of an answer is
// over the bytes that were sent.
func newTransport(chain aws.Config) *http.Transport {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: tlsTimeout,
		IdleConnTimeout:     idleTimeout,
		MaxIdleConns:        idlePerHost,
		MaxIdleConnsPerHost: idlePerHost,
		DisableCompression:  true,
		// Head and body of a usual put, 8 KiB in base64, leave in one write.
		WriteBufferSize: 64 << 10,
		ReadBufferSize:  16 << 10,
	}
	// The SDK puts the authorities of AWS_CA_BUNDLE, or of the profile's ca_bundle, into its own client only.
	if own, ok := chain.HTTPClient.(*awshttp.BuildableClient); ok {
		if c := own.GetTransport().TLSClientConfig; c != nil {
			t.TLSClientConfig.RootCAs = c.RootCAs
		}
	}
	return t
}

// sender sends the SDK's requests, each once.
//
// It gives net/http a body of its own. The SDK closes the request's body as soon as the head of an answer is there; its reader then ends
// early, which net/http, if it has not yet seen the end of the body, takes for a failed write: it closes the connection under the
// answer, and a put that succeeded ends as an error. Without GetBody net/http cannot send the request again on another connection.
//
// It follows no redirect, and it reads the answer to its end before anybody looks at it: what was cut off is an error here.
type sender struct{ next http.RoundTripper }

// Do implements aws.HTTPClient.
func (s *sender) Do(req *http.Request) (*http.Response, error) {
	c := callOf(req.Context())
	var body []byte
	if req.Body != nil {
		var err error
		body, err = io.ReadAll(req.Body)
		if err != nil {
			return nil, fmt.Errorf("read the request's body: %w", err)
		}
	}
	own := *req
	own.Body, own.GetBody, own.ContentLength = io.NopCloser(bytes.NewReader(body)), nil, int64(len(body))
	c.sent = true
	resp, err := s.next.RoundTrip(&own)
	if err != nil {
		var dial *net.OpError
		c.sent = !errors.As(err, &dial) || dial.Op != "dial"
		return nil, err
	}
	return resp, c.receive(resp)
}

// receive reads the answer into memory and judges whether it can be DynamoDB's.
func (c *call) receive(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax+1))
	if closing := resp.Body.Close(); err == nil && closing != nil {
		err = closing
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if err == nil {
		err = checkSum(resp.Header.Get("X-Amz-Crc32"), body)
	}
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	c.status, c.contentType, c.received = resp.StatusCode, resp.Header.Get("Content-Type"), time.Now()
	c.date, _ = http.ParseTime(resp.Header.Get("Date"))
	object := bytes.HasPrefix(bytes.TrimLeft(body, " \r\n\t"), []byte("{"))
	switch {
	case len(body) > answerBytesMax:
		return fmt.Errorf("answer above %d bytes: %w", answerBytesMax, errForeign)
	case resp.StatusCode < 400 && resp.StatusCode != http.StatusOK, resp.StatusCode < 500 && !object:
		// An empty 200 would otherwise pass for a put that was applied.
		return errForeign
	case resp.StatusCode == http.StatusOK && c.action != "":
		return checkFields(c.action, body)
	}
	return nil
}

// checkSum compares the body with DynamoDB's checksum of it, if there is one. The SDK would only log that it does not match.
func checkSum(header string, body []byte) error {
	if header == "" {
		return nil
	}
	want, err := strconv.ParseUint(header, 10, 32)
	if got := crc32.ChecksumIEEE(body); err != nil || uint64(got) != want {
		return fmt.Errorf("damaged on its way: CRC32 %d, the server says %q", got, header)
	}
	return nil
}

// call is one request: what it is for, and what was seen of its answer.
type call struct {
	action string // as in permissions: PutItem
	object string // what it is about, for errors

	sent        bool
	status      int // 0: no whole answer
	contentType string
	date        time.Time // the server's; zero: it told none
	received    time.Time
	throttled   bool // so it says
}

type callKey struct{}

// callOf answers the call in the context. Every request of the package is made by invoke, which puts it there; others have no action.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	if c == nil {
		c = new(call)
	}
	return c
}
