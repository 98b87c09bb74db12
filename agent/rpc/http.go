package rpc

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/proto/grpc/health/v1/healthv1connect"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

// around is what every request passes, whatever its protocol.
func (e *edge) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if e.cors(w, r) {
			return
		}
		control := http.NewResponseController(w)
		deadline := time.Time{}
		if !streams(r) {
			// A unary call is over by then, whoever is slow. A stream's sends have a deadline each.
			deadline = time.Now().Add(e.cfg.RequestTimeout)
			r.Body = &boundedBody{ReadCloser: r.Body, edge: e, left: int64(e.cfg.RequestBytesMax + envelopeBytes(r))}
		}
		// Errors: the server's own connections support deadlines; for others there is nobody to protect.
		_ = control.SetReadDeadline(deadline)
		_ = control.SetWriteDeadline(deadline)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), controlKey{}, control)))
	})
}

// streams says whether the request is one of those that may last.
func streams(r *http.Request) bool {
	switch path := r.URL.Path; path {
	case splashdamv1connect.LogServiceProduceStreamProcedure, splashdamv1connect.LogServiceTailProcedure, healthv1connect.HealthWatchProcedure:
		return true
	default:
		return strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/grpc.reflection.")
	}
}

// envelopeBytes is what gRPC puts before a message.
func envelopeBytes(r *http.Request) int {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		return 5
	}
	return 0
}

// boundedBody refuses a body that is too long with everything an error must carry.
type boundedBody struct {
	io.ReadCloser
	edge *edge
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		message := fmt.Sprintf("read request: larger than %d bytes: send fewer records at once", b.edge.cfg.RequestBytesMax)
		return 0, b.edge.fail(refusal{message, objectlog.ErrTooLarge})
	}
	return n, err
}

type controlKey struct{}

// interruptRead makes reads of the request's body fail from now on.
func interruptRead(ctx context.Context) {
	if control, ok := ctx.Value(controlKey{}).(*http.ResponseController); ok {
		_ = control.SetReadDeadline(time.Now())
	}
}

// sendWithin runs one send of a stream under a deadline, so that a client that stopped reading doesn't keep it for ever.
func (e *edge) sendWithin(ctx context.Context, send func() error) error {
	control, ok := ctx.Value(controlKey{}).(*http.ResponseController)
	if ok {
		_ = control.SetWriteDeadline(time.Now().Add(e.send))
	}
	err := send()
	if ok && err == nil {
		_ = control.SetWriteDeadline(time.Time{})
	}
	return err
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

func (e *edge) readyz(w http.ResponseWriter, r *http.Request) {
	if err := e.engine.Ready(); err != nil {
		http.Error(w, e.detail(err).Message, http.StatusServiceUnavailable)
		return
	}
	livez(w, r)
}

func livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n")
}

// failHTTP answers an error outside of any RPC protocol as Connect's JSON.
func (e *edge) failHTTP(w http.ResponseWriter, r *http.Request, err error) {
	_ = connect.NewErrorWriter().Write(w, r, e.fail(err))
}
