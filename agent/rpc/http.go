package rpc

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/proto/grpc/health/v1/healthv1connect"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

// readyHeader, with the value "false", is in every answer, good or bad, of an agent that is not ready; one that is ready does not send it. A client
// that came by the agent's own address leaves it then, for one that a load balancer or GetCluster names: it may miss what others have
// committed since.
const readyHeader = "Splashdam-Ready"

// around is what every request passes, whatever its protocol.
func (e *edge) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if e.unready() {
			w.Header().Set("Connection", "close") // over HTTP/2 a GOAWAY: what is under way is answered, what comes next goes elsewhere
			w.Header().Set(readyHeader, "false")  // for clients that would come back here, past every load balancer
		}
		if e.cors(w, r) {
			return
		}
		control := &control{ResponseController: http.NewResponseController(w)}
		if !streams(r) {
			// A unary call is over by then, whoever is slow. A stream's sends have a deadline each.
			control.ends = time.Now().Add(e.cfg.RequestTimeout)
		}
		// Errors: the server's own connections support deadlines; for others there is nobody to protect.
		_ = control.SetWriteDeadline(control.ends)
		claim := e.memory.claim()
		defer claim.release()
		// A copy of the request: the server must find its own body in its own, or takes the rest of one that was refused
		// for the connection's next request.
		r = r.WithContext(context.WithValue(context.WithValue(r.Context(), controlKey{}, control), claimKey{}, claim))
		switch {
		case r.Method == http.MethodPost && !strings.HasPrefix(r.URL.Path, reflectionPrefix):
			r.Body = e.newBody(r, control, claim)
		case r.Method == http.MethodGet && inputOf(r.URL.Path) != nil:
			control.readWithin(0)
			if err := e.readGet(r, control, claim); err != nil {
				e.failHTTP(w, r, err)
				return
			}
		default:
			control.readWithin(0)
		}
		next.ServeHTTP(w, r)
	})
}

// readyEvery is how often requests find out whether the agent is ready.
const readyEvery = 100 * time.Millisecond

// readiness is what the engine said last.
type readiness struct {
	asked   atomic.Int64 // nanoseconds of the wall clock
	unready atomic.Bool
}

// unready says whether clients should rather be at another agent. A load balancer learns it from /readyz, but leaves a connection that
// exists where it is.
func (e *edge) unready() bool {
	now, asked := time.Now().UnixNano(), e.readiness.asked.Load()
	if (now-asked > int64(readyEvery) || now < asked) && e.readiness.asked.CompareAndSwap(asked, now) {
		e.readiness.unready.Store(e.engine.Ready() != nil)
	}
	return e.readiness.unready.Load()
}

const reflectionPrefix = "/grpc.reflection."

// streams says whether the request is one of those that may last.
func streams(r *http.Request) bool {
	switch path := r.URL.Path; path {
	case splashdamv1connect.LogServiceProduceStreamProcedure, splashdamv1connect.LogServiceTailProcedure, healthv1connect.HealthWatchProcedure:
		return true
	default:
		return strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, reflectionPrefix)
	}
}

// control sets the deadlines of one request's connection or stream.
type control struct {
	*http.ResponseController
	ends time.Time // of the whole call; zero: a stream

	mu          sync.Mutex
	interrupted bool
}

// readWithin makes reads fail after d, or at the end of the call; 0: then only.
func (c *control) readWithin(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted {
		return
	}
	deadline := c.ends
	if by := time.Now().Add(d); d > 0 && (c.ends.IsZero() || by.Before(c.ends)) {
		deadline = by
	}
	_ = c.SetReadDeadline(deadline)
}

// interrupt makes reads fail from now on.
func (c *control) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupted = true
	_ = c.SetReadDeadline(time.Now())
}

type controlKey struct{}

// interruptRead makes reads of the request's body fail from now on.
func interruptRead(ctx context.Context) {
	if control, ok := ctx.Value(controlKey{}).(*control); ok {
		control.interrupt()
	}
}

// takenAtLeast is how many bytes of a large answer a client must take in a second.
const takenAtLeast = 128 << 10

// sendWithin runs one send of a stream, of about size bytes, under a deadline, so that a client that stopped reading doesn't keep it for
// ever.
func (e *edge) sendWithin(ctx context.Context, size int64, send func() error) error {
	control, ok := ctx.Value(controlKey{}).(*control)
	if ok {
		control.writeWithin(e.timeFor(size))
	}
	err := send()
	if ok && err == nil {
		_ = control.SetWriteDeadline(time.Time{})
	}
	return err
}

// timeFor is how long a client may take for size bytes of answer.
func (e *edge) timeFor(size int64) time.Duration {
	return e.send + time.Duration(size)*time.Second/time.Duration(e.taken)
}

// writeWithin makes writes fail after d, or at the end of the call.
func (c *control) writeWithin(d time.Duration) {
	deadline := time.Now().Add(d)
	if !c.ends.IsZero() && c.ends.Before(deadline) {
		deadline = c.ends
	}
	_ = c.SetWriteDeadline(deadline)
}

// cors answers a browser's question whether it may call, and marks answers that it may read. True: nothing is left to do.
func (e *edge) cors(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || len(e.cfg.AllowedOrigins) == 0 {
		return false
	}
	w.Header().Add("Vary", "Origin")
	if !slices.Contains(e.cfg.AllowedOrigins, origin) && !slices.Contains(e.cfg.AllowedOrigins, "*") {
		return false
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	w.Header().Set("Access-Control-Expose-Headers", "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, Connect-Content-Encoding")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
	w.Header().Set("Access-Control-Allow-Headers", "Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms, Connect-Content-Encoding, Connect-Accept-Encoding, Grpc-Timeout, X-Grpc-Web, X-User-Agent, Authorization")
	w.Header().Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// readyz says whether the agent should get requests now; the body says why not, in one line.
func (e *edge) readyz(w http.ResponseWriter, r *http.Request) {
	if err := e.engine.Ready(); err != nil {
		http.Error(w, oneLine(e.detail(err).Message), http.StatusServiceUnavailable)
		return
	}
	livez(w, r)
}

// oneLine is a text of several problems in one line.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// livez says that a restart would not help, which holds while this process answers at all: a store that is away comes back by itself, and a
// shard that halted on damage would halt again.
func livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n")
}

// failHTTP answers an error outside of any RPC protocol as Connect's JSON.
func (e *edge) failHTTP(w http.ResponseWriter, r *http.Request, err error) {
	_ = connect.NewErrorWriter().Write(w, r, e.fail(err))
}
