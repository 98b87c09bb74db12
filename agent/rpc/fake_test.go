package rpc

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// fakeEngine is an Engine in memory that decides at once. It keeps the agent's contract as far as an edge can see.
type fakeEngine struct {
	mu        sync.Mutex
	topics    map[string]*fakeTopic
	producers map[objectlog.ProducerID]int16
	ready     error
	changed   chan struct{}          // closed and replaced at every change
	hold      chan struct{}          // when not nil, Wait waits for it
	admit     chan struct{}          // when not nil, Submit waits for it, as for room
	submitted int                    // requests
	listed    int                    // times that topics were
	fault     error                  // when not nil, of every call
	fetches   []agent.FetchRequest   // as they came
	limits    objectlog.Limits       // of batches
	arrival   objectlog.Timestamp    // of every record without a time
	sequences map[fakeProducer]int32 // next
	info      agent.ClusterInfo      // GetCluster's answer
	usage     []agent.TopicUsage     // of GetUsage's answer
	partErr   map[fakePlace]error    // of a partition's reads
	versions  int64                  // of topics
	groups    *fakeGroups
	queues    *fakeQueues
	panics    bool // Cluster panics, and Wait once nothing holds it
}

type fakePlace struct {
	topic     string
	partition objectlog.Partition
}

type fakeProducer struct {
	place fakePlace
	id    objectlog.ProducerID
}

type fakeTopic struct {
	metadata.Topic
	logs []*fakeLog
}

type fakeLog struct {
	batches     [][]byte
	start, next objectlog.Offset
}

func newFake() *fakeEngine {
	return &fakeEngine{
		topics:    make(map[string]*fakeTopic),
		producers: make(map[objectlog.ProducerID]int16),
		sequences: make(map[fakeProducer]int32),
		partErr:   make(map[fakePlace]error),
		changed:   make(chan struct{}),
		groups:    newFakeGroups(),
		queues:    newFakeQueues(),
		arrival:   1_700_000_000_000,
	}
}

func (f *fakeEngine) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}

// drain does what Drain does.
func (f *fakeEngine) drain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ready = &agent.Error{Op: "serve", Cause: agent.Draining}
	f.wake()
}

func (f *fakeEngine) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

type fakePending struct {
	results []agent.ProduceResult
	hold    <-chan struct{}
	panics  bool
}

func (p fakePending) Wait(ctx context.Context) []agent.ProduceResult {
	if p.hold == nil {
		return p.results
	}
	select {
	case <-p.hold:
		if p.panics {
			panic("wait")
		}
		return p.results
	case <-ctx.Done():
	}
	out := slices.Clone(p.results)
	for i := range out {
		if out[i].Err == nil {
			out[i] = agent.ProduceResult{Err: &agent.Error{Op: "produce", Cause: agent.OutcomeUnknown}}
		}
	}
	return out
}

func (f *fakeEngine) Submit(_ context.Context, r agent.ProduceRequest) Pending {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.submitted++
	if admit := f.admit; admit != nil {
		f.mu.Unlock()
		<-admit
		f.mu.Lock()
	}
	p := fakePending{hold: f.hold, panics: f.panics}
	for _, b := range r.Batches {
		result, err := f.append(b, r.Producer)
		if err != nil {
			result = agent.ProduceResult{Err: err}
		}
		p.results = append(p.results, result)
	}
	f.wake()
	return p
}

func (f *fakeEngine) append(b agent.ProduceBatch, producer agent.Producer) (agent.ProduceResult, error) {
	fail := func(cause error, details map[string]string) (agent.ProduceResult, error) {
		return agent.ProduceResult{}, &agent.Error{Op: "produce", Object: fmt.Sprintf("%s/%d", b.Topic, b.Partition), Cause: cause, Details: details}
	}
	if f.fault != nil {
		return fail(f.fault, nil)
	}
	t, err := f.find("produce", b.Topic)
	if err != nil {
		return agent.ProduceResult{}, err
	}
	p := max(b.Partition, 0)
	if int(p) >= len(t.logs) {
		return fail(metadata.ReasonUnknownTopic, nil)
	}
	log := t.logs[p]
	if b.Expected != objectlog.NoOffset && b.Expected != log.next {
		return fail(metadata.ReasonOffsetMismatch, map[string]string{"actual": strconv.FormatInt(int64(log.next), 10)})
	}
	body, count := slices.Clone(b.Encoded), 0
	if b.Encoded != nil {
		header, err := objectlog.CheckBatch(b.Encoded, f.limits)
		if err != nil {
			return fail(err, nil)
		}
		count = int(header.Records)
	} else {
		size := 0
		for i := range b.Records {
			size += len(b.Records[i].Key) + len(b.Records[i].Value)
			if b.Records[i].Timestamp == objectlog.NoTimestamp {
				b.Records[i].Timestamp = f.arrival
			}
		}
		if size > 1<<20 {
			return fail(fmt.Errorf("%d bytes, the limit is %d: %w", size, 1<<20, objectlog.ErrTooLarge), nil)
		}
		if body, err = objectlog.EncodeBatch(nil, b.Records, objectlog.BatchOptions{LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer}); err != nil {
			return fail(err, nil)
		}
		count = len(b.Records)
	}
	if producer.ID != objectlog.NoProducer && b.FirstSequence >= 0 {
		if epoch := f.producers[producer.ID]; producer.Epoch < epoch {
			return fail(metadata.ReasonFencedProducer, nil)
		}
		key := fakeProducer{fakePlace{b.Topic, p}, producer.ID}
		if b.FirstSequence != f.sequences[key] {
			return fail(metadata.ReasonSequenceGap, nil)
		}
		f.sequences[key] += int32(count)
	}
	objectlog.PatchBatch(body, log.next, 1)
	log.batches = append(log.batches, body)
	result := agent.ProduceResult{AppendTime: objectlog.NoTimestamp}
	for i := range count {
		if i == 0 || b.Encoded == nil {
			result.Positions = append(result.Positions, agent.Position{Partition: p, Offset: log.next + objectlog.Offset(i)})
		}
	}
	log.next += objectlog.Offset(count)
	return result, nil
}

func (f *fakeEngine) find(op, topic string) (*fakeTopic, error) {
	if metadata.CheckTopicName(topic) != nil {
		return nil, &agent.Error{Op: op, Object: topic, Cause: agent.InvalidTopic, Hint: "a name is 1 to 249 of [a-zA-Z0-9._-]"}
	}
	t, ok := f.topics[topic]
	if !ok {
		return nil, &agent.Error{Op: op, Object: topic, Cause: metadata.ReasonUnknownTopic}
	}
	return t, nil
}

func (f *fakeEngine) Fetch(ctx context.Context, r agent.FetchRequest) []agent.FetchedPartition {
	f.mu.Lock()
	f.fetches = append(f.fetches, r)
	f.mu.Unlock()
	timer := time.NewTimer(r.Wait)
	defer timer.Stop()
	for first := true; ; first = false {
		f.mu.Lock()
		read, enough := f.read(r)
		changed, draining := f.changed, f.ready != nil
		f.mu.Unlock()
		if first { // places are found once, then waited at
			r.Partitions = nil
			for _, p := range read {
				r.Partitions = append(r.Partitions, agent.FetchPartition{Topic: p.Topic, Partition: p.Partition, Start: agent.Start{Kind: agent.StartOffset, Offset: p.From}})
			}
		}
		if enough || draining || r.Wait == 0 {
			return read
		}
		select {
		case <-changed:
		case <-timer.C:
			return read
		case <-ctx.Done():
			return read
		}
	}
}

func (f *fakeEngine) read(r agent.FetchRequest) (out []agent.FetchedPartition, enough bool) {
	for _, p := range f.expand(r.Partitions) {
		read := f.readOne(p)
		enough = enough || read.Err != nil || len(read.Batches) > 0
		out = append(out, read)
	}
	return out, enough
}

func (f *fakeEngine) expand(partitions []agent.FetchPartition) (out []agent.FetchPartition) {
	for _, p := range partitions {
		t, ok := f.topics[p.Topic]
		if p.Partition != agent.AnyPartition || !ok {
			out = append(out, p)
			continue
		}
		for i := range t.logs {
			out = append(out, agent.FetchPartition{Topic: p.Topic, Partition: objectlog.Partition(i), Start: p.Start})
		}
	}
	return out
}

func (f *fakeEngine) readOne(p agent.FetchPartition) agent.FetchedPartition {
	out := agent.FetchedPartition{Topic: p.Topic, Partition: p.Partition}
	log, err := f.log("fetch", p)
	if err != nil {
		out.Err = err
		return out
	}
	out.From, out.HighWatermark, out.LogStart = f.start(log, p.Start), log.next, log.start
	out.Next = out.From
	if out.From > log.next || out.From < log.start {
		out.Err = &agent.Error{Op: "fetch", Object: fmt.Sprintf("%s/%d", p.Topic, p.Partition), Cause: agent.OutOfRange, Details: map[string]string{
			"log_start": strconv.FormatInt(int64(log.start), 10), "high_watermark": strconv.FormatInt(int64(log.next), 10)}}
		return out
	}
	for _, b := range log.batches {
		header, err := objectlog.ParseBatchHeader(b)
		if err != nil {
			panic(err)
		}
		if next := header.BaseOffset + objectlog.Offset(header.LastOffsetDelta) + 1; next > out.From {
			out.Batches = append(out.Batches, b)
			out.Next = next
		}
	}
	return out
}

func (f *fakeEngine) log(op string, p agent.FetchPartition) (*fakeLog, error) {
	t, err := f.find(op, p.Topic)
	if err != nil {
		return nil, err
	}
	if err := f.partErr[fakePlace{p.Topic, p.Partition}]; err != nil {
		return nil, &agent.Error{Op: op, Object: p.Topic, Cause: err}
	}
	if int(p.Partition) >= len(t.logs) {
		return nil, &agent.Error{Op: op, Object: fmt.Sprintf("%s/%d", p.Topic, p.Partition), Cause: metadata.ReasonUnknownTopic}
	}
	return t.logs[p.Partition], nil
}

func (f *fakeEngine) start(log *fakeLog, s agent.Start) objectlog.Offset {
	switch s.Kind {
	case agent.StartLatest:
		return log.next
	case agent.StartOffset:
		return s.Offset
	case agent.StartTail:
		return max(log.start, log.next-objectlog.Offset(s.Tail))
	case agent.StartTime:
		if s.Time > f.arrival {
			return log.next
		}
	}
	return log.start
}

func (f *fakeEngine) ListOffsets(_ context.Context, partitions []agent.FetchPartition) (out []agent.FoundOffset) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.expand(partitions) {
		found := agent.FoundOffset{Topic: p.Topic, Partition: p.Partition, Timestamp: objectlog.NoTimestamp}
		if log, err := f.log("list offsets", p); err != nil {
			found.Err = err
		} else {
			found.Offset, found.HighWatermark, found.LogStart = f.start(log, p.Start), log.next, log.start
		}
		out = append(out, found)
	}
	return out
}

func (f *fakeEngine) InitProducer(_ context.Context, p agent.Producer) (agent.Producer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.ID == objectlog.NoProducer {
		p = agent.Producer{ID: objectlog.ProducerID(len(f.producers) + 1), Epoch: -1}
	}
	p.Epoch++
	f.producers[p.ID] = p.Epoch
	return p, f.fault
}

func (f *fakeEngine) CreateTopic(_ context.Context, name string, partitions int32, s metadata.Settings, validateOnly bool) (metadata.Topic, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch t, err := f.find("create topic", name); {
	case err == nil:
		return t.Topic, &agent.Error{Op: "create topic", Object: name, Cause: metadata.ReasonTopicExists}
	case metadata.CheckTopicName(name) != nil:
		return metadata.Topic{}, err
	}
	t := &fakeTopic{Topic: metadata.Topic{Name: name, Partitions: partitions, Settings: s, State: metadata.TopicActive, Created: f.arrival}}
	if validateOnly {
		t.Created = objectlog.NoTimestamp
		return t.Topic, nil
	}
	f.versions++
	t.Version, t.ID = f.versions, objectlog.UUID{15: byte(f.versions)}
	for range partitions {
		t.logs = append(t.logs, &fakeLog{})
	}
	f.topics[name] = t
	f.wake()
	return t.Topic, nil
}

func (f *fakeEngine) Topic(_ context.Context, name string) (metadata.Topic, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queues.looked++
	t, err := f.find("get topic", name)
	if err != nil {
		return metadata.Topic{}, err
	}
	return t.Topic, nil
}

func (f *fakeEngine) Topics(_ context.Context, after string, limit int) (out []metadata.Topic, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listed++
	for _, name := range slices.SortedFunc(maps.Keys(f.topics), cmp.Compare[string]) {
		if name > after && len(out) < limit {
			out = append(out, f.topics[name].Topic)
		}
	}
	return out, f.fault
}

func (f *fakeEngine) AlterTopic(_ context.Context, name string, version int64, change func(metadata.Settings) (metadata.Settings, error), validateOnly bool) (metadata.Topic, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.find("update topic", name)
	if err != nil {
		return metadata.Topic{}, err
	}
	if version != 0 && version != t.Version {
		return metadata.Topic{}, &agent.Error{Op: "update topic", Object: name, Cause: metadata.ReasonTopicChanged}
	}
	altered := t.Topic
	if altered.Settings, err = change(t.Settings); err != nil {
		return metadata.Topic{}, err
	}
	if !validateOnly {
		altered.Version++
		t.Topic = altered
	}
	return altered, nil
}

func (f *fakeEngine) DeleteTopic(_ context.Context, name string, version int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.find("delete topic", name)
	if err != nil {
		return err
	}
	if version != 0 && version != t.Version {
		return &agent.Error{Op: "delete topic", Object: name, Cause: metadata.ReasonTopicChanged}
	}
	delete(f.topics, name)
	f.versions++
	return nil
}

func (f *fakeEngine) AddPartitions(_ context.Context, name string, partitions int32, validateOnly bool) (metadata.Topic, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.find("add partitions", name)
	if err != nil {
		return metadata.Topic{}, err
	}
	if partitions <= t.Partitions {
		return metadata.Topic{}, &agent.Error{Op: "add partitions", Object: name, Cause: metadata.ReasonInvalid}
	}
	grown := t.Topic
	grown.Partitions = partitions
	if !validateOnly {
		t.Topic = grown
		for int32(len(t.logs)) < partitions {
			t.logs = append(t.logs, &fakeLog{})
		}
	}
	return grown, nil
}

func (f *fakeEngine) TrimPartition(_ context.Context, name string, p objectlog.Partition, logStart objectlog.Offset) (objectlog.Offset, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	log, err := f.log("trim", agent.FetchPartition{Topic: name, Partition: p})
	if err != nil {
		return 0, err
	}
	if logStart > log.next {
		return 0, &agent.Error{Op: "trim", Object: name, Cause: metadata.ReasonInvalid}
	}
	log.start = max(log.start, logStart)
	return log.start, nil
}

func (f *fakeEngine) DescribePartitions(_ context.Context, t metadata.Topic) (out []agent.PartitionInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, log := range f.topics[t.Name].logs {
		out = append(out, agent.PartitionInfo{Partition: objectlog.Partition(i), State: metadata.PartitionState{LogStart: log.start, HighWatermark: log.next}})
	}
	return out
}

func (f *fakeEngine) Cluster(context.Context) (agent.ClusterInfo, error) {
	if f.panics {
		panic("secret words")
	}
	return f.info, f.fault
}

func (f *fakeEngine) Usage() (string, time.Duration, []agent.TopicUsage) {
	return "boot", 90 * time.Second, f.usage
}
