package e2e

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
	"github.com/splashdam/splashdam/test/faultproxy"
)

// refusalTimeout is for a busy machine: what is wrong with a store shows in the first second.
const refusalTimeout = 10 * time.Second

// refuses runs a command that must fail, and answers the line that it says.
func refuses(t *testing.T, env []string, args ...string) string {
	t.Helper()
	return fails(t, 1, env, args...)
}

func fails(t *testing.T, code int, env []string, args ...string) string {
	t.Helper()
	began := time.Now()
	r := runWith(t, env, nil, args...)
	command := "splashdam " + strings.Join(args, " ")
	if r.code != code || r.stdout != "" {
		t.Errorf("%s: exit %d, output %q; want exit %d and none", command, r.code, r.stdout, code)
	}
	if strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "splashdam: ") {
		t.Errorf("%s: want one line, got %q", command, r.stderr)
	}
	if took := time.Since(began); took > refusalTimeout {
		t.Errorf("%s: took %s, want at most %s", command, took, refusalTimeout)
	}
	t.Log(strings.TrimSpace(r.stderr))
	return r.stderr
}

// objectsEndpoint and tableEndpoint are of the usual servers.
func objectsEndpoint(t *testing.T) string { return localstacktest.Shared(t, localstack.MinIO).Endpoint }
func tableEndpoint(t *testing.T) string {
	return localstacktest.Shared(t, localstack.Ministack).Endpoint
}

// proxied stands in front of a store and does what the rules say.
func proxied(t *testing.T, target string, rules ...faultproxy.Rule) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.Start(faultproxy.Config{Target: target})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if err := p.SetRules(rules...); err != nil {
		t.Fatal(err)
	}
	return p
}

// answering is a rule under which the store answers an error to everything.
func answering(code string) faultproxy.Rule {
	return faultproxy.Rule{Action: faultproxy.Action{Do: faultproxy.Status, Error: code}}
}

// forging passes requests on to a store that verifies no signatures, and changes requests and answers. Either may be nil.
func forging(t *testing.T, target string, request func(*http.Request), answer func(string) string) (endpoint string) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host
			if request != nil {
				request(r.Out)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if answer == nil {
				return nil
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			forged := answer(string(body))
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(forged)), int64(len(forged))
			r.Header.Del("Content-Length")
			r.Header.Del("X-Amz-Crc32")
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}

// saying is a server that answers the same to everything. Its clock is off by so much.
func saying(t *testing.T, status int, off time.Duration, contentType, body string) (endpoint string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

const (
	now       = time.Duration(0)
	anHourOff = -time.Hour

	loginPage = "<!DOCTYPE html><html><head><title>Log in</title></head><body><form></form></body></html>"
)

// untrusted is a server with a certificate of nobody.
func untrusted(t *testing.T) (endpoint string) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the refused handshakes are what is wanted
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}
