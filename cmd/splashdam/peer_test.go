package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/agent"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/objectlog/mem"
)

// authority signs certificates for agents.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "agents"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = writePEM(t, "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, kind string, der []byte) string {
	name := filepath.Join(t.TempDir(), strings.ReplaceAll(strings.ToLower(kind), " ", "-")+".pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// issue answers settings with a certificate for 127.0.0.1.
func (a *authority) issue(change func(*x509.Certificate)) Config {
	a.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if change != nil {
		change(template)
	}
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return Config{PeerTLSCert: writePEM(a.t, "CERTIFICATE", der), PeerTLSKey: writePEM(a.t, "EC PRIVATE KEY", secret), PeerTLSCA: a.file, AdvertisePeer: "127.0.0.1:4512"}
}

func TestCertificatesThatOtherAgentsWouldRefuseAreRefusedAtStart(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	with := func(change func(*x509.Certificate), set func(*Config)) Config {
		c := a.issue(change)
		if set != nil {
			set(&c)
		}
		return c
	}
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for name, c := range map[string]struct {
		config Config
		want   []string
	}{
		"no authority":         {with(nil, func(c *Config) { c.PeerTLSCA = missing }), []string{"peer-tls-ca", "missing.pem", "no such file"}},
		"authority is no PEM":  {with(nil, func(c *Config) { c.PeerTLSCA = c.PeerTLSKey }), []string{"peer-tls-ca", "no certificate in it"}},
		"no certificate":       {with(nil, func(c *Config) { c.PeerTLSCert = missing }), []string{"peer-tls-cert", "missing.pem", "no such file"}},
		"another's key":        {with(nil, func(c *Config) { c.PeerTLSKey = a.issue(nil).PeerTLSKey }), []string{"peer-tls-key", "does not match"}},
		"of another authority": {with(nil, func(c *Config) { c.PeerTLSCA = other.file }), []string{"peer-tls-cert", "other agents will not accept it", "unknown authority"}},
		"expired":              {with(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, nil), []string{"other agents will not accept it", "expired"}},
		"for servers only":     {with(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }, nil), []string{"other agents will not accept it", "key usage"}},
		"of another host":      {with(nil, func(c *Config) { c.AdvertisePeer = "agent-1.example.net:4512" }), []string{"--advertise-peer", "agent-1.example.net"}},
	} {
		_, err := c.config.peerTLS(time.Now())
		if _, code := describeOr(err); code != exitUsage {
			t.Errorf("%s: got %v, want a wrong setting", name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
	}
}

func TestStopWaitsForTheLookAtTheOwnAddress(t *testing.T) {
	others, err := Config{PeerListen: "127.0.0.1:0"}.listenToPeers()
	if err != nil {
		t.Fatal(err)
	}
	engine, err := agent.Open(t.Context(), agent.Config{Shards: 1, Slots: 64, PeerAddress: "127.0.0.1:1", Dial: others.dial}, new(mem.Bucket), new(metamem.Table))
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, peerFailures)
	others.serve(engine, failed)
	if err := others.check(t.Context(), engine); err != nil { // nobody is there; it looks again
		t.Fatal(err)
	}
	others.stop()
	all := make([]byte, 1<<20)
	if all = all[:runtime.Stack(all, true)]; bytes.Contains(all, []byte("(*peers)")) {
		t.Errorf("something goes on:\n%s", all)
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) || len(failed) > 0 {
		t.Errorf("got %v and %d more", err, len(failed))
	}
}

func describeOr(err error) (string, int) {
	if err == nil {
		return "", exitDone
	}
	return describe(err)
}

func TestAgentsWithCertificatesOfOneAuthorityAcceptEachOtherAndNobodyElse(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	one, err := a.issue(nil).peerTLS(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	two, err := a.issue(nil).peerTLS(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.issue(nil).peerTLS(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	greet := func(client *tls.Config) error {
		l, err := tls.Listen("tcp", "127.0.0.1:0", one.ServerTLS)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		served := make(chan error, 1)
		go func() {
			conn, err := l.Accept()
			if err == nil {
				err = conn.(*tls.Conn).Handshake()
				conn.Close()
			}
			served <- err
		}()
		if conn, err := tls.Dial("tcp", l.Addr().String(), client); err == nil {
			defer conn.Close()
		}
		return <-served
	}
	if err := greet(two.ClientTLS); err != nil {
		t.Errorf("another agent: %v", err)
	}
	if err := greet(foreign.ClientTLS); err == nil {
		t.Error("an agent of another authority was accepted")
	}
	if err := greet(&tls.Config{RootCAs: two.ClientTLS.RootCAs}); err == nil {
		t.Error("a client without a certificate was accepted")
	}
}
