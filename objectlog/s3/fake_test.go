package s3

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/splashdam/splashdam/objectlog/usage"
)

// request is what a fake store has received.
type request struct {
	*http.Request
	body string
}

// fake is a store that answers as a test wants.
type fake struct {
	*httptest.Server
	bucket *Bucket
	usage  usage.Counter

	mu  sync.Mutex
	got []request
}

// newFake starts a fake store; answer is called with the request's body read.
func newFake(t *testing.T, answer func(w http.ResponseWriter, r request)) *fake {
	t.Helper()
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		one := request{r, string(body)}
		f.mu.Lock()
		f.got = append(f.got, one)
		f.mu.Unlock()
		answer(w, one)
	}))
	t.Cleanup(f.Close)
	b, err := Open(Config{Bucket: "bucket", Endpoint: f.URL, PathStyle: true, Transport: closing(t), Usage: &f.usage})
	if err != nil {
		t.Fatal(err)
	}
	f.bucket = b
	return f
}

// all answers what came so far.
func (f *fake) all() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

// requests answers what came, as method and path.
func (f *fake) requests() string {
	var all []string
	for _, r := range f.all() {
		all = append(all, r.Method+" "+r.URL.Path)
	}
	return strings.Join(all, ", ")
}

// refuse answers as S3 does.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
}

// found answers a HEAD or GET of an object with this content.
func found(w http.ResponseWriter, c content) {
	w.Header().Set("Etag", `"e"`)
	w.Header().Set("Last-Modified", "Tue, 24 Nov 2026 09:00:00 GMT")
	w.Header().Set("Content-Length", fmt.Sprint(c.bytes))
	w.Header().Set(nonceHeader, c.nonce.String())
	w.Header().Set(crcHeader, fmt.Sprintf("%08x", c.crc))
}

// cut closes the connection without an answer.
func cut(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}
