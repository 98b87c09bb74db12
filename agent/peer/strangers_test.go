package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// h2c serves the handler over HTTP/2 without TLS, as agents do.
func h2c(t testing.TB, h http.HandlerFunc) string {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return run(t, &http.Server{Handler: h, Protocols: &protocols})
}

// disguised answers with the headers of the agent that was meant, and a body of the type that fits the call.
func disguised(body func(w http.ResponseWriter, r *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		show(w.Header(), identity(calledBoot))
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		body(w, r)
	}
}

// accept answers every connection with f.
func accept(t testing.TB, f func(net.Conn)) string {
	return listen(t, func(l net.Listener) {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f(conn)
			_ = conn.Close()
		}
	})
}

func TestWhatIsNoAgentIsNamedAndNeverASuccess(t *testing.T) {
	certificate := newAuthority(t, "ours").issue(t, "127.0.0.1")
	garbage := strings.Repeat("\xff\x00garbage", 100)
	for what, c := range map[string]struct {
		address string
		found   string
	}{
		"a login page": {h2c(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = fmt.Fprint(w, "<html>Who are you?</html>")
		}), "text/html with status 200"},
		"a redirect": {h2c(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/login", http.StatusFound)
		}), "status 302"},
		"nothing at that path": {h2c(t, http.NotFound), "status 404"},
		"a gateway whose agent is gone": {h2c(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
		}), "status 502"},
		"headers that name nobody": {h2c(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(clusterHeader, "everybody")
			w.Header().Set(formatHeader, "1")
			w.Header().Set(bootHeader, uuid(calledBoot).String())
		}), "not a Splashdam agent"},
		"garbage": {h2c(t, disguised(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, garbage) })), ""},
		"garbage of a refusal": {h2c(t, disguised(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusPreconditionFailed)
			_, _ = io.WriteString(w, `{"code":"failed_precondition","details":[{"type":"splashdam.peer.v1.Refusal","value":"////"}]}`)
		})), ""},
		"a page in the middle of a stream": {h2c(t, disguised(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>")
		})), ""},
		"half a message": {h2c(t, disguised(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "\x00\x00\x00\x03\xe8half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})), ""},
		"half a message and a good end": {h2c(t, disguised(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "\x0a\x12\x0a")
		})), ""},
		"a server of HTTP/1.1": {run(t, &http.Server{Handler: http.NotFoundHandler()}), "HTTP/1.1"},
		"a server with TLS": {run(t, &http.Server{Handler: http.NotFoundHandler(), ErrorLog: quiet(),
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}), "TLS on one side only"},
		"a server that only accepts and closes": {accept(t, func(net.Conn) {}), ""},
		"a server of another kind":              {accept(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.example ESMTP\r\n"+garbage) }), ""},
	} {
		t.Run(what, func(t *testing.T) {
			for call, err := range everyCall(soon(t), connected(t, identity(callerBoot)), called(c.address)) {
				switch {
				case call == "HandOff" && strings.HasPrefix(what, "half a message and"):
					// Its answer has no content: nothing is missing in half of it.
				case err == nil:
					t.Errorf("%s: taken for a success", call)
				case !strings.Contains(err.Error(), c.address) || !strings.Contains(err.Error(), c.found):
					t.Errorf("%s: %v: want the address and %q", call, err, c.found)
				case errors.Is(err, agent.ErrRefused), errors.Is(err, agent.ErrStranger):
					t.Errorf("%s: %v: as if nothing had been done for sure", call, err)
				case call == "Propose" && !errors.Is(err, shardlog.ErrUnknown):
					t.Errorf("%s: %v: want unknown", call, err)
				default:
					t.Logf("%s: %v", call, err)
				}
			}
		})
	}
}

// An answer of nothing is a valid message of protobuf.
func TestAnEmptyMessageIsNoAnswer(t *testing.T) {
	address := h2c(t, disguised(func(http.ResponseWriter, *http.Request) {}))
	for call, err := range everyCall(soon(t), connected(t, identity(callerBoot)), called(address)) {
		if err == nil && call != "HandOff" {
			t.Errorf("%s: taken for a success", call)
		}
	}
}

func TestAnAgentThatNeverAnswersIsGivenUp(t *testing.T) {
	address := h2c(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(soon(t), 200*time.Millisecond)
	defer cancel()
	for call, err := range everyCall(ctx, connected(t, identity(callerBoot)), called(address)) {
		if err == nil || errors.Is(err, agent.ErrRefused) || errors.Is(err, agent.ErrStranger) || call == "Propose" && !errors.Is(err, shardlog.ErrUnknown) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

func TestAnAnswerWithoutEndIsGivenUp(t *testing.T) {
	zeros := make([]byte, 64<<10)
	address := h2c(t, disguised(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "\x00\x7f\xff\xff\xff")
		for r.Context().Err() == nil {
			if _, err := w.Write(zeros); err != nil {
				return
			}
		}
	}))
	ctx, cancel := context.WithTimeout(soon(t), 500*time.Millisecond)
	defer cancel()
	for call, err := range everyCall(ctx, connected(t, identity(callerBoot)), called(address)) {
		if err == nil || call == "Propose" && !errors.Is(err, shardlog.ErrUnknown) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

func TestACallBeyondItsLimitIsRefused(t *testing.T) {
	address := start(t, &fake{own: identity(calledBoot)})
	g := greetingOf(callerBoot)
	g.Problem = strings.Repeat("x", smallBytesMax)
	_, err := connected(t, identity(callerBoot)).Ping(soon(t), address, g)
	if err == nil || !strings.Contains(err.Error(), "larger than configured max") {
		t.Error(err)
	}
}

// A caller with the secret that sends its request byte by byte does not keep the call for ever.
func TestACallThatNeverArrivesIsGivenUp(t *testing.T) {
	s := newServer(Config{}, &fake{own: identity(calledBoot)}, patience{request: 100 * time.Millisecond, answer: time.Minute, message: time.Minute})
	address := run(t, s)
	body, write := io.Pipe()
	defer write.Close()
	r, err := http.NewRequestWithContext(soon(t), http.MethodPost, "http://"+address+"/splashdam.peer.v1.PeerService/Propose", body)
	if err != nil {
		t.Fatal(err)
	}
	own := identity(callerBoot)
	show(r.Header, own)
	r.Header.Set(secretHeader, secretScheme+own.Secret)
	r.Header.Set("Content-Type", "application/proto")
	answer, err := connected(t, own).transport.RoundTrip(r)
	if err == nil {
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			t.Errorf("answered %s", answer.Status)
		}
	}
	if r.Context().Err() != nil {
		t.Error("the server waits for ever")
	}
}

// vanishing forwards connections to the address, and from gone on takes what comes and says nothing, as a machine does whose cable is cut.
func vanishing(t testing.TB, address string, gone *atomic.Bool) string {
	var forwards sync.WaitGroup
	forward := func(from, to net.Conn) {
		defer func() {
			_ = from.Close()
			_ = to.Close()
		}()
		b := make([]byte, 16<<10)
		for {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			if gone.Load() {
				continue
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
	}
	return listen(t, func(l net.Listener) {
		for {
			near, err := l.Accept()
			if err != nil {
				break
			}
			far, err := net.Dial("tcp", address)
			if err != nil {
				_ = near.Close()
				continue
			}
			forwards.Go(func() { forward(near, far) })
			forwards.Go(func() { forward(far, near) })
		}
		forwards.Wait()
	})
}

func TestAMachineGoneWithoutAWordIsNoticedInSeconds(t *testing.T) {
	var gone atomic.Bool
	address := vanishing(t, start(t, &fake{own: identity(calledBoot),
		propose: func(ctx context.Context, _ objectlog.Shard, _ []metadata.Command) (shardlog.Receipt, error) {
			gone.Store(true)
			<-ctx.Done()
			return shardlog.Receipt{}, ctx.Err()
		}}), &gone)
	began := time.Now()
	_, err := connected(t, identity(callerBoot)).Propose(soon(t), called(address), 0, oneCommand)
	if took := time.Since(began); !errors.Is(err, shardlog.ErrUnknown) || took > pingEvery+pingTimeout+2*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}
