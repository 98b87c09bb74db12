package peer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
)

// The headers by which agents know each other. Calls bear all four, answers all but the secret.
const (
	clusterHeader = "Splashdam-Cluster"
	formatHeader  = "Splashdam-Format"
	bootHeader    = "Splashdam-Boot"
	secretHeader  = "Authorization"
	secretScheme  = "Bearer "
)

// show writes who calls or answers.
func show(h http.Header, own agent.Identity) {
	h.Set(clusterHeader, own.Cluster.String())
	h.Set(formatHeader, strconv.Itoa(own.FormatLevel))
	h.Set(bootHeader, own.Boot.String())
}

// told is what the headers of a call or an answer say, all but the secret.
type told struct {
	cluster, boot objectlog.UUID
	format        int
}

// identified reads what show wrote.
func identified(h http.Header) (told, error) {
	cluster, clusterErr := objectlog.ParseUUID(h.Get(clusterHeader))
	format, formatErr := strconv.Atoi(h.Get(formatHeader))
	boot, bootErr := objectlog.ParseUUID(h.Get(bootHeader))
	return told{cluster: cluster, format: format, boot: boot}, errors.Join(clusterErr, formatErr, bootErr)
}

// admit lets those calls through that come from an agent of this cluster, of this format level and with this secret, before anything of
// their body is read. All others are told by name what is wrong with them.
func (s *server) admit(next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter(options())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own := s.engine.Identity()
		show(w.Header(), own)
		from, code, err := recognize(r.Header, own)
		if err != nil {
			_ = refuse.Write(w, r, refused(code, err))
			return
		}
		control := http.NewResponseController(w)
		// Errors: HTTP/2 streams support deadlines, and nothing else is served.
		_ = control.SetWriteDeadline(time.Now().Add(s.patience.answer))
		c := &caller{boot: from.boot, control: control}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	})
}

// recognize judges the headers of a call.
func recognize(h http.Header, own agent.Identity) (told, connect.Code, error) {
	cluster := h.Get(clusterHeader)
	from, err := identified(h)
	switch {
	case from.cluster != own.Cluster || from.cluster.IsZero():
		err = fmt.Errorf("this agent belongs to cluster %s, the call comes from cluster %s", own.Cluster, named(cluster))
	case from.format != own.FormatLevel:
		err = fmt.Errorf("format level %d here, %s there: upgrade the agents of the lower one", own.FormatLevel, named(h.Get(formatHeader)))
	case err != nil || from.boot.IsZero():
		err = fmt.Errorf("the call comes from boot %s", named(h.Get(bootHeader)))
	case own.Secret == "":
		return from, connect.CodeUnauthenticated, errors.New("this agent has no secret, so it knows nobody")
	case !secretIs(h.Get(secretHeader), own.Secret):
		return from, connect.CodeUnauthenticated, errors.New("wrong secret")
	default:
		return from, 0, nil
	}
	return from, connect.CodeFailedPrecondition, err
}

// secretIs compares in a time that tells neither content nor length.
func secretIs(header, secret string) bool {
	got, ok := strings.CutPrefix(header, secretScheme)
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(secret))
	return ok && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// named is what a header said, for people.
func named(header string) string {
	const charactersMax = 64
	switch {
	case header == "":
		return "(none)"
	case len(header) > charactersMax:
		return strconv.Quote(header[:charactersMax]) + "..."
	case strings.ContainsFunc(header, func(r rune) bool { return r <= ' ' || r > '~' }):
		return strconv.Quote(header)
	}
	return header
}

// caller is who makes the call of a context, and the control of its answer.
type caller struct {
	boot    objectlog.UUID
	control *http.ResponseController
}

type callerKey struct{}

func callerOf(ctx context.Context) *caller { return ctx.Value(callerKey{}).(*caller) }

// meant refuses what is meant for another boot at this address.
func (s *server) meant(to []byte) error {
	if own := s.engine.Identity().Boot; string(to) != string(own[:]) {
		boot, err := uuidOf("to", to)
		if err != nil {
			return err
		}
		return stranger{fmt.Errorf("this address is boot %s now, not %s", own, boot)}
	}
	return nil
}

// check judges an answer that says that all went well. (One that refuses the call says itself why.)
func (t told) check(own agent.Identity, meant objectlog.UUID) error {
	switch {
	case t.cluster != own.Cluster:
		return stranger{fmt.Errorf("that agent belongs to cluster %s, this one to cluster %s", t.cluster, own.Cluster)}
	case t.format != own.FormatLevel:
		return stranger{fmt.Errorf("format level %d here, %d there: upgrade the agents of the lower one", own.FormatLevel, t.format)}
	case t.boot != meant && !meant.IsZero():
		return stranger{fmt.Errorf("that agent is boot %s now, not %s", t.boot, meant)}
	}
	return nil
}

// stranger is an ErrStranger whose sentence says all of it.
type stranger struct{ error }

func (stranger) Is(target error) bool { return target == agent.ErrStranger }
