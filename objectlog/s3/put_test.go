package s3

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/usage"
)

// TestPutIsOneRequest pins what one Put is on the wire, headers and all.
func TestPutIsOneRequest(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "splashdam")
	t.Setenv("AWS_SESSION_TOKEN", "")
	f := newFake(t, func(w http.ResponseWriter, _ request) { w.Header().Set("Etag", `"e"`) })
	nonce, err := objectlog.ParseUUID("00112233-4455-4677-8899-aabbccddeeff")
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("segment "), 4<<20/8)
	if err := f.bucket.Put(t.Context(), "p/c/seg/00/b/1.seg", body, nonce); err != nil {
		t.Fatal(err)
	}
	if len(f.all()) != 1 || f.all()[0].body != string(body) {
		t.Fatalf("%d requests, want one with the whole body", len(f.all()))
	}
	var text strings.Builder
	r := f.all()[0]
	fmt.Fprintf(&text, "%s %s %s\n", r.Method, r.URL, r.Proto)
	fmt.Fprintf(&text, "content-length: %d\ntransfer-encoding: %q\ntrailer: %q\n", r.ContentLength, r.TransferEncoding, r.Trailer)
	var names []string
	for name := range r.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	varies := regexp.MustCompile(`(Signature=|Credential=[^/]*/)[0-9a-f]+`)
	for _, name := range names {
		value := varies.ReplaceAllString(r.Header.Get(name), "${1}*")
		if name == "X-Amz-Date" || name == "User-Agent" {
			value = "*"
		}
		fmt.Fprintf(&text, "%s: %s\n", strings.ToLower(name), value)
	}
	const golden = "testdata/put.txt"
	want, err := os.ReadFile(golden)
	if err != nil || text.String() != string(want) {
		t.Errorf("one put sends\n%s\nwant, as in %s,\n%s", text.String(), golden, want)
	}
	lines := f.usage.Lines()
	if wantLine := (usage.Line{Kind: "put", Cause: usage.Flush, Requests: 1, Units: 1, Bytes: 4 << 20}); len(lines) != 1 || lines[0] != wantLine {
		t.Errorf("usage %+v, want %+v", lines, wantLine)
	}
}

// TestPutThatWasAnsweredIsDone although its caller has gone in the meantime.
func TestPutThatWasAnsweredIsDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answered := answering(func(req *http.Request) *http.Response {
		cancel()
		return &http.Response{StatusCode: 200, Header: http.Header{"Etag": {`"e"`}}, Body: http.NoBody, Request: req}
	})
	b, err := Open(Config{Bucket: "bucket", Endpoint: "http://127.0.0.1:1", Transport: answered})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(ctx, "key", []byte("body"), newNonce()); err != nil {
		t.Errorf("got %v", err)
	}
}

// answering is a transport.
type answering func(*http.Request) *http.Response

func (f answering) RoundTrip(req *http.Request) (*http.Response, error) { return f(req), nil }

func TestPutUpTo64MiBIsOneRequest(t *testing.T) {
	for _, size := range []int{0, 1, 64 << 20} {
		f := newFake(t, func(w http.ResponseWriter, _ request) { w.Header().Set("Etag", `"e"`) })
		if err := f.bucket.Put(t.Context(), "key", make([]byte, size), newNonce()); err != nil {
			t.Fatal(err)
		}
		if all := f.all(); len(all) != 1 || len(all[0].body) != size || all[0].Header.Get("If-None-Match") != "*" {
			t.Errorf("%d bytes: requests %s, want one conditional put of them", size, f.requests())
		}
	}
}

// putRow is what a store answers to the requests of a Put, and what Put makes of it.
type putRow struct {
	put, head func(http.ResponseWriter)
	want      error // nil, a sentinel, or errUnknown: any error that is no sentinel of a definite outcome
	requests  int
}

var errUnknown = errors.New("any error that leaves the outcome unknown")

func putRows(own content) map[string]putRow {
	other := func(change func(*content)) func(http.ResponseWriter) {
		c := own
		change(&c)
		return func(w http.ResponseWriter) { found(w, c) }
	}
	taken := func(w http.ResponseWriter) { refuse(w, 412, "PreconditionFailed", "taken") }
	status := func(n int, header ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(n)
		}
	}
	return map[string]putRow{
		"200":                 {put: status(200, "Etag", `"e"`), requests: 1},
		"200 without an ETag": {put: status(200), want: errUnknown, requests: 1},
		"200 with HTML":       {put: status(200, "Etag", `"e"`, "Content-Type", "text/html"), want: errUnknown, requests: 1},
		"202 with a body": {put: func(w http.ResponseWriter) {
			w.Header().Set("Etag", `"e"`)
			w.WriteHeader(202)
			fmt.Fprint(w, "<Accepted/>")
		}, want: errUnknown, requests: 1},
		"202":                               {put: status(202, "Etag", `"e"`), want: errUnknown, requests: 1},
		"204":                               {put: status(204, "Etag", `"e"`), want: errUnknown, requests: 1},
		"206":                               {put: status(206, "Etag", `"e"`), want: errUnknown, requests: 1},
		"304":                               {put: status(304), want: errUnknown, requests: 1},
		"400":                               {put: func(w http.ResponseWriter) { refuse(w, 400, "BadDigest", "differs") }, want: errUnknown, requests: 1},
		"412, own object":                   {put: taken, head: other(func(*content) {}), requests: 2},
		"412, another nonce":                {put: taken, head: other(func(c *content) { c.nonce = newNonce() }), want: objectlog.ErrExists, requests: 2},
		"412, no nonce":                     {put: taken, head: other(func(c *content) { c.nonce = objectlog.UUID{} }), want: objectlog.ErrExists, requests: 2},
		"412, another length":               {put: taken, head: other(func(c *content) { c.bytes++ }), want: objectlog.ErrExists, requests: 2},
		"412, another checksum":             {put: taken, head: other(func(c *content) { c.crc++ }), want: objectlog.ErrExists, requests: 2},
		"412, absent object":                {put: taken, head: status(404), want: errUnknown, requests: 2},
		"412, absent object, MinIO":         {put: taken, head: status(404, "X-Minio-Error-Code", "NoSuchKey"), want: errUnknown, requests: 2},
		"412, no permission to look":        {put: taken, head: status(403), want: errUnknown, requests: 2},
		"412, throttled look":               {put: taken, head: status(503), want: objectlog.ErrThrottled, requests: 2},
		"412, cut look":                     {put: taken, head: cut, want: errUnknown, requests: 3},
		"409, own object":                   {put: func(w http.ResponseWriter) { refuse(w, 409, "Conflict", "") }, head: other(func(*content) {}), requests: 2},
		"409, another object":               {put: func(w http.ResponseWriter) { refuse(w, 409, "Conflict", "") }, head: other(func(c *content) { c.crc++ }), want: objectlog.ErrExists, requests: 2},
		"409 of a concurrent put":           {put: func(w http.ResponseWriter) { refuse(w, 409, "ConditionalRequestConflict", "") }, want: errUnknown, requests: 1},
		"500":                               {put: func(w http.ResponseWriter) { refuse(w, 500, "InternalError", "") }, want: errUnknown, requests: 1},
		"503 SlowDown":                      {put: func(w http.ResponseWriter) { refuse(w, 503, "SlowDown", "") }, want: objectlog.ErrThrottled, requests: 1},
		"429":                               {put: status(429), want: objectlog.ErrThrottled, requests: 1},
		"RequestLimitExceeded":              {put: func(w http.ResponseWriter) { refuse(w, 400, "RequestLimitExceeded", "") }, want: objectlog.ErrThrottled, requests: 1},
		"connection cut before the answer":  {put: cut, want: errUnknown, requests: 1},
		"redirect to another place":         {put: status(307, "Location", "/elsewhere"), want: errUnknown, requests: 1},
		"404 because the bucket is gone":    {put: func(w http.ResponseWriter) { refuse(w, 404, "NoSuchBucket", "") }, want: errUnknown, requests: 1},
		"403 by somebody who is no S3":      {put: func(w http.ResponseWriter) { w.WriteHeader(403); fmt.Fprint(w, "denied by proxy") }, want: errUnknown, requests: 1},
		"412 with the store's own CRC off":  {put: taken, head: func(w http.ResponseWriter) { found(w, own); w.Header().Set(storeCRCHeader, encodeCRC(own.crc+1)) }, want: errUnknown, requests: 2},
		"412 with a checksum of checksums":  {put: taken, head: func(w http.ResponseWriter) { found(w, own); w.Header().Set(storeCRCHeader, encodeCRC(own.crc+1)+"-2") }, requests: 2},
		"412 with the store's own CRC same": {put: taken, head: func(w http.ResponseWriter) { found(w, own); w.Header().Set(storeCRCHeader, encodeCRC(own.crc)) }, requests: 2},
	}
}

// TestPutDecides has one row per answer of a store: what Put makes of it, and by how many requests. (A HEAD on a connection that breaks is
// repeated once by net/http, and counted twice.)
func TestPutDecides(t *testing.T) {
	body := []byte("what is put")
	nonce := newNonce()
	for name, test := range putRows(contentFor(body, nonce)) {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(w http.ResponseWriter, r request) {
				if r.Method == http.MethodPut {
					test.put(w)
				} else {
					test.head(w)
				}
			})
			err := f.bucket.Put(t.Context(), "c/seg/00/key", body, nonce)
			switch {
			case test.want == nil && err != nil, test.want != nil && err == nil:
				t.Errorf("got %v, want %v", err, test.want)
			case test.want == errUnknown && (errors.Is(err, objectlog.ErrExists) || errors.Is(err, objectlog.ErrNotFound)):
				t.Errorf("got %v, want an error that leaves the outcome unknown", err)
			case test.want != nil && test.want != errUnknown && !errors.Is(err, test.want):
				t.Errorf("got %v, want %v", err, test.want)
			}
			if len(f.all()) != test.requests {
				t.Errorf("requests %s, want %d", f.requests(), test.requests)
			}
			counted := uint64(0)
			for _, line := range f.usage.Lines() {
				counted += line.Requests
			}
			if counted != uint64(test.requests) {
				t.Errorf("usage counts %d requests, want %d", counted, test.requests)
			}
		})
	}
}

func TestPutToAPortThatIsClosedSaysWhatToDo(t *testing.T) {
	f := newFake(t, nil)
	f.Close()
	err := f.bucket.Put(t.Context(), "key", nil, newNonce())
	if err == nil || !strings.Contains(err.Error(), "nothing listens on") {
		t.Errorf("got %v", err)
	}
}

// TestNobodyReadsTheBodyAfterPut has a transport that keeps a request's body and goes on reading when its request has ended.
func TestNobodyReadsTheBodyAfterPut(t *testing.T) {
	for _, size := range []int{1000, 2999} {
		keeper := &bodyKeeper{}
		b, err := Open(Config{Bucket: "bucket", Endpoint: "http://127.0.0.1:1", Transport: keeper})
		if err != nil {
			t.Fatal(err)
		}
		b.singleMax, b.partBytes = 2000, 1000
		body := bytes.Repeat([]byte{1}, size)
		if err := b.Put(t.Context(), "key", body, newNonce()); err == nil {
			t.Fatal("the put succeeded")
		}
		for i := range body {
			body[i] = 2 // the race detector looks too
		}
		if len(keeper.bodies) == 0 {
			t.Fatal("no body was sent")
		}
		for _, kept := range keeper.bodies {
			if n, err := kept.Read(make([]byte, 10)); n != 0 || !errors.Is(err, errCut) {
				t.Errorf("body of %d bytes: read %d bytes and %v after Put, want none", size, n, err)
			}
		}
	}
}

// TestCancelledPutLetsGoOfTheBody ends a put while its body is on the way to a store that takes no more of it.
func TestCancelledPutLetsGoOfTheBody(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stalled := stalledStore(t, cancel)
	b, err := Open(Config{Bucket: "bucket", Endpoint: stalled, PathStyle: true, Transport: closing(t)})
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, singleMax)
	if err := b.Put(ctx, "key", body, newNonce()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	for i := range body {
		body[i] = 2 // the race detector looks
	}
}

func TestPutInPartsGivesUpWhatItBegan(t *testing.T) {
	body := make([]byte, 2001)
	nonce := newNonce()
	own := contentFor(body, nonce)
	const begun = "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>"
	for name, test := range map[string]struct {
		part, complete, head, abort func(http.ResponseWriter)
		want                        error
		aborts                      int
	}{
		"a part fails":             {part: func(w http.ResponseWriter) { refuse(w, 500, "InternalError", "") }, want: errAny, aborts: 1},
		"the end is throttled":     {complete: func(w http.ResponseWriter) { refuse(w, 503, "SlowDown", "") }, want: objectlog.ErrThrottled, aborts: 1},
		"200 with an error in it":  {complete: func(w http.ResponseWriter) { refuse(w, 200, "InternalError", "") }, want: errAny, aborts: 1},
		"200 with a SlowDown":      {complete: func(w http.ResponseWriter) { refuse(w, 200, "SlowDown", "") }, want: objectlog.ErrThrottled, aborts: 1},
		"200 with another element": {complete: func(w http.ResponseWriter) { fmt.Fprint(w, "<Foo><Bucket>b</Bucket></Foo>") }, want: errAny, aborts: 1},
		"200 with nothing in it":   {complete: func(http.ResponseWriter) {}, want: errAny, aborts: 1},
		"200 with HTML":            {complete: func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/html"); fmt.Fprint(w, "<html>") }, want: errAny, aborts: 1},
		"the end is cut":           {complete: cut, abort: func(w http.ResponseWriter) { refuse(w, 404, "NoSuchUpload", "") }, want: errAny, aborts: 1},
		"412, own": {complete: func(w http.ResponseWriter) { refuse(w, 412, "PreconditionFailed", "") },
			head: func(w http.ResponseWriter) { found(w, own) }, aborts: 1},
		"412, foreign": {complete: func(w http.ResponseWriter) { refuse(w, 412, "PreconditionFailed", "") },
			head: func(w http.ResponseWriter) { found(w, content{bytes: 3}) }, want: objectlog.ErrExists, aborts: 1},
		"412 in a 200, own": {complete: func(w http.ResponseWriter) { refuse(w, 200, "PreconditionFailed", "") }, head: func(w http.ResponseWriter) { found(w, own) }, aborts: 1},
		"all goes well":     {},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(w http.ResponseWriter, r request) {
				answer := func(f func(http.ResponseWriter), usual string) {
					if f != nil {
						f(w)
						return
					}
					w.Header().Set("Etag", `"e"`)
					fmt.Fprint(w, usual)
				}
				switch query := r.URL.Query(); {
				case r.Method == http.MethodHead:
					test.head(w)
				case r.Method == http.MethodDelete:
					answer(test.abort, "")
				case query.Has("uploads"):
					answer(nil, begun)
				case query.Has("partNumber"):
					answer(test.part, "")
				case query.Has("uploadId"):
					answer(test.complete, "<CompleteMultipartUploadResult><Bucket>bucket</Bucket></CompleteMultipartUploadResult>")
				}
			})
			f.bucket.singleMax, f.bucket.partBytes = 2000, 1000
			err := f.bucket.Put(t.Context(), "key", body, nonce)
			if (err == nil) != (test.want == nil) || test.want != errAny && !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if test.want == errAny && errors.Is(err, objectlog.ErrExists) {
				t.Errorf("got %v, want an unknown outcome", err)
			}
			if got := strings.Count(f.requests(), "DELETE"); got != test.aborts {
				t.Errorf("requests %s: %d aborts, want %d", f.requests(), got, test.aborts)
			}
			for _, r := range f.all() {
				if r.URL.Query().Has("uploadId") && r.Method == http.MethodPost && r.Header.Get("If-None-Match") != "*" {
					t.Error("the last request is not conditional")
				}
				if r.URL.Query().Has("partNumber") && (r.Header.Get("X-Amz-Content-Sha256") != "UNSIGNED-PAYLOAD" || r.Header.Get(storeCRCHeader) == "") {
					t.Errorf("a part is sent with headers %v", r.Header)
				}
			}
		})
	}
}

var errAny = errors.New("any error")

func TestPutOverTLSIsUnsignedAndWholeToo(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 100_000)
	var got request
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got = request{r, string(text)}
		w.Header().Set("Etag", `"e"`)
	}))
	defer server.Close()
	transport := closing(t)
	transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
	transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
	b, err := Open(Config{Bucket: "bucket", Endpoint: server.URL, PathStyle: true, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "key", body, newNonce()); err != nil {
		t.Fatal(err)
	}
	if got.body != string(body) || got.Header.Get("X-Amz-Content-Sha256") != "UNSIGNED-PAYLOAD" || got.Proto != "HTTP/1.1" {
		t.Errorf("%s with %d bytes and %s, want HTTP/1.1, %d, and unsigned", got.Proto, len(got.body), got.Header.Get("X-Amz-Content-Sha256"), len(body))
	}
}
