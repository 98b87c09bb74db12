package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/agent"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate: certificate, key: key}
}

func (a *authority) issue(t testing.TB, ip string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(ip)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.certificate)
	return p
}

// mutual is the setting of an agent whose certificate comes from one authority and that trusts another, maybe the same.
func mutual(t testing.TB, from, trusted *authority) Config {
	certificate := []tls.Certificate{from.issue(t, "127.0.0.1")}
	return Config{
		ServerTLS: &tls.Config{Certificates: certificate, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted.pool()},
		ClientTLS: &tls.Config{Certificates: certificate, RootCAs: trusted.pool()},
	}
}

func TestMutualTLSLetsOnlyItsOwnIn(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	cfg := mutual(t, ours, ours)
	s := NewServer(cfg, &fake{own: identity(calledBoot), greet: func(context.Context, agent.Greeting) (agent.Greeting, error) {
		return greetingOf(calledBoot), nil
	}})
	s.ErrorLog = quiet()
	address := run(t, s)
	ping := func(cfg Config) error {
		c := NewClient(cfg, identity(callerBoot))
		defer c.Close()
		_, err := c.Ping(soon(t), address, greetingOf(callerBoot))
		return err
	}
	if err := ping(cfg); err != nil {
		t.Errorf("with a certificate of ours: %v", err)
	}
	nameless := mutual(t, ours, ours)
	nameless.ClientTLS.Certificates = nil
	foreign := mutual(t, theirs, ours)
	stricter := mutual(t, ours, theirs)
	for what, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"without certificate":          {nameless, "wants a certificate"},
		"with a certificate of others": {foreign, "wants a certificate"},
		"trusting others only":         {stricter, "certificate signed by unknown authority"},
		"without TLS":                  {Config{}, "TLS on one side only"},
	} {
		if err := ping(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		} else {
			t.Logf("%s: %v", what, err)
		}
	}
}

func TestAListenerWithTLSServesNobodyWithout(t *testing.T) {
	a := newAuthority(t, "ours")
	s := NewServer(mutual(t, a, a), &fake{own: identity(calledBoot), greet: func(context.Context, agent.Greeting) (agent.Greeting, error) {
		return greetingOf(calledBoot), nil
	}})
	address := listen(t, func(l net.Listener) { _ = s.Serve(l) }) // by mistake
	t.Cleanup(func() { _ = s.Close() })
	c := connected(t, identity(callerBoot))
	if _, err := c.Ping(soon(t), address, greetingOf(callerBoot)); err == nil {
		t.Error("it answered in the clear")
	}
}

func TestAServerWithoutTLSIsNamed(t *testing.T) {
	a := newAuthority(t, "ours")
	c := NewClient(mutual(t, a, a), identity(callerBoot))
	defer c.Close()
	for what, address := range map[string]string{
		"an agent": start(t, &fake{own: identity(calledBoot)}),
		"HTTP/1.1": run(t, &http.Server{Handler: http.NotFoundHandler()}),
	} {
		_, err := c.Ping(soon(t), address, greetingOf(callerBoot))
		if err == nil || !strings.Contains(err.Error(), "TLS") && !strings.Contains(err.Error(), "tls") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTLSInOneDirectionOnlyIsAMistake(t *testing.T) {
	a := newAuthority(t, "ours")
	cfg := mutual(t, a, a)
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	cfg.ClientTLS = nil
	if cfg.Validate() == nil {
		t.Error("accepted")
	}
}
