package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/test/history"
)

// landing says what becomes of the write at which an agent dies.
type landing string

const (
	never landing = "not landed"
	now   landing = "landed"
	later landing = "landing behind the successor"
)

var errDead = errors.New("the agent is dead")

// crash ends an agent at one of its writes to the stores: from that one on it gets no answer and nothing of it lands.
type crash struct {
	at      int // which write, from 1; 0: none
	landing landing
	died    chan struct{} // closed then

	mu     sync.Mutex
	writes []string // guarded by mu; what was written so far
	dead   bool     // guarded by mu
	late   func()   // guarded by mu; the write that lands later
}

// write does a write and answers whether the agent learns of it.
func (c *crash) write(ctx context.Context, what string, do func(ctx context.Context)) bool {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return false
	}
	c.writes = append(c.writes, what)
	if c.dead = len(c.writes) == c.at; !c.dead {
		c.mu.Unlock()
		do(ctx)
		return c.alive()
	}
	if c.landing == later {
		c.late = func() { do(context.Background()) }
	}
	c.mu.Unlock()
	if c.landing == now {
		do(context.Background())
	}
	close(c.died)
	return false
}

func (c *crash) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.dead
}

// seen counts the writes of a kind.
func (c *crash) seen(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, w := range c.writes {
		if w == what {
			n++
		}
	}
	return n
}

// crashBucket and crashTable are the stores as that agent sees them.
type crashBucket struct {
	objectlog.Bucket
	c *crash
}

func (b crashBucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) (err error) {
	body = slices.Clone(body) // it may land when the agent has gone on
	if !b.c.write(ctx, "put "+kindOfObject(key), func(ctx context.Context) { err = b.Bucket.Put(ctx, key, body, nonce) }) {
		return errDead
	}
	return err
}

func (b crashBucket) Get(ctx context.Context, key string, extent objectlog.Extent) ([]byte, error) {
	if !b.c.alive() {
		return nil, errDead
	}
	return b.Bucket.Get(ctx, key, extent)
}

func (b crashBucket) Delete(ctx context.Context, key string) (err error) {
	if !b.c.write(ctx, "delete "+kindOfObject(key), func(ctx context.Context) { err = b.Bucket.Delete(ctx, key) }) {
		return errDead
	}
	return err
}

type crashTable struct {
	metadata.Table
	c *crash
}

func (t crashTable) Get(ctx context.Context, key metadata.Key) (metadata.Item, bool, error) {
	if !t.c.alive() {
		return metadata.Item{}, false, errDead
	}
	return t.Table.Get(ctx, key)
}

func (t crashTable) Put(ctx context.Context, item metadata.Item, cond metadata.If) (r metadata.PutResult) {
	item.Value = slices.Clone(item.Value)
	if !t.c.write(ctx, "put "+item.Key.Family(), func(ctx context.Context) { r = t.Table.Put(ctx, item, cond) }) {
		return metadata.PutResult{Err: errDead}
	}
	return r
}

func (t crashTable) Delete(ctx context.Context, key metadata.Key, cond metadata.If) (r metadata.PutResult) {
	if !t.c.write(ctx, "delete "+key.Family(), func(ctx context.Context) { r = t.Table.Delete(ctx, key, cond) }) {
		return metadata.PutResult{Err: errDead}
	}
	return r
}

func (t crashTable) CreateAll(ctx context.Context, items []metadata.Item) (r metadata.PutResult) {
	if !t.c.write(ctx, "create "+items[0].Key.Family(), func(ctx context.Context) { r = t.Table.CreateAll(ctx, items) }) {
		return metadata.PutResult{Err: errDead}
	}
	return r
}

func kindOfObject(key string) string {
	switch {
	case strings.HasSuffix(key, ".seg"):
		return "segment"
	case strings.HasSuffix(key, ".snap"):
		return "snapshot"
	}
	return "mark"
}

// crashBatches are enough entries for a snapshot.
const crashBatches = 6

// life is one agent of the crash table, in this process.
type life struct {
	*agent.Agent
	cancel context.CancelFunc
	ended  chan error // one value
}

// crashConfig is of a cluster with the least that a start has to write. A restarted agent has the address of the one before.
func crashConfig(prefix string) agent.Config {
	return agent.Config{Version: "test", ClientAddress: "127.0.0.1:1", PeerAddress: "127.0.0.1:1", Prefix: prefix, Shards: 1, Slots: slots,
		FlushFreely: true, ProduceTimeout: 2 * time.Second, BlockCacheBytes: 8 << 20}
}

// begin makes the cluster or finds it, and runs an agent until it is ready or died is closed.
func begin(ctx context.Context, cfg agent.Config, bucket objectlog.Bucket, table metadata.Table, died <-chan struct{}) (*life, error) {
	if _, _, err := agent.Create(ctx, cfg, bucket, table); err != nil {
		return nil, err
	}
	a, err := agent.Open(ctx, cfg, bucket, table)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.Background())
	l := &life{Agent: a, cancel: cancel, ended: make(chan error, 1)}
	go func() { l.ended <- a.Run(running) }()
	gone := func() bool {
		select {
		case <-died:
			return true
		default:
			return false
		}
	}
	if !eventually(startTimeout, func() bool { return a.Ready() == nil || gone() }) {
		err = a.Ready()
	}
	if gone() {
		err = errDead
	}
	return l, err
}

// crashRun is one scenario on stores of its own.
type crashRun struct {
	t      *testing.T
	cfg    agent.Config
	bucket objectlog.Bucket
	table  metadata.Table
	c      *crash
	h      *history.History
	left   *sync.WaitGroup // dead agents that have not noticed yet
	sent   int
	lives  int // of successors
}

func newCrashRun(t *testing.T, at int, l landing, left *sync.WaitGroup) *crashRun {
	t.Helper()
	name := fmt.Sprintf("crash-%x-%d", time.Now().UnixMicro(), clusters.Add(1))
	bucket := directBucket(t, localstacktest.Shared(t, localstack.MinIO).Endpoint, name)
	table := directTable(t, localstacktest.Shared(t, localstack.Engine(*tableEngine)).Endpoint, name)
	if err := bucket.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &crashRun{t: t, cfg: crashConfig(name), bucket: bucket, table: table, h: history.New(), left: left,
		c: &crash{at: at, landing: l, died: make(chan struct{})}}
}

// live is the life that ends at the write: cluster, start, topic, records, snapshot, graceful stop.
func (r *crashRun) live() {
	ctx, cancel := context.WithTimeout(r.t.Context(), startTimeout)
	defer cancel()
	go func() { // what waits for a dead agent would wait long
		select {
		case <-r.c.died:
			cancel()
		case <-ctx.Done():
		}
	}()
	l, err := begin(ctx, r.cfg, crashBucket{r.bucket, r.c}, crashTable{r.table, r.c}, r.c.died)
	if l != nil {
		defer r.leave(l)
	}
	if err == nil {
		_, err = l.CreateTopic(ctx, topicName, 1, nil, false)
	}
	for range crashBatches {
		if err == nil {
			err = r.produce(ctx, l)
		}
	}
	if err == nil && !eventually(startTimeout, func() bool { return r.c.seen("put snapshot") > 0 || !r.c.alive() }) {
		err = errors.New("no snapshot was taken")
	}
	if err != nil && r.c.alive() {
		r.t.Errorf("the first life: %v", err)
	}
}

// leave stops an agent gracefully; one that died is left to find that out by itself.
func (r *crashRun) leave(l *life) {
	l.cancel()
	wait := func() {
		if err := <-l.ended; err != nil && r.c.alive() {
			r.t.Errorf("run: %v", err)
		}
	}
	gone := make(chan struct{})
	r.left.Go(func() { wait(); close(gone) })
	select {
	case <-gone:
	case <-r.c.died:
	}
}

// produce writes the next record and notes what becomes of it. Who produces through a dead agent learns nothing.
func (r *crashRun) produce(ctx context.Context, l *life) error {
	v := history.Value{Sequence: r.sent}
	r.sent++
	r.h.Send(0, v)
	b := agent.ProduceBatch{Topic: topicName, Expected: objectlog.NoOffset, FirstSequence: -1,
		Records: []objectlog.Record{{Value: []byte(v.String()), Timestamp: objectlog.NoTimestamp}}}
	request := agent.ProduceRequest{Batches: []agent.ProduceBatch{b}, Producer: agent.Producer{ID: objectlog.NoProducer}}
	result := l.Submit(ctx, request).Wait(ctx)[0]
	if result.Err != nil {
		r.h.Doubt(v)
		return result.Err
	}
	r.h.Ack(v, result.Positions[0].Offset)
	return nil
}

// succeed is the life behind it, on the stores as they are: it must start, hold what was acknowledged, once, and go on.
func (r *crashRun) succeed() (took time.Duration) {
	r.lives++
	ctx, cancel := context.WithTimeout(r.t.Context(), startTimeout)
	defer cancel()
	began := time.Now()
	l, err := begin(ctx, r.cfg, r.bucket, r.table, nil)
	if l != nil {
		defer func() {
			l.cancel()
			if err := <-l.ended; err != nil {
				r.t.Errorf("run: %v", err)
			}
		}()
	}
	if err != nil {
		r.t.Fatalf("the successor does not start: %v", err)
	}
	// With an answer to this it leads; a creation that was cut off it goes on with by itself.
	var topic metadata.Topic
	if !eventually(recoveryMax, func() bool {
		if _, err = l.CreateTopic(ctx, topicName, 1, nil, false); err != nil && !errors.Is(err, metadata.ReasonTopicExists) {
			return false
		}
		topic, err = l.Topic(ctx, topicName)
		return err == nil && topic.State == metadata.TopicActive
	}) {
		r.t.Fatalf("the successor does not lead, or has no topic: %+v, %v", topic, err)
	}
	r.c.mu.Lock()
	late := r.c.late
	r.c.late = nil
	r.c.mu.Unlock()
	if late != nil {
		late()
	}
	for i := range 2 {
		if err := r.produce(ctx, l); err != nil {
			r.t.Fatal(err)
		}
		if i == 0 {
			took = time.Since(began)
		}
	}
	r.read(ctx, l)
	return took
}

// read reads the partition from its beginning to its end.
func (r *crashRun) read(ctx context.Context, l *life) {
	reading, due := r.h.Reader(fmt.Sprint("successor ", r.lives)), r.h.Due()
	for next := objectlog.Offset(0); ; {
		start := agent.Start{Kind: agent.StartOffset, Offset: next}
		f := l.Fetch(ctx, agent.FetchRequest{Partitions: []agent.FetchPartition{{Topic: topicName, Start: start}}})[0]
		if f.Err != nil {
			r.t.Fatalf("fetch at %d: %v", next, f.Err)
		}
		for _, b := range f.Batches {
			err := objectlog.DecodeBatch(b, objectlog.Limits{}, func(o objectlog.Offset, record objectlog.Record) bool {
				if o >= next {
					reading.Read(history.Record{Partition: f.Partition, Offset: o, Value: string(record.Value)})
				}
				return true
			})
			if err != nil {
				r.t.Fatal(err)
			}
		}
		if next = f.Next; next >= f.HighWatermark {
			break
		}
	}
	reading.End(due)
}

func TestAgentThatDiesAtAnyWriteIsSucceeded(t *testing.T) {
	t.Parallel()
	var left sync.WaitGroup
	t.Cleanup(left.Wait)
	dry := newCrashRun(t, 0, never, &left)
	dry.live()
	dry.succeed()
	writes := dry.c.writes
	t.Logf("%d writes: %s", len(writes), strings.Join(writes, ", "))
	for _, l := range []landing{never, now, later} {
		t.Run(string(l), func(t *testing.T) {
			t.Parallel()
			sum := &crashSum{worst: -1}
			t.Cleanup(func() { results.add(sum.row("F02 dead at each write, "+string(l), len(writes))) })
			for n := range writes {
				t.Run(fmt.Sprintf("%02d %s", n+1, writes[n]), func(t *testing.T) {
					t.Parallel()
					r := newCrashRun(t, n+1, l, &left)
					r.live()
					took := r.succeed()
					r.succeed() // what landed late is replayed, too
					if took > recoveryMax {
						t.Errorf("the first record behind the start took %s, want at most %s", took, recoveryMax)
					}
					found := r.h.Check()
					if len(found) > 0 {
						t.Errorf("anomalies:\n%s", found)
					}
					sum.add(r.h.Tally(), found, took)
				})
			}
		})
	}
}

// crashSum adds up the histories of one way of landing.
type crashSum struct {
	mu    sync.Mutex // all below
	sum   history.Tally
	found history.Findings
	worst time.Duration
}

func (s *crashSum) add(one history.Tally, found history.Findings, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worst = max(s.worst, took)
	s.sum.Acked, s.sum.Unknown, s.sum.Failed = s.sum.Acked+one.Acked, s.sum.Unknown+one.Unknown, s.sum.Failed+one.Failed
	s.found = append(s.found, found...)
}

func (s *crashSum) row(name string, writes int) row {
	s.mu.Lock()
	defer s.mu.Unlock()
	return row{name, *seed, s.sum, s.found, s.worst, writes}
}
