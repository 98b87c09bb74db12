package s3

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/usage"
)

// kind is a sort of request.
type kind struct {
	name       string // in usage.Counter
	verb       string // in errors
	permission string // that the credentials want for it
	writes     bool
	free       bool
	success    []int
	root       string // element that the body of a success is; empty: no XML is wanted
}

var (
	put      = kind{name: "put", verb: "put", permission: "s3:PutObject", writes: true, success: []int{200}}
	get      = kind{name: "get", verb: "get", permission: "s3:GetObject", success: []int{200, 206}}
	head     = kind{name: "head", verb: "stat", permission: "s3:GetObject", success: []int{200}}
	compare  = kind{name: "head", verb: "compare", permission: "s3:GetObject", writes: true, success: []int{200}} // of a put that was refused
	list     = kind{name: "list", verb: "list", permission: "s3:ListBucket", success: []int{200}, root: "ListBucketResult"}
	remove   = kind{name: "delete", verb: "delete", permission: "s3:DeleteObject", free: true, success: []int{200, 204}}
	create   = kind{name: "create_multipart", verb: "begin parts of", permission: "s3:PutObject", writes: true, success: []int{200}, root: "InitiateMultipartUploadResult"}
	upload   = kind{name: "upload_part", verb: "put part of", permission: "s3:PutObject", writes: true, success: []int{200}}
	complete = kind{name: "complete_multipart", verb: "complete parts of", permission: "s3:PutObject", writes: true, success: []int{200}, root: "CompleteMultipartUploadResult"}
	abort    = kind{name: "abort_multipart", verb: "abort parts of", permission: "s3:AbortMultipartUpload", free: true, success: []int{200, 204}}

	createBucket  = kind{name: "put", verb: "create bucket", permission: "s3:CreateBucket", success: []int{200}}
	getVersioning = kind{name: "get", verb: "read versioning of", permission: "s3:GetBucketVersioning", success: []int{200}, root: "VersioningConfiguration"}
	getLock       = kind{name: "get", verb: "read object lock of", permission: "s3:GetBucketObjectLockConfiguration", success: []int{200}, root: "ObjectLockConfiguration"}
	getLifecycle  = kind{name: "get", verb: "read lifecycle rules of", permission: "s3:GetLifecycleConfiguration", success: []int{200}, root: "LifecycleConfiguration"}
)

// exchange is one request and what came of it.
type exchange struct {
	kind
	key   string
	bytes int64    // that move, as far as is known before
	body  *payload // nil: what the SDK made

	extend func(bytes int64) // gives the rest of the call the time for so many bytes

	header http.Header // of a success
	err    error       // why it was none: a *refusal if the store answered, else what the network said
}

type exchangeKey struct{}

// refusal is an answer of the store, or of whatever is at its address, that is no success.
type refusal struct {
	status  int
	code    string // of S3; empty if there was no body that S3 would send
	message string
	region  string // that the bucket is said to be in
	text    bool   // the body is HTML, or otherwise nothing of S3
	ahead   time.Duration
}

func (r *refusal) Error() string {
	switch {
	case r.text:
		return fmt.Sprintf("HTTP %d with a body that is not S3's: %s", r.status, r.message)
	case r.code == "":
		return fmt.Sprintf("HTTP %d", r.status)
	}
	return fmt.Sprintf("HTTP %d %s: %s", r.status, r.code, strings.TrimSuffix(r.message, "."))
}

// wire is what the SDK sends through.
type wire struct {
	next  http.RoundTripper
	usage *usage.Counter
}

// RoundTrip implements http.RoundTripper. It answers successes as they are, and everything else as one answer that the SDK neither repeats
// nor sleeps after; the truth is in the exchange.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	x := req.Context().Value(exchangeKey{}).(*exchange)
	var tried attempts
	sent := req.WithContext(httptrace.WithClientTrace(req.Context(), tried.trace()))
	if x.body != nil && req.Body != nil {
		sent.Body = x.body.open()
		// net/http repeats the request by itself only if a connection that was kept turns out closed before anything was written.
		sent.GetBody = func() (io.ReadCloser, error) { return x.body.open(), nil }
	}
	resp, err := w.next.RoundTrip(sent)
	for range tried.count() {
		w.count(x, sent, resp)
	}
	if err != nil {
		x.err = err
		return settled(req), nil
	}
	if err := x.judge(resp); err != nil {
		resp.Body.Close()
		x.err = err
		return settled(req), nil
	}
	x.header = resp.Header
	return resp, nil
}

// attempts counts how often net/http sends one request: not at all if there is no connection, and twice if one that was kept breaks.
type attempts struct {
	traced atomic.Bool
	sent   atomic.Int32 // net/http may still be writing when RoundTrip has returned
}

func (a *attempts) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn:      func(string) { a.traced.Store(true) },
		WroteHeaders: func() { a.sent.Add(1) },
	}
}

func (a *attempts) count() int {
	if a.traced.Load() {
		return int(a.sent.Load())
	}
	return 1 // a transport of the caller's, which traces nothing
}

func (w *wire) count(x *exchange, req *http.Request, resp *http.Response) {
	bytes, units := max(req.ContentLength, 0), 1
	if resp != nil && req.Method == http.MethodGet {
		bytes += max(resp.ContentLength, 0)
	}
	if x.free {
		units = 0
	}
	w.usage.Add(x.name, causeOf(x), units, int(bytes))
}

func causeOf(x *exchange) usage.Cause {
	switch folder := objectlog.Folder(x.key); {
	case folder == "snap":
		return usage.Snapshot
	case folder == "seg" && x.writes:
		return usage.Flush
	case folder == "seg" && x.name != remove.name:
		return usage.Read
	}
	return usage.Cluster
}

// judge answers nil if the store says that it did what was asked.
func (x *exchange) judge(resp *http.Response) error {
	foreign := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
	if foreign || !slices.Contains(x.success, resp.StatusCode) {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, refusalBytesMax))
		return refused(resp, body)
	}
	// A gateway that answers 200 to everything stores nothing. What stores an object names its content.
	if (x.name == put.name && x.key != "" || x.name == upload.name) && resp.Header.Get("Etag") == "" {
		return &refusal{status: resp.StatusCode, text: true, message: "it stored nothing, because it names no ETag"}
	}
	if x.root != "" {
		return x.judgeBody(resp)
	}
	return nil
}

// judgeBody reads a success to its end and wants it to be what was asked for: the SDK takes an <Error>, and any other element, for a
// listing of nothing and for rules that do nothing. A 200 with an <Error> is what the end of an upload in parts can have.
func (x *exchange) judgeBody(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, pageBytesMax+1))
	switch {
	case err != nil:
		return fmt.Errorf("the body ended after %d bytes: %w", len(body), err)
	case len(body) > pageBytesMax:
		return fmt.Errorf("the body is longer than %d bytes, as no %s is", pageBytesMax, x.root)
	case len(bytes.TrimSpace(body)) == 0:
		return &refusal{status: resp.StatusCode, text: true, message: "it is empty, instead of " + x.root}
	case rootOf(body) != x.root:
		return refused(resp, body[:min(len(body), refusalBytesMax)])
	}
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// pageBytesMax is well above a page of a thousand keys of 1 KiB, each byte of them escaped.
const pageBytesMax = 16 << 20

// rootOf answers the name of the outermost element, without its namespace, which stores leave out at times.
func rootOf(body []byte) string {
	decoder := xml.NewDecoder(bytes.NewReader(body))
	for {
		token, err := decoder.Token()
		if err != nil {
			return ""
		}
		if element, ok := token.(xml.StartElement); ok {
			return element.Name.Local
		}
	}
}

// refused reads what an answer that is no success says.
func refused(resp *http.Response, body []byte) *refusal {
	r := &refusal{status: resp.StatusCode, region: resp.Header.Get("X-Amz-Bucket-Region"), code: resp.Header.Get("X-Minio-Error-Code")}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		r.ahead = time.Since(date)
	}
	r.message = strings.Trim(resp.Header.Get("X-Minio-Error-Desc"), `"`)
	var parsed struct {
		XMLName               xml.Name `xml:"Error"`
		Code, Message, Region string
	}
	switch err := xml.Unmarshal(body, &parsed); {
	case err == nil:
		r.code, r.message = parsed.Code, parsed.Message
		if parsed.Region != "" {
			r.region = parsed.Region
		}
	case len(bytes.TrimSpace(body)) > 0:
		r.text, r.message = true, excerpt(body)
	}
	return r
}

const refusalBytesMax = 64 << 10

// excerpt is the beginning of a body on one line.
func excerpt(body []byte) string {
	words := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "?")), " ")
	if len(words) > 120 {
		words = words[:120] + "..."
	}
	return fmt.Sprintf("%q", words)
}

// settled is what the SDK is told of a request that did not succeed.
func settled(req *http.Request) *http.Response {
	const body = "<Error><Code>Settled</Code><Message>the exchange knows</Message></Error>"
	return &http.Response{
		StatusCode: http.StatusBadRequest, Status: "400 Bad Request", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}
