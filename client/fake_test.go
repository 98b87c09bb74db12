package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/objectlog"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

// fault is what the fake does to one batch instead of appending it and saying so.
type fault int

const (
	none         fault = iota
	loseReply          // append, then cut the connection
	cut                // cut the connection, nothing appended
	late               // cut the connection, append at some later call
	unavailable        // refuse: unavailable, retriable, retry_after
	undecided          // answer deadline_exceeded, appended
	undecidedNot       // answer deadline_exceeded, not appended
)

// fake is a broker in memory that judges batches as Splashdam does: producer state with the last five batches per
// partition, expected offsets, whole batches in fetches.
type fake struct {
	splashdamv1connect.UnimplementedTopicServiceHandler
	splashdamv1connect.UnimplementedLogServiceHandler
	splashdamv1connect.UnimplementedClusterServiceHandler
	splashdamv1connect.UnimplementedGroupServiceHandler
	splashdamv1connect.UnimplementedQueueServiceHandler
	splashdamv1connect.UnimplementedDeadLetterServiceHandler
	groupBoard
	queueBoard

	server *httptest.Server
	faults func(topic string, partition int32, n int) fault // n counts the batches that arrived; nil: none
	hold   chan struct{}                                    // when set, produce waits for it to be closed

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced on every append
	topics    map[string]*fakeTopic
	producers int64
	arrived   int
	calls     map[string]int
	heldBack  []func() // late batches
	bytesMax  int      // of a batch; 0: no limit
	damage    int      // so many fetches answer with a flipped bit
	noStreams bool
	autoMake  int32         // partitions of topics made because records are sent to them; 0: they are unknown
	misnumber int           // so many answers on streams carry another's number and a wrong offset
	holdFetch chan struct{} // when set, a fetch waits for it to be closed before it answers what it found before
	refuse    func(call string) error
	usage     *splashdamv1.GetUsageResponse
	cluster   *splashdamv1.GetClusterResponse
}

type fakeTopic struct {
	id         objectlog.UUID
	topic      *splashdamv1.Topic
	partitions []*fakePartition
}

type fakePartition struct {
	start, next int64
	batches     []fakeBatch
	producers   map[objectlog.ProducerID]*fakeProducer
}

type fakeBatch struct {
	base, next int64
	bytes      []byte
}

type fakeProducer struct {
	epoch int16
	next  int32
	last  []fakeBatchRef
}

type fakeBatchRef struct {
	first int32
	base  int64
}

// startFake serves a fake over HTTP/1.1 and, unless told otherwise, h2c.
func startFake(http1Only ...bool) *fake {
	f := &fake{topics: map[string]*fakeTopic{}, changed: make(chan struct{}), calls: map[string]int{}}
	mux := http.NewServeMux()
	mux.Handle(splashdamv1connect.NewLogServiceHandler(f))
	mux.Handle(splashdamv1connect.NewTopicServiceHandler(f))
	mux.Handle(splashdamv1connect.NewClusterServiceHandler(f))
	mux.Handle(splashdamv1connect.NewGroupServiceHandler(f))
	mux.Handle(splashdamv1connect.NewQueueServiceHandler(f))
	mux.Handle(splashdamv1connect.NewDeadLetterServiceHandler(f))
	f.server = httptest.NewUnstartedServer(mux)
	f.server.Config.Protocols = new(http.Protocols)
	f.server.Config.Protocols.SetHTTP1(true)
	f.server.Config.Protocols.SetUnencryptedHTTP2(len(http1Only) == 0)
	f.server.Start()
	return f
}

func (f *fake) address() string { return f.server.Listener.Addr().String() }

func (f *fake) close() {
	f.stopSessions()
	f.server.CloseClientConnections()
	f.server.Close()
}

func (f *fake) addTopic(name string, partitions int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[name]
	if t == nil {
		t = &fakeTopic{id: objectlog.NewUUID(rand.Uint64), topic: &splashdamv1.Topic{Name: name, State: splashdamv1.TopicState_TOPIC_STATE_ACTIVE}}
		f.topics[name] = t
	}
	for len(t.partitions) < int(partitions) {
		t.partitions = append(t.partitions, &fakePartition{producers: map[objectlog.ProducerID]*fakeProducer{}})
	}
	t.topic.Partitions = partitions
}

func (f *fake) dropTopic(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.topics, name)
	f.wake()
}

// values lists the values in a partition's log, in order.
func (f *fake) values(topic string, partition int32) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, b := range f.topics[topic].partitions[partition].batches {
		err := objectlog.DecodeBatch(b.bytes, objectlog.Limits{}, func(_ objectlog.Offset, r objectlog.Record) bool {
			out = append(out, string(r.Value))
			return true
		})
		if err != nil {
			panic(err)
		}
	}
	return out
}

func (f *fake) batches(topic string, partition int32) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.topics[topic].partitions[partition].batches)
}

func (f *fake) count(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[call]
}

// enter counts a call and answers the error that it is to fail with.
func (f *fake) enter(call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[call]++
	f.wake()
	if f.refuse != nil {
		return f.refuse(call)
	}
	return nil
}

// wake tells everyone who waits for a change. The lock is held.
func (f *fake) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// until waits for a condition that only calls to the fake change.
func (f *fake) until(ctx context.Context, condition func() bool) error {
	for {
		f.mu.Lock()
		ok, changed := condition(), f.changed
		f.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func detail(code, reason string, kafka int32, retriable bool) *splashdamv1.ErrorDetail {
	return &splashdamv1.ErrorDetail{Code: code, Reason: reason, Message: "the fake says so", KafkaCode: kafka, Retriable: retriable}
}

func unknownTopic() *splashdamv1.ErrorDetail {
	return detail("not_found", "UNKNOWN_TOPIC_OR_PARTITION", 3, false)
}

// failure is a whole call's error with its detail.
func failure(code connect.Code, d *splashdamv1.ErrorDetail) error {
	err := connect.NewError(code, errors.New(d.Message))
	if detail, e := connect.NewErrorDetail(d); e == nil {
		err.AddDetail(detail)
	}
	return err
}

func (f *fake) Produce(_ context.Context, req *splashdamv1.ProduceRequest) (*splashdamv1.ProduceResponse, error) {
	if err := f.enter("Produce"); err != nil {
		return nil, err
	}
	return f.produce(req), nil
}

func (f *fake) ProduceStream(_ context.Context, s *connect.BidiStream[splashdamv1.ProduceStreamRequest, splashdamv1.ProduceStreamResponse]) error {
	if err := f.enter("ProduceStream"); err != nil {
		return err
	}
	if f.noStreams {
		return connect.NewError(connect.CodeUnimplemented, errors.New("no streams here"))
	}
	for {
		req, err := s.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		res, id := f.produce(req.GetRequest()), req.GetCorrelationId()
		if f.misnumber > 0 {
			f.misnumber--
			id++
			*res.Results[0].Positions[0].Offset = 99
		}
		if err := s.Send(&splashdamv1.ProduceStreamResponse{
			CorrelationId: id, Outcome: &splashdamv1.ProduceStreamResponse_Response{Response: res},
		}); err != nil {
			return err
		}
	}
}

func (f *fake) produce(req *splashdamv1.ProduceRequest) *splashdamv1.ProduceResponse {
	if f.hold != nil {
		<-f.hold
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.heldBack) > 0 && f.arrived%3 == 0 {
		f.heldBack[0]()
		f.heldBack = f.heldBack[1:]
	}
	res := &splashdamv1.ProduceResponse{}
	for _, b := range req.GetBatches() {
		res.Results = append(res.Results, f.decide(b))
	}
	if req.GetAcks() == splashdamv1.Acks_ACKS_NONE {
		for _, r := range res.Results {
			r.Positions = nil
		}
	}
	return res
}

// decide appends one batch, or lets a fault happen. Cutting the connection leaves the rest of the request undone.
func (f *fake) decide(b *splashdamv1.ProduceRequest_Batch) *splashdamv1.ProduceResponse_Result {
	f.arrived++
	kind := none
	if f.faults != nil {
		kind = f.faults(b.GetTopic(), b.GetPartition(), f.arrived)
	}
	switch kind {
	case cut:
		panic(http.ErrAbortHandler)
	case late:
		f.heldBack = append(f.heldBack, func() { f.append(b) })
		panic(http.ErrAbortHandler)
	case loseReply:
		f.append(b)
		panic(http.ErrAbortHandler)
	case unavailable:
		d := detail("unavailable", "NOT_LEADER_OR_FOLLOWER", 6, true)
		d.RetryAfter = durationpb.New(time.Millisecond)
		return &splashdamv1.ProduceResponse_Result{Error: d}
	case undecided:
		f.append(b)
		return &splashdamv1.ProduceResponse_Result{Error: detail("deadline_exceeded", "REQUEST_TIMED_OUT", 7, true)}
	case undecidedNot:
		return &splashdamv1.ProduceResponse_Result{Error: detail("deadline_exceeded", "REQUEST_TIMED_OUT", 7, true)}
	}
	return f.append(b)
}

func (f *fake) append(b *splashdamv1.ProduceRequest_Batch) *splashdamv1.ProduceResponse_Result {
	refuse := func(d *splashdamv1.ErrorDetail) *splashdamv1.ProduceResponse_Result {
		return &splashdamv1.ProduceResponse_Result{Error: d}
	}
	t := f.topics[b.GetTopic()]
	if t == nil || int(b.GetPartition()) >= len(t.partitions) {
		return refuse(unknownTopic())
	}
	p := t.partitions[b.GetPartition()]
	limits := objectlog.Limits{BatchBytes: f.bytesMax}
	h, err := objectlog.CheckBatch(b.GetEncoded(), limits)
	if errors.Is(err, objectlog.ErrTooLarge) {
		return refuse(detail("invalid_argument", "MESSAGE_TOO_LARGE", 10, false))
	}
	if err != nil {
		return refuse(detail("invalid_argument", "INVALID_RECORD", 87, false))
	}
	if b.ExpectedNextOffset != nil && b.GetExpectedNextOffset() != p.next {
		d := detail("aborted", "OFFSET_MISMATCH", -1, false)
		d.Metadata = map[string]string{"actual": strconv.FormatInt(p.next, 10)}
		return refuse(d)
	}
	if h.ProducerID != objectlog.NoProducer {
		if base, d := p.sequence(h); d != nil {
			return refuse(d)
		} else if base >= 0 {
			return &splashdamv1.ProduceResponse_Result{Positions: position(b.GetPartition(), base), Duplicate: true}
		}
	}
	bytes := slices.Clone(b.GetEncoded())
	objectlog.PatchBatch(bytes, objectlog.Offset(p.next), 1)
	base := p.next
	p.next += int64(h.Records)
	p.batches = append(p.batches, fakeBatch{base: base, next: p.next, bytes: bytes})
	f.wake()
	return &splashdamv1.ProduceResponse_Result{Positions: position(b.GetPartition(), base)}
}

// sequence judges a batch of an idempotent producer: base >= 0 for a duplicate, a refusal, or neither.
func (p *fakePartition) sequence(h objectlog.BatchHeader) (base int64, d *splashdamv1.ErrorDetail) {
	s := p.producers[h.ProducerID]
	switch {
	case s == nil && h.FirstSequence != 0:
		return -1, detail("failed_precondition", "UNKNOWN_PRODUCER_ID", 59, false)
	case s == nil, h.ProducerEpoch > s.epoch:
		if h.FirstSequence != 0 {
			return -1, detail("failed_precondition", "OUT_OF_ORDER_SEQUENCE_NUMBER", 45, false)
		}
		s = &fakeProducer{epoch: h.ProducerEpoch}
	case h.ProducerEpoch < s.epoch:
		return -1, detail("failed_precondition", "INVALID_PRODUCER_EPOCH", 47, false)
	}
	for _, l := range s.last {
		if l.first == h.FirstSequence {
			return l.base, nil
		}
	}
	if h.FirstSequence != s.next {
		return -1, detail("failed_precondition", "OUT_OF_ORDER_SEQUENCE_NUMBER", 45, false)
	}
	p.producers[h.ProducerID] = s
	s.next += h.Records
	s.last = append(s.last, fakeBatchRef{h.FirstSequence, p.next})
	s.last = s.last[max(0, len(s.last)-5):]
	return -1, nil
}

func position(partition int32, offset int64) []*splashdamv1.ProduceResponse_Position {
	return []*splashdamv1.ProduceResponse_Position{{Partition: &partition, Offset: &offset}}
}

func (f *fake) InitProducer(_ context.Context, req *splashdamv1.InitProducerRequest) (*splashdamv1.InitProducerResponse, error) {
	if err := f.enter("InitProducer"); err != nil {
		return nil, err
	}
	if p := req.GetProducer(); p != nil {
		return &splashdamv1.InitProducerResponse{Producer: &splashdamv1.Producer{Id: p.GetId(), Epoch: p.GetEpoch() + 1}}, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.producers++
	return &splashdamv1.InitProducerResponse{Producer: &splashdamv1.Producer{Id: f.producers}}, nil
}

func (f *fake) Fetch(ctx context.Context, req *splashdamv1.FetchRequest) (*splashdamv1.FetchResponse, error) {
	if err := f.enter("Fetch"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, req.GetMaxWait().AsDuration())
	defer cancel()
	var res *splashdamv1.FetchResponse
	_ = f.until(ctx, func() bool { // what is there when the wait ends is the answer
		var news bool
		res, news = f.fetch(req)
		return news
	})
	f.mu.Lock()
	hold := f.holdFetch
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return res, nil
}

func (f *fake) fetch(req *splashdamv1.FetchRequest) (res *splashdamv1.FetchResponse, news bool) {
	res = &splashdamv1.FetchResponse{}
	left := int(req.GetMaxBytes())
	for _, w := range req.GetPartitions() {
		out := &splashdamv1.FetchResponse_Partition{Topic: w.GetTopic(), Partition: w.Partition}
		res.Partitions = append(res.Partitions, out)
		t := f.topics[w.GetTopic()]
		if t == nil || int(w.GetPartition()) >= len(t.partitions) {
			out.Error, news = unknownTopic(), true
			continue
		}
		p := t.partitions[w.GetPartition()]
		next, hw := w.GetStart().GetOffset(), p.next
		if next < p.start || next > p.next {
			out.Error, news = detail("out_of_range", "OFFSET_OUT_OF_RANGE", 1, false), true
			continue
		}
		for _, b := range p.batches {
			if b.next <= next || left <= 0 {
				continue
			}
			left -= len(b.bytes)
			out.Encoded = append(out.Encoded, b.bytes...)
			next, news = b.next, true
		}
		if f.damage > 0 && len(out.Encoded) > 0 {
			f.damage--
			out.Encoded[len(out.Encoded)-1] ^= 1
		}
		out.NextOffset, out.HighWatermark = &next, &hw
	}
	return res, news
}

func (f *fake) ListOffsets(_ context.Context, req *splashdamv1.ListOffsetsRequest) (*splashdamv1.ListOffsetsResponse, error) {
	if err := f.enter("ListOffsets"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	res := &splashdamv1.ListOffsetsResponse{}
	for _, w := range req.GetPartitions() {
		out := &splashdamv1.ListOffsetsResponse_Partition{Topic: w.GetTopic(), Partition: w.Partition}
		res.Partitions = append(res.Partitions, out)
		t := f.topics[w.GetTopic()]
		if t == nil || int(w.GetPartition()) >= len(t.partitions) {
			out.Error = unknownTopic()
			continue
		}
		p := t.partitions[w.GetPartition()]
		at := p.start
		switch s := w.GetStart().GetAt().(type) {
		case *splashdamv1.Start_Point:
			if s.Point == splashdamv1.StartPoint_START_POINT_LATEST {
				at = p.next
			}
		case *splashdamv1.Start_TailRecords:
			at = max(p.start, p.next-s.TailRecords)
		case *splashdamv1.Start_Timestamp:
			at = p.since(objectlog.Timestamp(s.Timestamp.AsTime().UnixMilli()))
		}
		hw := p.next
		out.Offset, out.HighWatermark, out.LogStartOffset = &at, &hw, &p.start
	}
	return res, nil
}

func (p *fakePartition) since(t objectlog.Timestamp) int64 {
	found := p.next
	for _, b := range slices.Backward(p.batches) {
		_ = objectlog.DecodeBatch(b.bytes, objectlog.Limits{}, func(o objectlog.Offset, r objectlog.Record) bool {
			if r.Timestamp >= t {
				found = min(found, int64(o))
			}
			return true
		})
	}
	return found
}

func (f *fake) GetTopic(_ context.Context, req *splashdamv1.GetTopicRequest) (*splashdamv1.GetTopicResponse, error) {
	if err := f.enter("GetTopic"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[req.GetName()]
	if t == nil {
		return nil, failure(connect.CodeNotFound, unknownTopic())
	}
	res := &splashdamv1.GetTopicResponse{Topic: &splashdamv1.Topic{Name: t.topic.Name, Partitions: t.topic.Partitions, State: t.topic.State}}
	for i, p := range t.partitions {
		id, start, next := int32(i), p.start, p.next
		res.Partitions = append(res.Partitions, &splashdamv1.GetTopicResponse_Partition{
			Partition: &id, LogStartOffset: &start, HighWatermark: &next,
		})
	}
	return res, nil
}

func (f *fake) CreateTopic(_ context.Context, req *splashdamv1.CreateTopicRequest) (*splashdamv1.CreateTopicResponse, error) {
	if err := f.enter("CreateTopic"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	taken := f.topics[req.GetTopic().GetName()] != nil
	f.mu.Unlock()
	if taken {
		return nil, failure(connect.CodeAlreadyExists, detail("already_exists", "TOPIC_ALREADY_EXISTS", 36, false))
	}
	f.addTopic(req.GetTopic().GetName(), max(1, req.GetTopic().GetPartitions()))
	return &splashdamv1.CreateTopicResponse{Topic: req.GetTopic()}, nil
}

// value is the i-th test value of a partition.
func value(partition, i int) string { return fmt.Sprintf("p%d-%06d", partition, i) }

// impatient is a configuration whose waits are short.
func impatient(f *fake) client.Config {
	return client.Config{
		Addresses: []string{f.address()}, RetryDelayMin: time.Millisecond, RetryDelayMax: 5 * time.Millisecond,
		RequestTimeout: 2 * time.Second,
	}
}

// GetCluster tells no more than the tests ask for.
func (f *fake) GetCluster(context.Context, *splashdamv1.GetClusterRequest) (*splashdamv1.GetClusterResponse, error) {
	if err := f.enter("GetCluster"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	res := &splashdamv1.GetClusterResponse{AutoCreatePartitions: f.autoMake}
	if f.cluster != nil {
		res = f.cluster
	}
	return res, nil
}

func (f *fake) GetUsage(context.Context, *splashdamv1.GetUsageRequest) (*splashdamv1.GetUsageResponse, error) {
	if err := f.enter("GetUsage"); err != nil {
		return nil, err
	}
	return f.usage, nil
}
