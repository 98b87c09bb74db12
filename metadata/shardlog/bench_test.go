package shardlog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// wide is the state of 100,000 partitions with 10 rows and a producer each.
func wide(b *testing.B) *metadata.State {
	const partitions, part = 100_000, 10_000
	state, topic := metadata.NewState(metadata.Config{}), objectlog.UUID{1}
	apply := func(c metadata.Command) {
		if _, err := state.Apply(metadata.Position{Time: 1}, c); err != nil {
			b.Fatal(err)
		}
	}
	apply(metadata.AddPartitions{Topic: topic, To: partitions}.Command())
	batch, counter := make([]byte, 100), uint64(0)
	for n := range int32(10) {
		for from := 0; from < partitions; from += part {
			runs := make([]objectlog.SegmentRun, part)
			for i := range runs {
				runs[i] = objectlog.SegmentRun{Topic: topic, Partition: objectlog.Partition(from + i), Batches: [][]byte{batch},
					Rows: []objectlog.BatchRow{{Bytes: 100, Records: 1, MaxTimestamp: 5000, ProducerID: 7, FirstSequence: n, Expected: objectlog.NoOffset}}}
			}
			counter++
			_, sections := objectlog.EncodeSegment(runs)
			c := metadata.Commit{Ordinal: 1, Segment: objectlog.SegmentName{Boot: objectlog.UUID{2}, Counter: counter}, Section: sections[0].Ref}.Command()
			c.Footer = sections[0].Bytes
			apply(c)
		}
	}
	return state
}

// BenchmarkHashState is what a fingerprint of a wide state costs beside the Core.
func BenchmarkHashState(b *testing.B) {
	e := HashState{names: []string{"state"}, views: []metadata.View{wide(b).View()}}
	e.size = int64(len(e.views[0].Encode(nil)))
	for b.Loop() {
		e.Hash()
	}
	b.ReportMetric(float64(e.size), "bytes")
}

// BenchmarkHashStateView is what it costs in the Core's step.
func BenchmarkHashStateView(b *testing.B) {
	state := wide(b)
	for b.Loop() {
		state.View()
	}
}

// distant is a table that is some time away.
type distant struct {
	metadata.Table
	away    time.Duration
	entries atomic.Int64 // bytes put into slots
	puts    atomic.Int64
	took    atomic.Int64 // nanoseconds of all puts: a busy machine wakes late who waits
}

func (d *distant) Put(ctx context.Context, item metadata.Item, cond metadata.If) metadata.PutResult {
	began := time.Now()
	defer func() { d.puts.Add(1); d.took.Add(int64(time.Since(began))) }()
	<-time.After(d.away)
	if item.Key != metadata.LeaseKey(testShard) {
		d.entries.Add(int64(len(item.Value)))
	}
	return d.Table.Put(ctx, item, cond)
}

// rowsEach is how many batches a segment has for the shard: one in each of so many partitions.
const rowsEach = 256

// proposer is what an agent is to the shard: it has one proposal under way.
type proposer struct {
	topic    objectlog.UUID
	ordinal  int64
	counter  uint64
	sequence int32
	random   *rand.Rand
	runs     []objectlog.SegmentRun
}

func newProposer(topic objectlog.UUID, ordinal int64) *proposer {
	p := &proposer{topic: topic, ordinal: ordinal, random: rand.New(rand.NewPCG(1, uint64(ordinal))), runs: make([]objectlog.SegmentRun, rowsEach)}
	for i := range p.runs {
		p.runs[i] = objectlog.SegmentRun{Shard: testShard, Topic: topic, Partition: objectlog.Partition(i), Batches: make([][]byte, 1), Rows: make([]objectlog.BatchRow, 1)}
	}
	return p
}

// commit is that of the next segment. Its batches are those of an idempotent producer; their bytes do not reach the shard log.
func (p *proposer) commit(body []byte, now time.Time) metadata.Command {
	const records = 4
	for i := range p.runs {
		size := 500 + p.random.IntN(len(body)-500)
		p.runs[i].Batches[0] = body[:size]
		p.runs[i].Rows[0] = objectlog.BatchRow{Bytes: int32(size), Records: records, MaxTimestamp: objectlog.Timestamp(now.UnixMilli() - p.random.Int64N(250)),
			ProducerID: objectlog.ProducerID(1_000 + p.ordinal), FirstSequence: p.sequence, CRC: p.random.Uint32(), Expected: objectlog.NoOffset}
	}
	p.counter++
	p.sequence += records
	_, sections := objectlog.EncodeSegment(p.runs)
	c := metadata.Commit{Ordinal: p.ordinal, Segment: objectlog.SegmentName{Boot: objectlog.UUID{byte(p.ordinal)}, Counter: p.counter}, Section: sections[0].Ref}.Command()
	c.Footer = sections[0].Bytes
	return c
}

// refused says what of a commit did not come into the log.
func (p *proposer) refused(result any) error {
	done, ok := result.(metadata.CommitResult)
	if !ok || len(done.Batches) != rowsEach {
		return fmt.Errorf("commit %d of agent %d: %v", p.counter, p.ordinal, result)
	}
	for i, r := range done.Batches {
		if r.Reason != metadata.ReasonNone || r.Duplicate {
			return fmt.Errorf("commit %d of agent %d: batch %d: %+v", p.counter, p.ordinal, i, r)
		}
	}
	return nil
}

// BenchmarkSequence is how many batches one shard puts in order. Its appends follow one another, so what counts is the table's latency, and how
// many agents' proposals meet in one entry. An entry above 8 KiB refers to footers, so its bytes per row fall.
func BenchmarkSequence(b *testing.B) {
	for _, away := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond} {
		for _, agents := range []int{1, 3, 8} {
			b.Run(fmt.Sprintf("put=%s/agents=%d", away, agents), func(b *testing.B) { sequence(b, away, agents) })
		}
	}
}

func sequence(b *testing.B, away time.Duration, agents int) {
	table := &distant{away: away}
	s := leader(b, table)
	topic, body := objectlog.UUID{1}, make([]byte, 1000)
	propose := func(c metadata.Command) any {
		receipt, err := s.Propose(b.Context(), []metadata.Command{c})
		if err != nil {
			return err
		}
		return receipt.Results[0]
	}
	if err, failed := propose(metadata.AddPartitions{Topic: topic, To: rowsEach}.Command()).(error); failed {
		b.Fatal(err)
	}
	var (
		all  sync.WaitGroup
		left atomic.Int64
	)
	left.Store(int64(b.N))
	from, bytes := s.Status().Applied, table.entries.Load()
	b.ResetTimer()
	for i := range agents {
		all.Go(func() {
			p := newProposer(topic, int64(i+1))
			for left.Add(-1) >= 0 {
				if err := p.refused(propose(p.commit(body, time.Now()))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	rows := float64(rowsEach * b.N)
	b.ReportMetric(rows/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(s.Status().Applied-from)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(table.entries.Load()-bytes)/rows, "entry-bytes/row")
	b.ReportMetric(float64(table.took.Load())/float64(table.puts.Load())/1e6, "put-ms")
	b.ReportMetric(0, "ns/op") // of a proposal beside others
}

// leader runs a shard that leads until the benchmark ends.
func leader(b *testing.B, table *distant) *Shard {
	r := newRig(b, 4096)
	table.Table = r.table
	state := metadata.NewState(metadata.Config{})
	s := Open(Config{Shard: testShard, Boot: objectlog.UUID{1}, ClaimAtOnce: true, Random: rand.Uint64}, objectlog.Keys{}, table, r.bucket,
		[]Registration{{Name: "state", From: metadata.StateFrom, To: metadata.StateTo, Machine: state}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	running{Shard: s}.await(b, RoleLeading)
	return s
}
