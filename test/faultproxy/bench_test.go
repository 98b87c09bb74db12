package faultproxy

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkPut compares a segment's way through the proxy with the direct one.
func BenchmarkPut(b *testing.B) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer target.Close()
	p, err := Start(Config{Target: target.URL})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	sizes := []struct {
		name  string
		bytes int
	}{{"8KiB", 8 << 10}, {"4MiB", 4 << 20}}
	for _, size := range sizes {
		body := make([]byte, size.bytes)
		for _, way := range []struct{ name, url string }{{"direct", target.URL}, {"proxy", p.Endpoint}} {
			b.Run(size.name+"/"+way.name, func(b *testing.B) {
				b.SetBytes(int64(size.bytes))
				for b.Loop() {
					req, _ := http.NewRequest("PUT", way.url+"/b/k", bytes.NewReader(body))
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						b.Fatal(err)
					}
					resp.Body.Close()
				}
			})
		}
	}
}
