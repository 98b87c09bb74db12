// Package client is the Go SDK of Splashdam: a Producer that packs records into batches and sends each exactly once, a
// Consumer that reads partitions without skipping, chosen or shared with the other members of a group, a Queue that hands out single records, dead letters,
// and the administration of topics and groups.
//
// Every outcome is one of three: done, definitely not done, or unknown (ErrUnknownOutcome). An unknown outcome is never
// reported as a definite failure.
package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

// The words of the log, under the names that users of this package import.
type (
	// Offset numbers the records of one partition, from 0, without gaps.
	Offset = objectlog.Offset
	// Partition numbers the partitions of a topic, from 0.
	Partition = objectlog.Partition
	// Header is a name and value beside a record. Names may repeat; a nil value is null.
	Header = objectlog.Header
)

// Record is one record, to be produced or as consumed.
type Record struct {
	Topic     string
	Partition Partition // consumed; when producing read by Manual only
	Offset    Offset    // consumed; ignored when producing
	Key       []byte    // nil: no key
	Value     []byte    // nil: a tombstone
	Headers   []Header
	Timestamp time.Time // kept to the millisecond; zero when producing: now
}

// Client holds the connections to one cluster. Its methods may be called together.
type Client struct {
	cfg       Config
	transport *transport
	log       splashdamv1connect.LogServiceClient
	topics    splashdamv1connect.TopicServiceClient
	cluster   splashdamv1connect.ClusterServiceClient
	groups    splashdamv1connect.GroupServiceClient
	queues    splashdamv1connect.QueueServiceClient

	deadLetters splashdamv1connect.DeadLetterServiceClient
}

// New makes a client. It opens no connection; the first call does.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("new client: %w", err)
	}
	t := newTransport(cfg)
	hc := &http.Client{Transport: t, CheckRedirect: noRedirect}
	opts := []connect.ClientOption{
		connect.WithReadMaxBytes(responseBytesMax),
		// Record batches are compressed already; gzip around them costs time on both sides and saves nothing.
		connect.WithAcceptCompression("gzip", nil, nil),
	}
	return &Client{
		cfg:       cfg,
		transport: t,
		log:       splashdamv1connect.NewLogServiceClient(hc, t.base(), opts...),
		topics:    splashdamv1connect.NewTopicServiceClient(hc, t.base(), opts...),
		cluster:   splashdamv1connect.NewClusterServiceClient(hc, t.base(), opts...),
		groups:    splashdamv1connect.NewGroupServiceClient(hc, t.base(), opts...),
		queues:    splashdamv1connect.NewQueueServiceClient(hc, t.base(), opts...),

		deadLetters: splashdamv1connect.NewDeadLetterServiceClient(hc, t.base(), opts...),
	}, nil
}

// Close drops the idle connections. Close producers and consumers first.
func (c *Client) Close() { c.transport.closeIdle() }

// responseBytesMax bounds what an answer may hold: the largest fetch that the contract allows, and room around it.
const responseBytesMax = 80 << 20

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// read makes a call without side effects; it is repeated, within one request timeout, while that can help.
func read[Req, Res any](ctx context.Context, c *Client, op string, fn func(context.Context, *Req) (*Res, error), req *Req) (*Res, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		res, err := fn(ctx, req)
		if err == nil {
			return res, nil
		}
		e := c.heed(errorOf(op, err))
		if !e.Retriable || pause(ctx, c.cfg.delayAfter(attempt, e)) != nil {
			return nil, e
		}
	}
}

// change makes a call with side effects; it is repeated only while nothing was done: the agent says so, or there was no
// connection. Any other error that is not an agent's definite word leaves the outcome unknown.
func change[Req, Res any](ctx context.Context, c *Client, op string, fn func(context.Context, *Req) (*Res, error), req *Req) (*Res, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		if err := ctx.Err(); err != nil && attempt == 0 {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		res, err := fn(ctx, req)
		if err == nil {
			return res, nil
		}
		e := c.heed(errorOf(op, err))
		if !e.definite && !neverSent(err) {
			return nil, unknownOutcome(op, e)
		}
		if !e.Retriable || pause(ctx, c.cfg.delayAfter(attempt, e)) != nil {
			return nil, e
		}
	}
}

// neverSent says that there was no connection on which the request could have gone.
func neverSent(err error) bool {
	var failed *net.OpError
	return errors.As(err, &failed) && failed.Op == "dial"
}

// delay is the wait before the next attempt: exponential with full jitter, never shorter than what the agent asked for.
func (c Config) delay(attempt int, retryAfter time.Duration) time.Duration {
	top := min(c.RetryDelayMin<<min(attempt, 20), c.RetryDelayMax)
	d := c.RetryDelayMin/2 + rand.N(top)
	return max(min(d, c.RetryDelayMax), retryAfter)
}

// delayAfter is the wait behind an error. An agent that is about to stop sends the client to another one, which need not be waited for.
func (c Config) delayAfter(attempt int, e *Error) time.Duration {
	if attempt == 0 && e.Reason == reasonDraining {
		return 0
	}
	return c.delay(attempt, e.RetryAfter)
}

// pause waits for d or the end of ctx. Where ctx would end first it does not wait at all.
func pause(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return context.DeadlineExceeded
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ErrClosed is answered by a producer or consumer after its Close.
var ErrClosed = errors.New("closed")

// signal wakes one waiter; a second wake before the first is taken is the same wake.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) wake() {
	select {
	case s <- struct{}{}:
	default:
	}
}
