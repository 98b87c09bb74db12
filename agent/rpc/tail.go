package rpc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// Tail implements LogService.
func (e *edge) Tail(ctx context.Context, r *v1.TailRequest, stream *connect.ServerStream[v1.TailResponse]) error {
	return e.tail(ctx, r, func(response *v1.TailResponse) error {
		return e.sendWithin(ctx, e.claimOf(ctx).held/answerCopies, func() error { return stream.Send(response) })
	})
}

// tail follows the partitions of r and hands each message to send, on the caller's goroutine. It ends on purpose,
// with resume offsets, at the age or when the agent drains; and when no partition is left to follow.
func (e *edge) tail(ctx context.Context, r *v1.TailRequest, send func(*v1.TailResponse) error) error {
	bytes, err := bytesMax("tail", r.GetMaxBytes())
	if err != nil {
		return err
	}
	if err := checkReads("tail", r.GetPartitions(), r.GetIsolation()); err != nil {
		return err
	}
	f := follower{edge: e, claim: e.claimOf(ctx), encoded: r.GetEncoded(), bytesMax: bytes, starts: make(map[place]agent.Start), known: make(map[string]int32)}
	first := &v1.TailResponse{}
	for i, p := range r.GetPartitions() {
		wanted, err := e.readable(ctx, ActionRead, "tail", i, p)
		if err == nil {
			err = f.add(i, wanted)
		}
		if err != nil {
			first.Partitions = append(first.Partitions, e.refusedPartition(p, err))
		}
	}
	// The first message leaves at once, even empty: it tells the client that the stream stands.
	if err := send(first); err != nil {
		return err
	}
	return f.run(ctx, send)
}

// place is a partition of a topic; with AnyPartition all of those that weren't found yet.
type place struct {
	topic     string
	partition objectlog.Partition
}

// follower is one Tail.
type follower struct {
	edge     *edge
	claim    *claim // of the message under way
	encoded  bool
	bytesMax int64
	starts   map[place]agent.Start // where each place goes on
	order    []place               // the keys of starts, in the order of the next read
	known    map[string]int32      // topics followed as a whole, with the number of their partitions that are known
}

// add takes one partition of the request in.
func (f *follower) add(i int, p agent.FetchPartition) error {
	at := place{p.Topic, p.Partition}
	_, whole := f.known[p.Topic]
	_, twice := f.starts[at]
	if whole || twice || p.Partition == agent.AnyPartition && slices.ContainsFunc(f.order, func(o place) bool { return o.topic == p.Topic }) {
		return invalid("tail", fmt.Sprintf("partitions[%d]", i), "topic %s: a partition is named twice", p.Topic)
	}
	if p.Partition == agent.AnyPartition {
		f.known[p.Topic] = 0
	}
	f.set(at, p.Start)
	return nil
}

func (f *follower) set(at place, start agent.Start) {
	if _, ok := f.starts[at]; !ok {
		f.order = append(f.order, at)
	}
	f.starts[at] = start
}

func (f *follower) drop(at place) {
	if _, ok := f.starts[at]; ok {
		delete(f.starts, at)
		f.order = slices.DeleteFunc(f.order, func(o place) bool { return o == at })
	}
}

func (f *follower) run(ctx context.Context, send func(*v1.TailResponse) error) error {
	ends := time.Now().Add(f.edge.cfg.TailAge)
	for len(f.order) > 0 {
		response, retry := f.read(ctx, min(f.edge.heartbeat, time.Until(ends)))
		if err := ctx.Err(); err != nil {
			return err
		}
		over := !time.Now().Before(ends) || f.edge.draining()
		if over {
			response.Resume = f.resume()
		}
		// An empty message is the heartbeat.
		err := send(response)
		f.claim.release()
		if err != nil || over {
			return err
		}
		if len(response.Partitions) == 0 {
			f.grow(ctx)
		}
		if retry {
			if err := pause(ctx, f.edge.poll); err != nil {
				return err
			}
		}
	}
	return nil
}

// read makes one fetch and moves the places on. retry: a partition could not be read and is tried again, not at once.
func (f *follower) read(ctx context.Context, wait time.Duration) (response *v1.TailResponse, retry bool) {
	request := agent.FetchRequest{BytesMax: f.bytesMax, BytesMin: 1, Wait: max(wait, 0)}
	for _, at := range f.order {
		request.Partitions = append(request.Partitions, agent.FetchPartition{Topic: at.topic, Partition: at.partition, Start: f.starts[at]})
	}
	// Another one comes first in the next read, so that the bytes of one message never starve a partition.
	f.order = append(f.order[1:], f.order[0])

	response = &v1.TailResponse{}
	within, cancel := context.WithTimeout(ctx, request.Wait+fetchMargin)
	defer cancel()
	reads, err := f.edge.read(within, f.claim, request)
	if err != nil {
		return response, true // no memory: heartbeats go on
	}
	left := newBudget(fetchRecordsMax, storedBytes(reads), f.claim)
	found := make(map[string]bool) // topics whose partitions came instead of AnyPartition
	for _, read := range reads {
		at := place{read.Topic, read.Partition}
		if _, ok := f.known[at.topic]; ok && at.partition >= 0 {
			found[at.topic] = true
			f.known[at.topic] = max(f.known[at.topic], int32(at.partition)+1)
		}
		p := f.edge.fetched(read, f.encoded, left)
		if f.move(at, p) {
			retry = true
		}
		if p.Error != nil || len(p.Records) > 0 || len(p.Encoded) > 0 {
			response.Partitions = append(response.Partitions, p)
		}
	}
	for topic := range found {
		f.drop(place{topic, agent.AnyPartition})
	}
	return response, retry
}

// move sets the place to where p ended, or drops it when it can never be read on. retry: as in read.
func (f *follower) move(at place, p *v1.FetchResponse_Partition) (retry bool) {
	switch {
	case p.Error == nil:
		f.set(at, agent.Start{Kind: agent.StartOffset, Offset: objectlog.Offset(p.GetNextOffset())})
	case !p.Error.Retriable:
		f.drop(at)
	default:
		if _, ok := f.starts[at]; !ok {
			f.set(at, f.starts[place{at.topic, agent.AnyPartition}])
		}
		return true
	}
	return false
}

// grow takes in partitions that were added to topics followed as a whole, from their beginning.
func (f *follower) grow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	for name, known := range f.known {
		t, err := f.edge.engine.Topic(ctx, name)
		if err != nil || known == 0 {
			continue // the next read tells what is wrong, or finds the first ones
		}
		for p := known; p < t.Partitions; p++ {
			f.set(place{name, objectlog.Partition(p)}, agent.Start{Kind: agent.StartEarliest})
		}
		f.known[name] = max(known, t.Partitions)
	}
}

// resume is where a new stream goes on. Places that were never found have no offset to name.
func (f *follower) resume() []*v1.ResumeOffset {
	var offsets []*v1.ResumeOffset
	for at, start := range f.starts {
		if start.Kind == agent.StartOffset && at.partition >= 0 {
			offsets = append(offsets, &v1.ResumeOffset{Topic: at.topic, Partition: new(int32(at.partition)), NextOffset: new(int64(start.Offset))})
		}
	}
	slices.SortFunc(offsets, func(a, b *v1.ResumeOffset) int {
		return cmp.Or(cmp.Compare(a.GetTopic(), b.GetTopic()), cmp.Compare(a.GetPartition(), b.GetPartition()))
	})
	return offsets
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
