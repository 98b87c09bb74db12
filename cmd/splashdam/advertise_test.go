package main

import (
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAdvertisedClientAddressIsTriedAndRefusedWhereItLeadsElsewhere(t *testing.T) {
	answering := func(status int, kind, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/splashdam.v1.ClusterService/GetCluster" {
				t.Errorf("asked for %s", r.URL)
			}
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
	}
	here, elsewhere := answering(200, "application/json", `{"clusterId":"here"}`), answering(200, "application/json", `{"clusterId":"elsewhere"}`)
	for _, c := range []struct {
		name   string
		server func(http.Handler) *httptest.Server
		answer http.Handler
		refuse string // in the error; empty: none
		warn   string // on standard error; empty: nothing
	}{
		{"this cluster", httptest.NewServer, here, "", ""},
		{"this cluster behind TLS", quietTLS, here, "", ""},
		{"another cluster", httptest.NewServer, elsewhere, "leads to cluster elsewhere, this is cluster here", ""},
		{"another cluster behind TLS", quietTLS, elsewhere, "leads to cluster elsewhere, this is cluster here", ""},
		{"a web page", httptest.NewServer, answering(200, "text/html", "<html>"), "leads to something else: got HTTP 200 and text/html", ""},
		{"something that can't be asked", httptest.NewServer, answering(405, "text/plain", ""), "leads to something else: got HTTP 405 Method Not Allowed", ""},
		{"an object store", httptest.NewServer, answering(400, "application/xml", "<Error/>"), "leads to something else: got HTTP 400 Bad Request", ""},
		{"a balancer without agents", httptest.NewServer, answering(503, "text/html", "<html>"), "", "can't be tried from here: got HTTP 503 Service Unavailable"},
		{"one that has no way to them yet", httptest.NewServer, answering(404, "text/plain", "404 page not found"), "", "can't be tried from here: got HTTP 404 Not Found"},
		{"one whose agents are gone", httptest.NewServer, answering(502, "text/html", ""), "", "can't be tried from here: got HTTP 502 Bad Gateway"},
		{"one whose agents hang", httptest.NewServer, answering(504, "text/html", ""), "", "can't be tried from here: got HTTP 504 Gateway Timeout"},
		{"a balancer that wants a password", httptest.NewServer, answering(401, "text/html", ""), "", "can't be tried from here: got HTTP 401 Unauthorized"},
	} {
		server := c.server(c.answer)
		var warned bytes.Buffer
		env := &environment{err: &warned}
		err := env.checkClientAddress(t.Context(), server.Listener.Addr().String(), "here")
		server.Close()
		if (err != nil) != (c.refuse != "") || err != nil && !strings.Contains(err.Error(), c.refuse) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.refuse)
		}
		if got := warned.String(); !strings.Contains(got, c.warn) || (got == "") != (c.warn == "") || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: warned %q, want %q", c.name, got, c.warn)
		}
	}
}

func TestAdvertisedClientAddressThatIsNoHTTPIsRefusedAndOneThatIsNotThereOnlyTold(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1<<10)) // the request
			_, _ = conn.Write([]byte("-ERR unknown command 'GET'\r\n"))
			conn.Close()
		}
	}()
	var warned bytes.Buffer
	env := &environment{err: &warned}
	if err := env.checkClientAddress(t.Context(), l.Addr().String(), "here"); err == nil || !strings.Contains(err.Error(), "something else: got no HTTP") {
		t.Errorf("got %v", err)
	}
	l.Close()
	<-accepting
	if err := env.checkClientAddress(t.Context(), l.Addr().String(), "here"); err != nil || !strings.Contains(warned.String(), "connection refused") {
		t.Errorf("got %v, warned %q", err, warned.String())
	}
}

// quietTLS is a TLS server that does not log who came without TLS.
func quietTLS(h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	return s
}
