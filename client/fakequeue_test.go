package client_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/splashdam/splashdam/objectlog"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// queueBoard keeps the queues and dead letters of a fake. All is under fake.mu.
type queueBoard struct {
	queues map[fakeSpot]*fakeQueue // by group, topic and partition
	locks  map[string]*fakeLock    // by token
	drawn  int
	most   int // of locks at one time
	// queueFault says what happens to a call of Pull, Acknowledge or a DeadLetterService: none, cut, loseReply, unavailable or undecided; nil: none.
	queueFault func(call string) fault
	tokenFault func(token string) *splashdamv1.ErrorDetail // refuses single tokens; nil: none
	noExtend   bool                                        // every extension is refused, and its lock over
	pulls      []*splashdamv1.PullRequest
	acks       []*splashdamv1.AcknowledgeRequest

	letters []*splashdamv1.DeadLetter // by topic, in order; their record has the headers of a dead letter left out
	gone    map[*splashdamv1.DeadLetter]bool
	homes   map[*splashdamv1.DeadLetter]string // the dead-letter topic
	givenUp []*splashdamv1.SendDeadLetterRequest
}

type fakeSpot struct {
	group, topic string
	partition    int32
}

type fakeQueue struct {
	next    int64
	waiting []*fakeLock // to be handed out again
	accepts int
}

// fakeLock is a record of a queue that is not finished.
type fakeLock struct {
	fakeSpot
	record     *splashdamv1.FetchedRecord
	deliveries int32
	most       int32
	home       string // of its dead letter
	token      string // empty: not locked
	until      time.Time
	first      time.Time // failure
}

// begin lets a fault happen that comes before the work of a call. The lock is held.
func (f *fake) beginQueueCall(call string) (fault, *splashdamv1.ErrorDetail) {
	kind := none
	if f.queueFault != nil {
		kind = f.queueFault(call)
	}
	switch kind {
	case cut:
		panic(http.ErrAbortHandler)
	case unavailable:
		return kind, detail("unavailable", "NOT_LEADER_OR_FOLLOWER", 6, true)
	}
	return kind, nil
}

// end lets one happen that comes behind it.
func endQueueCall(kind fault) *splashdamv1.ErrorDetail {
	switch kind {
	case loseReply:
		panic(http.ErrAbortHandler)
	case undecided:
		return detail("deadline_exceeded", "REQUEST_TIMED_OUT", 7, true)
	}
	return nil
}

// queueCall does the work of a call, with its fault.
func queueCall[Res any](f *fake, call string, work func() (*Res, error)) (*Res, error) {
	if err := f.enter(call); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	kind, d := f.beginQueueCall(call)
	if d != nil {
		return nil, failure(codeOf(d), d)
	}
	res, err := work()
	f.wake()
	if d := endQueueCall(kind); d != nil {
		return nil, failure(codeOf(d), d)
	}
	return res, err
}

func (f *fake) Pull(ctx context.Context, req *splashdamv1.PullRequest) (*splashdamv1.PullResponse, error) {
	until := time.Now().Add(req.GetMaxWait().AsDuration())
	return queueCall(f, "Pull", func() (*splashdamv1.PullResponse, error) {
		f.pulls = append(f.pulls, req)
		for {
			t := f.topics[req.GetTopic()]
			if t == nil {
				d := unknownTopic()
				return nil, failure(codeOf(d), d)
			}
			res := &splashdamv1.PullResponse{}
			for p := range int32(len(t.partitions)) {
				f.acquire(fakeSpot{req.GetGroup(), req.GetTopic(), p}, req, res)
			}
			if len(res.GetRecords()) > 0 || !time.Now().Before(until) || ctx.Err() != nil {
				return res, nil
			}
			changed := f.changed
			f.mu.Unlock()
			look := time.NewTimer(10 * time.Millisecond) // locks and delays end without a call
			select {
			case <-changed:
			case <-look.C:
			case <-ctx.Done():
			}
			look.Stop()
			f.mu.Lock()
		}
	})
}

// acquire locks what there is to be handed out.
func (f *fake) acquire(at fakeSpot, req *splashdamv1.PullRequest, res *splashdamv1.PullResponse) {
	if f.queues == nil {
		f.queues, f.locks = map[fakeSpot]*fakeQueue{}, map[string]*fakeLock{}
	}
	q := f.queues[at]
	if q == nil {
		q = &fakeQueue{}
		f.queues[at] = q
	}
	now := time.Now()
	for _, l := range f.locks {
		if l.fakeSpot == at && !now.Before(l.until) {
			f.comeAgain(l, 0, "expired", "")
		}
	}
	slices.SortFunc(q.waiting, func(a, b *fakeLock) int { return cmp.Compare(a.record.GetOffset(), b.record.GetOffset()) })
	kept := q.waiting[:0]
	for _, l := range q.waiting {
		if now.Before(l.until) || len(res.Records) == int(req.GetMaxRecords()) {
			kept = append(kept, l)
			continue
		}
		f.lock(l, req, res)
	}
	q.waiting = kept
	for _, r := range f.recordsFrom(at.topic, at.partition, q.next, int(req.GetMaxRecords())) {
		if len(res.Records) == int(req.GetMaxRecords()) {
			break
		}
		q.next = r.GetOffset() + 1
		f.lock(&fakeLock{fakeSpot: at, record: r}, req, res)
	}
}

func (f *fake) lock(l *fakeLock, req *splashdamv1.PullRequest, res *splashdamv1.PullResponse) {
	f.drawn++
	l.token, l.until = fmt.Sprintf("lock %d", f.drawn), time.Now().Add(req.GetLockTime().AsDuration())
	l.deliveries++
	l.most, l.home = req.GetMaxDeliveries(), req.GetDeadLetterTopic()
	f.locks[l.token] = l
	f.most = max(f.most, len(f.locks))
	res.Records = append(res.Records, &splashdamv1.PulledRecord{
		Partition: &l.partition, Record: l.record, Token: []byte(l.token), Deliveries: l.deliveries,
	})
}

// comeAgain ends a lock without acceptance.
func (f *fake) comeAgain(l *fakeLock, delay time.Duration, reason, said string) {
	delete(f.locks, l.token)
	if l.first.IsZero() {
		l.first = time.Now()
	}
	if reason == "rejected" || l.deliveries >= l.most {
		f.bury(l.home, &splashdamv1.DeadLetter{
			Record: l.record, SourceTopic: l.topic, SourcePartition: &l.partition, SourceOffset: l.record.Offset, Group: l.group, Deliveries: l.deliveries,
			FirstFailure: timestamppb.New(l.first), LastFailure: timestamppb.Now(), Reason: reason, Error: said,
		})
		return
	}
	l.token, l.until = "", time.Now().Add(delay)
	q := f.queues[l.fakeSpot]
	q.waiting = append(q.waiting, l)
}

// recordsFrom reads a partition's log, so many records of it.
func (f *fake) recordsFrom(topic string, partition int32, from int64, most int) (list []*splashdamv1.FetchedRecord) {
	for _, b := range f.topics[topic].partitions[partition].batches {
		if b.next <= from || len(list) >= most {
			continue
		}
		_ = objectlog.DecodeBatch(b.bytes, objectlog.Limits{}, func(o objectlog.Offset, r objectlog.Record) bool {
			if int64(o) >= from {
				list = append(list, &splashdamv1.FetchedRecord{
					Offset: new(int64(o)), Key: payload(r.Key), Value: payload(r.Value), Timestamp: timestamppb.New(time.UnixMilli(int64(r.Timestamp))),
				})
			}
			return true
		})
	}
	return list
}

func payload(b []byte) *splashdamv1.Payload {
	if b == nil {
		return nil
	}
	return &splashdamv1.Payload{Kind: &splashdamv1.Payload_Data{Data: b}}
}

func (f *fake) Acknowledge(_ context.Context, req *splashdamv1.AcknowledgeRequest) (*splashdamv1.AcknowledgeResponse, error) {
	call := "Acknowledge"
	if req.GetItems()[0].GetVerdict() == splashdamv1.Verdict_VERDICT_EXTEND {
		call = "Extend"
	}
	return queueCall(f, call, func() (*splashdamv1.AcknowledgeResponse, error) {
		f.acks = append(f.acks, req)
		res := &splashdamv1.AcknowledgeResponse{}
		for _, item := range req.GetItems() {
			for _, token := range item.GetTokens() {
				var d *splashdamv1.ErrorDetail
				if f.tokenFault != nil {
					d = f.tokenFault(string(token))
				}
				if d == nil && !f.settle(string(token), item) {
					d = detail("failed_precondition", "INVALID_RECORD_STATE", 121, false)
				}
				if d != nil {
					res.Refused = append(res.Refused, &splashdamv1.AcknowledgeResponse_Refused{Token: token, Error: d})
				}
			}
		}
		return res, nil
	})
}

func (f *fake) settle(token string, item *splashdamv1.AcknowledgeRequest_Item) bool {
	l := f.locks[token]
	if l == nil || !time.Now().Before(l.until) {
		return false
	}
	switch item.GetVerdict() {
	case splashdamv1.Verdict_VERDICT_ACCEPT:
		delete(f.locks, token)
		f.queues[l.fakeSpot].accepts++
	case splashdamv1.Verdict_VERDICT_RELEASE:
		f.comeAgain(l, item.GetDelay().AsDuration(), "released", item.GetError())
	case splashdamv1.Verdict_VERDICT_REJECT:
		f.comeAgain(l, 0, "rejected", item.GetError())
	case splashdamv1.Verdict_VERDICT_RETURN:
		delete(f.locks, token)
		l.token, l.until, l.deliveries = "", time.Now(), l.deliveries-1
		f.queues[l.fakeSpot].waiting = append(f.queues[l.fakeSpot].waiting, l)
	case splashdamv1.Verdict_VERDICT_EXTEND:
		if f.noExtend {
			f.comeAgain(l, time.Hour, "expired", "")
			return false
		}
		l.until = time.Now().Add(item.GetLockTime().AsDuration())
	}
	return true
}

func (f *fake) GetQueue(_ context.Context, req *splashdamv1.GetQueueRequest) (*splashdamv1.GetQueueResponse, error) {
	return queueCall(f, "GetQueue", func() (*splashdamv1.GetQueueResponse, error) {
		res := &splashdamv1.GetQueueResponse{MaxDeliveries: 5, DeadLetterTopic: req.GetTopic() + "-dlq"}
		for p := range int32(len(f.topics[req.GetTopic()].partitions)) {
			out := &splashdamv1.GetQueueResponse_Partition{Partition: &p, HighWatermark: new(f.topics[req.GetTopic()].partitions[p].next)}
			res.Partitions = append(res.Partitions, out)
			at := fakeSpot{req.GetGroup(), req.GetTopic(), p}
			q := f.queues[at]
			if q == nil {
				out.Lag = *out.HighWatermark
				continue
			}
			for _, l := range f.locks {
				if l.fakeSpot == at {
					out.Locked++
				}
			}
			out.Released = int64(len(q.waiting))
			out.NextOffset, out.Lag = &q.next, *out.HighWatermark-q.next+out.Locked+out.Released
		}
		return res, nil
	})
}

// accepted counts the records that a queue has accepted.
func (f *fake) accepted(group string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.acceptedLocked(group)
}

func (f *fake) acceptedLocked(group string) (n int) {
	for at, q := range f.queues {
		if at.group == group {
			n += q.accepts
		}
	}
	return n
}
