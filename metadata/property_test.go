package metadata

import (
	"bytes"
	"flag"
	"math"
	"reflect"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
	"pgregory.net/rapid"
)

// world runs one sequence of commands three ways: by reference, with rows where they fit, and through the model.
type world struct {
	model     *model
	referring *shard // applies what was proposed
	dense     *shard // applies what Prepare made of it
	log       []Command
	proposed  []Command // commits, for sending them again
	counter   [4]uint64
	views     []seenView
}

type seenView struct {
	view    View
	encoded []byte
}

var worldConfig = Config{ProducersMax: 8}

func TestStateDoesWhatTheModelDoes(t *testing.T) {
	for name, value := range map[string]string{"rapid.checks": "1000", "rapid.steps": "100"} {
		if f := flag.Lookup(name); f.Value.String() == f.DefValue {
			if err := flag.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	decided := map[BatchResult]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := &world{model: newModel(worldConfig.ProducersMax), referring: newShard(t, worldConfig), dense: newShard(t, worldConfig)}
		for n := 1; n <= 3; n++ {
			c := AddPartitions{Topic: id(n), To: 3}
			w.model.addPartitions(c)
			w.do(t, c.Command(), nil)
		}
		t.Repeat(map[string]func(*rapid.T){
			"add":     w.add,
			"drop":    w.drop,
			"commit":  w.commit,
			"commit2": w.commit, // most of what happens
			"commit3": w.commit,
			"resend":  w.resend,
			"trim":    w.trim,
			"bounds":  w.bounds,
			"catalog": w.catalog,
			"view":    w.view,
			"restore": w.restore,
		})
		w.check(t)
		w.count(decided)
	})
	for r := ReasonNone; r <= ReasonOldSequence; r++ {
		if r != ReasonTopicExists && r != ReasonTopicChanged && r != ReasonInvalid && decided[BatchResult{Reason: r}] == 0 {
			t.Errorf("no batch met reason %d: the commands drawn do not test it", r)
		}
	}
	t.Logf("decisions: %v", decided)
}

// count adds up the remembered decisions by reason.
func (w *world) count(decided map[BatchResult]int) {
	for _, b := range w.model.boots {
		for _, results := range b.results {
			for _, r := range results {
				decided[BatchResult{Reason: r.Reason, Duplicate: r.Duplicate}]++
			}
		}
	}
}

func (w *world) do(t *rapid.T, c Command, due any) {
	w.log = append(w.log, c)
	short, err := w.dense.Prepare(c)
	if err != nil {
		t.Fatalf("prepare kind %d: %v", c.Kind, err)
	}
	short.Footer = nil
	for _, way := range []struct {
		shard   *shard
		command Command
	}{{w.referring, c}, {w.dense, short}} {
		got, err := way.shard.Apply(way.shard.position(), way.command)
		if err != nil {
			t.Fatalf("apply kind %d: %v", way.command.Kind, err)
		}
		if due != nil && !reflect.DeepEqual(got, due) {
			t.Fatalf("kind %d:\n got %+v\nwant %+v", way.command.Kind, got, due)
		}
	}
}

func drawTopic(t *rapid.T) objectlog.UUID { return id(rapid.IntRange(1, 3).Draw(t, "topic")) }

func (w *world) add(t *rapid.T) {
	from := rapid.Int32Range(0, 4).Draw(t, "from")
	c := AddPartitions{Topic: drawTopic(t), From: from, To: from + rapid.Int32Range(1, 2).Draw(t, "more")}
	w.model.addPartitions(c)
	w.do(t, c.Command(), nil)
}

func (w *world) drop(t *rapid.T) {
	if rapid.IntRange(0, 15).Draw(t, "spare") != 0 {
		return // a topic does not come back for a day
	}
	c := DropTopic{Topic: drawTopic(t)}
	w.model.drop(c.Topic, w.referring.now+1)
	w.do(t, c.Command(), nil)
}

func (w *world) commit(t *rapid.T) {
	ordinal := max(w.model.retired, rapid.Int64Range(1, 3).Draw(t, "ordinal"))
	w.counter[ordinal] += rapid.Uint64Range(1, 2).Draw(t, "counter")
	var runs []objectlog.Run
	used := map[[2]int]bool{}
	for range rapid.IntRange(1, 4).Draw(t, "runs") {
		topic, partition := rapid.IntRange(1, 3).Draw(t, "topic"), rapid.IntRange(0, 2).Draw(t, "partition")
		if used[[2]int{topic, partition}] {
			continue
		}
		used[[2]int{topic, partition}] = true
		var rows []objectlog.BatchRow
		for range rapid.IntRange(1, 8).Draw(t, "rows") {
			rows = append(rows, w.drawRow(t, topic, partition))
		}
		runs = append(runs, runOf(topic, partition, rows...))
	}
	c := commitOf(ordinal, w.counter[ordinal], runs...)
	w.proposed = append(w.proposed, c)
	w.propose(t, c)
}

// drawRow draws a batch that is often acceptable: next in sequence, a duplicate, at the expected offset.
func (w *world) drawRow(t *rapid.T, topic, partition int) objectlog.BatchRow {
	row := plain(rapid.Int32Range(1, 3).Draw(t, "records"))
	row.MaxTimestamp = objectlog.Timestamp(rapid.Int64Range(-1, 50).Draw(t, "time"))
	p := w.model.topics[id(topic)][objectlog.Partition(partition)]
	if rapid.IntRange(0, 4).Draw(t, "expects") == 0 {
		row.Expected = objectlog.Offset(rapid.Int64Range(0, 9).Draw(t, "expected"))
		if p != nil && rapid.Bool().Draw(t, "rightly") {
			row.Expected = p.next()
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "producing") == 0 {
		return row
	}
	row.ProducerID = objectlog.ProducerID(rapid.Int64Range(0, 1).Draw(t, "producer"))
	row.ProducerEpoch = int16(rapid.IntRange(0, 10).Draw(t, "epoch") / 10)
	row.FirstSequence = rapid.SampledFrom([]int32{0, 0, 1, 2, 5, math.MaxInt32 - 2, math.MaxInt32}).Draw(t, "sequence")
	if p != nil && p.producers[row.ProducerID] != nil {
		known := p.producers[row.ProducerID]
		switch rapid.IntRange(0, 6).Draw(t, "sequel") {
		case 0, 1:
			again := known.batches[max(0, len(known.batches)-1-rapid.IntRange(0, 7).Draw(t, "back"))]
			row.ProducerEpoch, row.FirstSequence, row.Records = known.epoch, again.first, again.records
		case 2, 3, 4, 5:
			last := known.batches[len(known.batches)-1]
			row.ProducerEpoch, row.FirstSequence = known.epoch, sequenceAfter(last.first, last.records)
		}
	}
	return row
}

func (w *world) propose(t *rapid.T, c Command) {
	ref, _, err := w.dense.Reference(c)
	if err != nil {
		t.Fatal(err)
	}
	section, err := objectlog.DecodeSection(c.Footer, ref.Section)
	if err != nil {
		t.Fatal(err)
	}
	var head Commit
	r := newReader(c.Body)
	head.decode(&r)
	at := Position{Seq: w.dense.seq + 1, Epoch: 3, Time: w.dense.now + 1}
	w.do(t, c, w.model.commit(at, head.Ordinal, ref.Segment, section))
}

func (w *world) resend(t *rapid.T) {
	if len(w.proposed) > 0 {
		w.propose(t, rapid.SampledFrom(w.proposed).Draw(t, "again"))
	}
}

func (w *world) trim(t *rapid.T) {
	c := Trim{Topic: drawTopic(t), Partition: objectlog.Partition(rapid.IntRange(0, 3).Draw(t, "partition")),
		LogStart: objectlog.Offset(rapid.Int64Range(0, 30).Draw(t, "log start"))}
	w.do(t, c.Command(), w.model.trim(c))
}

// bounds raises fences and watermarks and expires producers.
func (w *world) bounds(t *rapid.T) {
	ordinal := rapid.Int64Range(1, 3).Draw(t, "ordinal")
	switch rapid.IntRange(0, 15).Draw(t, "bound") {
	case 0:
		c := RetireBoots{Below: ordinal}
		w.model.retired = max(w.model.retired, ordinal)
		w.do(t, c.Command(), nil)
	case 1, 2, 3:
		c := Fence{Ordinal: ordinal, Below: w.counter[ordinal] + rapid.Uint64Range(0, 2).Draw(t, "below")}
		w.model.fence(c)
		w.do(t, c.Command(), nil)
	case 4, 5, 6, 7, 8:
		c := ExpireProducers{Before: w.dense.now - objectlog.Timestamp(rapid.Int64Range(-1, 25).Draw(t, "age"))}
		w.model.expire(c.Before)
		w.do(t, c.Command(), nil)
	}
}

// catalog commands are judged by the catalog's tests; here they have to come out of a replay and a snapshot the same.
func (w *world) catalog(t *rapid.T) {
	topic, n := drawTopic(t), rapid.Int32Range(1, 5).Draw(t, "partitions")
	w.do(t, rapid.SampledFrom([]Command{
		CreateTopic{ID: topic, Name: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"), Partitions: n}.Command(),
		AlterTopic{ID: topic, Settings: Settings{"retention.ms": "7", "retention.bytes": "8"}}.Command(),
		GrowTopic{ID: topic, Partitions: n}.Command(), ActivateTopic{ID: topic, Partitions: n}.Command(),
		DeleteTopic{ID: topic}.Command(), ForgetTopic{ID: topic}.Command(),
	}).Draw(t, "catalog command"), nil)
}

func (w *world) view(*rapid.T) {
	v := w.dense.View()
	w.views = append(w.views, seenView{v, v.Encode(nil)})
}

// restore goes on with what a snapshot holds instead of the live state.
func (w *world) restore(t *rapid.T) {
	fresh := NewState(worldConfig)
	if err := fresh.Restore(w.dense.View().Encode(nil)); err != nil {
		t.Fatal(err)
	}
	w.dense.State = fresh
}

func (w *world) check(t *rapid.T) {
	for topic, partitions := range w.model.topics {
		for n, p := range partitions {
			got, ok := w.dense.Partition(topic, n)
			if !ok || got != p.state() {
				t.Fatalf("partition %s/%d: got %+v, %v; want %+v", topic, n, got, ok, p.state())
			}
			batches := w.dense.Batches(nil, topic, n, p.logStart, 1<<40)
			if kept := p.kept(); len(batches) != len(kept) || len(kept) > 0 && !reflect.DeepEqual(batches, kept) {
				t.Fatalf("batches of %s/%d:\n got %+v\nwant %+v", topic, n, batches, kept)
			}
		}
	}
	live := w.dense.encoded()
	if !bytes.Equal(w.referring.encoded(), live) {
		t.Fatal("rows by reference and rows in the entry led to different states")
	}
	replayed := newShard(t, worldConfig)
	for _, c := range w.log {
		replayed.do(c)
	}
	if !bytes.Equal(replayed.encoded(), live) {
		t.Fatal("the replayed state is not the live state")
	}
	restored := NewState(worldConfig)
	if err := restored.Restore(live); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(restored.View().Encode(nil), live) {
		t.Fatal("the restored state is not the live state")
	}
	if restored.producers != w.model.producers() || w.dense.producers != restored.producers {
		t.Fatalf("producers: live %d, restored %d, model %d", w.dense.producers, restored.producers, w.model.producers())
	}
	for i, seen := range w.views {
		if !bytes.Equal(seen.view.Encode(nil), seen.encoded) {
			t.Fatalf("view %d of %d changed after it was taken", i, len(w.views))
		}
	}
}
