package rpc

import (
	"context"
	"errors"
	"io"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// boundary surrounds every call: it refuses what the codecs couldn't read, turns errors into codes, once, and
// writes the access log.
type boundary struct{ *edge }

var _ connect.Interceptor = (*boundary)(nil)

// WrapUnary implements connect.Interceptor.
func (b *boundary) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		started := time.Now()
		err := unreadable(request.Any())
		var response connect.AnyResponse
		if err == nil {
			response, err = b.call(ctx, request, next)
		}
		if err != nil {
			err = b.fail(err)
		}
		b.log(ctx, request.Spec(), request.Peer(), started, err)
		return response, err
	}
}

// What a call may take once its request is read. Without these it would wait as long as its client does, e.g. for a table that is
// away. What the engine says then is the answer: unavailable where nothing was written, else that the outcome is unknown.
const (
	produceTime = 40 * time.Second // the engine answers by itself what is undecided 30 s after it found room
	fetchMargin = 15 * time.Second // behind max_wait: for a current read of the table and GETs of the blocks
	// heartbeatMargin behind max_wait: the engine looks for the group's leader for 10 s, and names may want a current read.
	heartbeatMargin = 15 * time.Second
	// pullMargin behind max_wait: the engine looks for the leaders of partitions for 10 s, and reads.
	pullMargin = 15 * time.Second
	// redriveTime is 10 s in which dead letters arrive, behind the appends that begin their way.
	redriveTime = 40 * time.Second
	callTime    = 30 * time.Second // of all others: a change waits for an append, which has a new leader within 10 s
)

// call runs the call within its time, holding of its request what outlives the decoding.
func (b *boundary) call(ctx context.Context, request connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error) {
	claim, limit := b.claimOf(ctx), callTime
	switch r := request.Any().(type) {
	case *v1.ProduceRequest:
		claim.keep(claim.decoded)
		limit = produceTime
	case *v1.FetchRequest:
		claim.release()
		limit = min(max(r.GetMaxWait().AsDuration(), 0), fetchWaitMax) + fetchMargin
	case *v1.HeartbeatRequest:
		claim.keep(claim.decoded)
		limit = min(max(r.GetMaxWait().AsDuration(), 0), heartbeatWaitMax) + heartbeatMargin
	case *v1.PullRequest:
		claim.release()
		limit = min(max(r.GetMaxWait().AsDuration(), 0), pullWaitMax) + pullMargin
	case *v1.RedriveDeadLettersRequest:
		claim.keep(claim.decoded)
		limit = redriveTime
	case *v1.CommitOffsetsRequest, *v1.AcknowledgeRequest, *v1.SendDeadLetterRequest, *v1.DiscardDeadLettersRequest:
		claim.keep(claim.decoded)
	default:
		claim.release()
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return next(ctx, request)
}

// WrapStreamingHandler implements connect.Interceptor.
func (b *boundary) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		started := time.Now()
		err := next(ctx, readableConn{conn, b.edge, b.claimOf(ctx)})
		if err != nil {
			err = b.fail(err)
		}
		b.log(ctx, conn.Spec(), conn.Peer(), started, err)
		return err
	}
}

// WrapStreamingClient implements connect.Interceptor; there is no client here.
func (b *boundary) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (b *boundary) log(ctx context.Context, spec connect.Spec, peer connect.Peer, started time.Time, err error) {
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	b.cfg.Logger.DebugContext(ctx, "rpc", "procedure", spec.Procedure, "protocol", peer.Protocol, "peer", peer.Addr,
		"code", code, "duration", time.Since(started))
}

// readableConn refuses messages that the codecs couldn't read.
type readableConn struct {
	connect.StreamingHandlerConn
	edge  *edge
	claim *claim
}

func (c readableConn) Receive(message any) error {
	err := c.StreamingHandlerConn.Receive(message)
	if err == nil {
		err = unreadable(message)
	}
	if c.Spec().StreamType != connect.StreamTypeBidi {
		c.claim.release()
	}
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return c.edge.fail(err)
}

// unreadable is the reason why a codec couldn't read the message, if it couldn't.
func unreadable(message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return nil
	}
	return refusedBy(m)
}
