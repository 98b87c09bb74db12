package main

import (
	"net"
	"net/http"
	"net/url"
	"testing"
)

func TestABrokerBehindAProxyIsNotLookedForDirectly(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // now nobody listens there
	addresses := []string{l.Addr().String()}
	if err := reach(addresses, http.ProxyURL(nil)); err == nil {
		t.Error("reached where nobody listens")
	}
	if err := reach(addresses, http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.test:3128"})); err != nil {
		t.Errorf("got %v, want it left to the proxy", err)
	}
}
