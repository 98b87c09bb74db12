package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/agent/peer"
)

// peers is what this process has to do with other agents.
type peers struct {
	listener net.Listener
	cfg      peer.Config
	client   *peer.Client // set by dial
	server   *http.Server // set by serve
	failed   chan<- error // set by serve; has room for peerFailures of them

	work     sync.WaitGroup     // what serve and check began
	endCheck context.CancelFunc // set by check
}

// peerFailures is how many errors are sent to failed at most: one by serve, one by check.
const peerFailures = 2

// listenToPeers takes the port for other agents, and reads the certificates for them.
func (c Config) listenToPeers() (*peers, error) {
	cfg, err := c.peerTLS(time.Now())
	if err != nil {
		return nil, err
	}
	l, err := listen(c.PeerListen, "--peer-listen")
	if err != nil {
		return nil, err
	}
	return &peers{listener: l, cfg: cfg}, nil
}

// dial makes the client that the engine calls other agents with.
func (p *peers) dial(own agent.Identity) agent.Peers {
	p.client = peer.NewClient(p.cfg, own)
	return p.client
}

// serve answers other agents until stop. What goes wrong is sent to failed, which nobody needs to read.
func (p *peers) serve(engine *agent.Agent, failed chan<- error) {
	p.server, p.failed = peer.NewServer(p.cfg, engine), failed
	serve := p.server.Serve
	if p.cfg.ServerTLS != nil {
		serve = func(l net.Listener) error { return p.server.ServeTLS(l, "", "") }
	}
	p.work.Go(func() {
		failed <- &terminalError{op: "serve other agents", object: p.listener.Addr().String(), cause: serve(p.listener)}
	})
}

// peerGoodbye is for answers that are on their way when the engine has ended.
const peerGoodbye = time.Second

// stop ends both sides, and waits for what serve and check began. The engine has ended by now: other agents' proposals are answered.
func (p *peers) stop() {
	defer p.work.Wait()
	if p.endCheck != nil {
		p.endCheck()
	}
	ctx, cancel := context.WithTimeout(context.Background(), peerGoodbye)
	defer cancel()
	if p.server != nil {
		if err := p.server.Shutdown(ctx); err != nil {
			p.server.Close()
		}
	}
	if p.client != nil {
		p.client.Close()
	}
	p.listener.Close()
}

// peerTLSFiles answers which of the settings of mutual TLS are set.
func (c Config) peerTLSFiles() (given []string) {
	for _, f := range []struct{ name, value string }{{"peer-tls-cert", c.PeerTLSCert}, {"peer-tls-key", c.PeerTLSKey}, {"peer-tls-ca", c.PeerTLSCA}} {
		if f.value != "" {
			given = append(given, f.name)
		}
	}
	return given
}

// peerTLS reads the certificates for other agents. What other agents would refuse is refused here, where it can be said why.
func (c Config) peerTLS(now time.Time) (peer.Config, error) {
	if len(c.peerTLSFiles()) == 0 {
		return peer.Config{}, nil
	}
	authorities, err := os.ReadFile(c.PeerTLSCA)
	if err != nil {
		return peer.Config{}, usageError("setting peer-tls-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return peer.Config{}, usageError("setting peer-tls-ca: %s: no certificate in it (want PEM)", c.PeerTLSCA)
	}
	own, err := tls.LoadX509KeyPair(c.PeerTLSCert, c.PeerTLSKey)
	if err != nil {
		return peer.Config{}, usageError("settings peer-tls-cert, peer-tls-key: %w", err)
	}
	if err := c.checkPeerCertificate(own, pool, now); err != nil {
		return peer.Config{}, usageError("setting peer-tls-cert: %s: %w", c.PeerTLSCert, err)
	}
	return peer.Config{
		ServerTLS: &tls.Config{Certificates: []tls.Certificate{own}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13},
		ClientTLS: &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: pool, MinVersion: tls.VersionTLS13},
	}, nil
}

// checkPeerCertificate looks at the own certificate with the eyes of another agent, which meets it as a client and as a server.
func (c Config) checkPeerCertificate(own tls.Certificate, authorities *x509.CertPool, now time.Time) error {
	between := x509.NewCertPool()
	for _, der := range own.Certificate[1:] {
		if more, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(more)
		}
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := own.Leaf.Verify(x509.VerifyOptions{Roots: authorities, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}})
		if err != nil {
			return fmt.Errorf("other agents will not accept it: %w", err)
		}
	}
	host, _, err := net.SplitHostPort(c.AdvertisePeer)
	if err != nil {
		return nil // not set: the address is not known yet
	}
	if err := own.Leaf.VerifyHostname(host); err != nil {
		return fmt.Errorf("other agents will not accept it for --advertise-peer: %w", err)
	}
	return nil
}

// checkEvery lies between tries of an own address that can't be reached.
const checkEvery = 2 * time.Second

// check tries the own address for other agents. One where nobody answers may be that of an agent that is just being started again: until this
// agent is found there, it goes on looking until ctx ends or stop, and sends to failed what is refused at the start. It is called once.
func (p *peers) check(ctx context.Context, engine *agent.Agent) error {
	err := engine.CheckPeerAddress(ctx)
	if err == nil || errors.Is(err, agent.ErrStranger) {
		return refusedAddress("start agent", err)
	}
	slog.Warn("other agents may not reach this one", "err", err)
	ctx, p.endCheck = context.WithCancel(ctx)
	p.work.Go(func() {
		tick := time.NewTicker(checkEvery)
		defer tick.Stop()
		for err != nil && !errors.Is(err, agent.ErrStranger) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			err = engine.CheckPeerAddress(ctx)
		}
		if err != nil {
			p.failed <- refusedAddress("run agent", err)
		}
	})
	return nil
}

// refusedAddress is the error of an address that leads to another agent; nil stays nil.
func refusedAddress(op string, err error) error {
	if err == nil {
		return nil
	}
	return &terminalError{op: op, cause: err, hint: "give each agent an --advertise-peer of its own"}
}

// usesPeers says whether other agents can be in the cluster: an embedded table serves one process.
func (c Config) usesPeers() bool { return !strings.HasPrefix(c.Table, "bolt://") }
