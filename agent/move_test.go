package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/metadata"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/objectlog"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
	"github.com/splashdam/splashdam/queues"
)

// command appends commands to the shard of a topic's partition.
func (r running) command(t *testing.T, topic string, p objectlog.Partition, commands ...metadata.Command) []queues.Result {
	t.Helper()
	id := topicID(t, r, topic)
	results, err := r.propose(t.Context(), metadata.ShardOf(id, p, len(r.shards)), commands...)
	if err != nil {
		t.Fatal(err)
	}
	var all []queues.Result
	for _, result := range results {
		all = append(all, result.(queues.Result))
	}
	return all
}

// reject locks the first n records of a partition for a group and rejects them.
func (r running) reject(t *testing.T, group, topic string, p objectlog.Partition, n int) {
	t.Helper()
	k := queues.Key{Topic: topicID(t, r, topic), Partition: p, Group: group}
	r.command(t, topic, p, queues.Acquire{Key: k, Lock: 7, Wait: time.Minute, Limit: int32(n), Window: 1000, Until: objectlog.Offset(n),
		Policy: queues.Policy{Deliveries: 3, DeadLetters: topic + "-dlq"}}.Command(),
		queues.Settle{Key: k, Items: []queues.Settlement{{From: 0, To: objectlog.Offset(n), Lock: 7, Verdict: queues.Reject, Error: "no such user"}}}.Command())
}

// records reads all of a partition; none where there is no such topic.
func (r running) records(t *testing.T, topic string, p objectlog.Partition) []objectlog.Record {
	t.Helper()
	f := r.Fetch(t.Context(), FetchRequest{Partitions: []FetchPartition{{Topic: topic, Partition: p, Start: Start{Kind: StartEarliest}}}})[0]
	var all []objectlog.Record
	for _, b := range f.Batches {
		err := objectlog.DecodeBatch(b, objectlog.Limits{}, func(_ objectlog.Offset, x objectlog.Record) bool { all = append(all, x); return true })
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func valuesOf(records []objectlog.Record) string {
	var all []string
	for _, r := range records {
		all = append(all, string(r.Value))
	}
	return strings.Join(all, " ")
}

// left counts what is failed or on its way of all queues.
func (r running) left() int64 {
	n := int64(0)
	for _, s := range r.shards {
		s.log.Read(func(metadata.Seq) {
			s.queues.Queues(queues.Key{}, func(q *queues.Queue) bool { n += q.Count(queues.Failed) + q.Count(queues.Moving); return true })
		})
	}
	return n
}

// moved waits until nothing is left of what was there before the call.
func (r running) moved(t *testing.T) {
	t.Helper()
	for i := range r.shards {
		if err := r.current(t.Context(), objectlog.Shard(i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 2*time.Minute, "everything is moved", func() bool { return r.left() == 0 })
}

func TestRejectedRecordArrivesOnceWithWhatWentWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 2, "max.message.bytes", "5000")
		b := values("orders", 1, "a", "b")
		b.Records[0] = objectlog.Record{Key: []byte("k"), Value: []byte("a"), Timestamp: 42, Headers: []objectlog.Header{{Key: "trace", Value: []byte("1")}}}
		if r := a.produce(t, b); r.Err != nil {
			t.Fatal(r.Err)
		}
		a.reject(t, "email", "orders", 1, 2)
		a.moved(t)
		got := a.records(t, "orders-dlq", 1)
		if valuesOf(got) != "a b" || string(got[0].Key) != "k" || got[0].Timestamp != 42 || got[0].Headers[0].Key != "trace" {
			t.Fatalf("dead letters %+v", got)
		}
		l := queues.ReadLetter(got[0])
		if l.Topic != "orders" || l.Partition != 1 || l.Offset != 0 || l.Group != "email" || l.Deliveries != 1 || l.Reason != "rejected" || l.Error != "no such user" || l.First != l.Last || l.First <= 0 {
			t.Errorf("it says %+v", l)
		}
		topic, err := a.Topic(t.Context(), "orders-dlq")
		if err != nil || topic.Partitions != 2 || !topic.Settings.DeadLetters() || topic.Settings.RetentionMillis() != -1 || topic.Settings.MessageBytesMax() < 5000+2048 {
			t.Errorf("the topic made for them: %+v, %v", topic, err)
		}
		if u := a.DeadLetterUsage(); u.Written != 2 || u.Stuck != 0 || len(u.Topics) != 1 || u.Topics[0] != (DeadLetterCount{Topic: "orders-dlq", Records: 2}) {
			t.Errorf("usage %+v", u)
		}
	})
}

func TestSourceIsFinishedOnlyWhenTheCopyIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		a := start(t, s, testConfig())
		a.topic(t, "orders", 1)
		a.produce(t, values("orders", 0, "a"))
		s.failBucket(func(r objmem.Request) objmem.Fault {
			if r.Op == objmem.OpPut && strings.Contains(r.Key, "/seg/") {
				return objmem.FailBefore
			}
			return objmem.None
		})
		a.reject(t, "email", "orders", 0, 1)
		<-time.After(time.Minute)
		if a.left() != 1 || len(a.records(t, "orders-dlq", 0)) != 0 {
			t.Errorf("%d records left while none can be written", a.left())
		}
		if u := a.DeadLetterUsage(); u.Stuck != 1 {
			t.Errorf("usage %+v", u)
		}
		s.heal()
		a.moved(t)
		want(t, "dead letters", valuesOf(a.records(t, "orders-dlq", 0)), "a")
	})
}

// TestCrashAtEveryWriteLeavesOneCopy ends the agent at each of its writes, which had or had not arrived, and lets another one go on.
func TestCrashAtEveryWriteLeavesOneCopy(t *testing.T) {
	for _, landed := range []bool{true, false} {
		for n := int64(1); n <= 12; n++ {
			t.Run(fmt.Sprintf("landed %t, write %d", landed, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newStores()
					a := start(t, s, testConfig())
					a.topic(t, "orders", 1)
					a.topic(t, "orders-dlq", 1)
					a.produce(t, values("orders", 0, "a", "b", "c"))
					a.crash(s, n, landed)
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					k := queues.Key{Topic: topicID(t, a, "orders"), Group: "email"}
					_, _ = a.propose(ctx, metadata.ShardOf(k.Topic, 0, len(a.shards)), rejection(k, 3)...)
					<-time.After(20 * time.Second)
					a.kill()
					s.heal()
					b := start(t, s, testConfig())
					b.propose(t.Context(), metadata.ShardOf(k.Topic, 0, len(b.shards)), rejection(k, 3)...)
					b.moved(t)
					<-time.After(time.Second)
					want(t, "dead letters", valuesOf(b.records(t, "orders-dlq", 0)), "a b c")
				})
			})
		}
	}
}

func rejection(k queues.Key, n objectlog.Offset) []metadata.Command {
	return []metadata.Command{
		queues.Acquire{Key: k, Lock: 7, Wait: time.Hour, Limit: int32(n), Window: 1000, Until: n, Policy: queues.Policy{Deliveries: 3, DeadLetters: "orders-dlq"}}.Command(),
		queues.Settle{Key: k, Items: []queues.Settlement{{From: 0, To: n, Lock: 7, Verdict: queues.Reject}}}.Command(),
	}
}

// crash lets nothing behind the n-th write arrive from now on, and of the n-th no answer.
func (r running) crash(s stores, n int64, landed bool) {
	var writes atomic.Int64
	fault := func() (before, after bool) {
		switch i := writes.Add(1); {
		case i < n:
			return false, false
		case i == n:
			return !landed, landed
		}
		return true, false
	}
	s.failTable(func(q metamem.Request) metamem.Fault {
		if q.Op == metamem.OpPut && (strings.HasPrefix(q.Key.PK, "ring") || strings.HasPrefix(q.Key.PK, "producers")) || writes.Load() >= n && q.Op == metamem.OpPut {
			if before, after := fault(); before {
				return metamem.FailBefore
			} else if after {
				return metamem.FailAfter
			}
		}
		return metamem.None
	})
	s.failBucket(func(q objmem.Request) objmem.Fault {
		if q.Op == objmem.OpPut {
			if before, after := fault(); before {
				return objmem.FailBefore
			} else if after {
				return objmem.FailAfter
			}
		}
		return objmem.None
	})
}

func TestTwoMoversOfOneQueueLeaveOneCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 1)
		all[0].topic(t, "orders-dlq", 1)
		var texts []string
		for i := range 30 {
			texts = append(texts, fmt.Sprint(i))
		}
		all[0].produce(t, values("orders", 0, texts...))
		k := queues.Key{Topic: topicID(t, all[0].running, "orders"), Group: "email"}
		shard := metadata.ShardOf(k.Topic, 0, 4)
		for i := range 3 { // whoever leads, each of them works on the queue as if it did
			<-time.After(time.Second)
			all[i].command(t, "orders", 0, queues.Acquire{Key: k, Lock: uint64(i + 1), Wait: time.Minute, Limit: 10, Window: 1000, Until: objectlog.Offset(10 * (i + 1)),
				Policy: queues.Policy{Deliveries: 3, DeadLetters: "orders-dlq"}}.Command(),
				queues.Settle{Key: k, Items: []queues.Settlement{{From: objectlog.Offset(10 * i), To: objectlog.Offset(10 * (i + 1)), Lock: uint64(i + 1), Verdict: queues.Reject}}}.Command())
			for _, m := range all {
				zombie := newMover(shard, m.shards[shard], func() objectlog.Epoch { return 1 })
				for range 5 {
					m.moveQueue(t.Context(), zombie, k)
				}
			}
		}
		for _, m := range all {
			m.moved(t)
		}
		want(t, "dead letters", valuesOf(all[1].records(t, "orders-dlq", 0)), strings.Join(texts, " "))
	})
}

func TestLeaderThatWasReplacedWritesNoSecondCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 1)
		all[0].topic(t, "orders-dlq", 1)
		all[0].produce(t, values("orders", 0, "a", "b", "c"))
		<-time.After(time.Minute)
		k := queues.Key{Topic: topicID(t, all[0].running, "orders"), Group: "email"}
		shard := metadata.ShardOf(k.Topic, 0, 4)
		old, others := leaderOf(t, all, shard)
		to := queues.Place{Topic: topicID(t, all[0].running, "orders-dlq")}
		// What the old leader has in hand when it stands still.
		in := &routeSent{}
		for i, v := range []string{"a", "b", "c"} {
			in.letters = append(in.letters, letter{queues.Piece{From: objectlog.Offset(i), Move: &queues.Move{To: to, Producer: 5000, Sequence: int32(i)}},
				objectlog.Record{Value: []byte(v), Timestamp: 1}})
		}
		var items []queues.Departure
		for i := range in.letters {
			items = append(items, queues.Departure{Offset: objectlog.Offset(i), To: to, Producer: 5000})
		}
		old.command(t, "orders", 0, append(rejection(k, 3), queues.MoveOut{Key: k, Items: items}.Command())...)
		_ = old.shards[shard].replica.Resign(t.Context())
		others[0].moved(t)
		old.sendRoutes(t.Context(), []*routeSent{in})
		want(t, "written again", in.arrived, 3)
		want(t, "dead letters", valuesOf(others[0].records(t, "orders-dlq", 0)), "a b c")
	})
}

func TestDeadLetterTopicThatWasDeletedIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		a := start(t, s, testConfig())
		a.topic(t, "orders", 1)
		a.topic(t, "orders-dlq", 1)
		a.produce(t, values("orders", 0, "a", "b"))
		k := queues.Key{Topic: topicID(t, a, "orders"), Group: "email"}
		to := queues.Place{Topic: topicID(t, a, "orders-dlq")}
		if err := a.DeleteTopic(t.Context(), "orders-dlq", 0); err != nil {
			t.Fatal(err)
		}
		// One was on its way to the old one.
		a.command(t, "orders", 0, append(rejection(k, 2), queues.MoveOut{Key: k, Items: []queues.Departure{{Offset: 1, To: to, Producer: 5000}}}.Command())...)
		a.moved(t)
		got := strings.Fields(valuesOf(a.records(t, "orders-dlq", 0)))
		slices.Sort(got)
		want(t, "dead letters in the new one", strings.Join(got, " "), "a b")
	})
}

func TestOwnTopicThatIsNamedForDeadLettersIsMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		a.topic(t, "orders-dlq", 3, "retention.ms", "3600000")
		a.produce(t, values("orders", 0, "a"))
		a.reject(t, "email", "orders", 0, 1)
		a.moved(t)
		topic, err := a.Topic(t.Context(), "orders-dlq")
		if err != nil || !topic.Settings.DeadLetters() || topic.Settings.RetentionMillis() != 3600000 || topic.Partitions != 3 {
			t.Errorf("%+v, %v", topic, err)
		}
	})
}

func TestRecordThatTheLogDoesNotHoldAnyMoreIsFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		a.topic(t, "orders-dlq", 1)
		a.produce(t, values("orders", 0, "a"))
		a.produce(t, values("orders", 0, "b"))
		a.produce(t, values("orders", 0, "c"))
		k := queues.Key{Topic: topicID(t, a, "orders"), Group: "email"}
		if _, err := a.TrimPartition(t.Context(), "orders", 0, 2); err != nil {
			t.Fatal(err)
		}
		to := queues.Place{Topic: topicID(t, a, "orders-dlq")}
		// One was on its way already: whoever has it in hand may write it, so its place is taken by a note.
		a.command(t, "orders", 0, append(rejection(k, 3), queues.MoveOut{Key: k, Items: []queues.Departure{{Offset: 1, To: to, Producer: 5000}}}.Command())...)
		a.moved(t)
		got := a.records(t, "orders-dlq", 0)
		if len(got) != 2 || got[0].Value != nil || queues.ReadLetter(got[0]).Offset != 1 || !strings.Contains(queues.ReadLetter(got[0]).Error, "retention") || string(got[1].Value) != "c" {
			t.Errorf("dead letters %+v", got)
		}
	})
}

func TestRecordThatIsTooLargeIsKeptUntilThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := captureLog(t)
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		a.topic(t, "orders-dlq", 1, "max.message.bytes", "600", "compression.type", "uncompressed")
		a.produce(t, values("orders", 0, strings.Repeat("x", 1000), "small"))
		a.reject(t, "email", "orders", 0, 2)
		<-time.After(5 * time.Minute)
		want(t, "the other one", valuesOf(a.records(t, "orders-dlq", 0)), "small")
		if u := a.DeadLetterUsage(); u.Stuck != 1 || u.Written != 1 || a.left() != 1 {
			t.Errorf("usage %+v, %d left", u, a.left())
		}
		lines := log.take("can't be moved")
		if len(lines) < 4 || len(lines) > 6 || !strings.Contains(lines[0], "orders/0/0") || !strings.Contains(lines[0], "raise max.message.bytes of orders-dlq, which is 600") || !strings.Contains(lines[0], "email") {
			t.Errorf("log of 5 minutes: %q", lines)
		}
		_, err := a.AlterTopic(t.Context(), "orders-dlq", 0, func(s metadata.Settings) (metadata.Settings, error) { s["max.message.bytes"] = "2000"; return s, nil }, false)
		if err != nil {
			t.Fatal(err)
		}
		a.moved(t)
		want(t, "records", len(a.records(t, "orders-dlq", 0)), 2)
		if u := a.DeadLetterUsage(); u.Stuck != 0 {
			t.Errorf("usage %+v", u)
		}
	})
}

func TestLogTellsOnceInAWhileOfAQueueManyOfWhoseRecordsAreHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := captureLog(t)
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		a.topic(t, "orders-dlq", 1, "max.message.bytes", "70", "compression.type", "uncompressed")
		a.fill(t, "orders", 1, 200)
		a.reject(t, "email", "orders", 0, 200)
		a.reject(t, "other", "orders", 0, 200)
		<-time.After(5 * time.Minute)
		if u := a.DeadLetterUsage(); u.Stuck != 400 {
			t.Errorf("usage %+v", u)
		}
		if lines := log.take("can't be moved"); len(lines) < 8 || len(lines) > 12 {
			t.Errorf("%d lines in 5 minutes of two queues", len(lines))
		}
	})
}

func TestRouteWhoseProducerThePartitionHasForgottenIsTakenAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		a.topic(t, "orders-dlq", 1)
		a.produce(t, values("orders", 0, "a", "b"))
		// The partition knows the producer from elsewhere, at another sequence.
		other := values("orders-dlq", 0, "other")
		other.FirstSequence = 70
		if r := a.Submit(t.Context(), ProduceRequest{Producer: Producer{ID: 5000}, Batches: []ProduceBatch{other}}).Wait(t.Context())[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
		k := queues.Key{Topic: topicID(t, a, "orders"), Group: "email"}
		to := queues.Place{Topic: topicID(t, a, "orders-dlq")}
		a.command(t, "orders", 0, append(rejection(k, 2), queues.MoveOut{Key: k, Items: []queues.Departure{{Offset: 0, To: to, Producer: 5000}, {Offset: 1, To: to, Producer: 5000}}}.Command())...)
		a.moved(t)
		want(t, "records", valuesOf(a.records(t, "orders-dlq", 0)), "other a b")
	})
}

func TestBatchThatFailsAloneLetsNoneBehindItBeTheFirst(t *testing.T) {
	for n := int64(1); n <= 4; n++ {
		synctest.Test(t, func(t *testing.T) {
			s := newStores()
			cfg := testConfig()
			cfg.SegmentBytesMax = 64 << 10
			a := start(t, s, cfg)
			a.topic(t, "orders", 1)
			a.topic(t, "orders-dlq", 1, "compression.type", "uncompressed")
			var texts []string
			for i := range 4 {
				texts = append(texts, strings.Repeat(fmt.Sprint(i), 70<<10)) // each fills a segment
			}
			a.produce(t, values("orders", 0, texts...))
			var puts atomic.Int64
			s.failBucket(func(r objmem.Request) objmem.Fault {
				// The key is another's: this segment is given up, and no later one.
				if r.Op == objmem.OpPut && strings.Contains(r.Key, "/seg/") && puts.Add(1) == n {
					if err := s.bucket.Put(t.Context(), r.Key, []byte("other"), objectlog.UUID{1}); err != nil {
						t.Error(err)
					}
				}
				return objmem.None
			})
			a.reject(t, "email", "orders", 0, 4)
			a.moved(t)
			want(t, "a put failed", puts.Load() > 5, true)
			if got := valuesOf(a.records(t, "orders-dlq", 0)); got != strings.Join(texts, " ") {
				t.Errorf("put %d fails: %d dead letters, %d bytes", n, len(a.records(t, "orders-dlq", 0)), len(got))
			}
		})
	}
}
