package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/metadata"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
	"github.com/splashdam/splashdam/queues"
)

// deaden fills a topic's partition 0 with records and makes them dead letters of a group.
func (r running) deaden(t *testing.T, texts ...string) {
	t.Helper()
	r.topic(t, "orders", 1)
	if p := r.produce(t, values("orders", 0, texts...)); p.Err != nil {
		t.Fatal(p.Err)
	}
	r.reject(t, "email", "orders", 0, len(texts))
	r.moved(t)
}

func (r running) redrive(t *testing.T, d Redrive) Redriven {
	t.Helper()
	if d.Topic == "" {
		d.Topic = "orders-dlq"
	}
	if d.FailedBefore == 0 {
		d.FailedBefore = objectlog.NoTimestamp
	}
	out, err := r.RedriveDeadLetters(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// letters lists all dead letters, two at a time, and checks their number.
func (r running) letters(t *testing.T) []DeadLetter {
	t.Helper()
	var all []DeadLetter
	after := PartitionOffset{Offset: objectlog.NoOffset}
	for {
		some, err := r.DeadLetters(t.Context(), "orders-dlq", nil, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			break
		}
		all = append(all, some...)
		after = some[len(some)-1].PartitionOffset
	}
	counts, err := r.CountDeadLetters(t.Context(), nil)
	if err != nil || len(counts) != 1 || counts[0].Err != nil || counts[0].Topic != "orders-dlq" || counts[0].Records != int64(len(all)) {
		t.Errorf("counts %+v, %v, listed %d", counts, err, len(all))
	}
	return all
}

func named(letters []DeadLetter) string {
	var all []string
	for _, l := range letters {
		all = append(all, string(l.Record.Value))
	}
	return strings.Join(all, " ")
}

func places(offsets ...objectlog.Offset) []PartitionOffset {
	var all []PartitionOffset
	for _, o := range offsets {
		all = append(all, PartitionOffset{0, o})
	}
	return all
}

func wantRedriven(t *testing.T, what string, got Redriven, arrived, redriving, remaining int64, refused int) {
	t.Helper()
	if got.Arrived != arrived || got.Redriving != redriving || got.Remaining != remaining || len(got.Refused) != refused {
		t.Errorf("%s: %+v, want %d arrived, %d on their way, %d remaining, %d refused", what, got, arrived, redriving, remaining, refused)
	}
}

func TestDeadLettersAreListedWithWhatTheySay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].deaden(t, "a", "b", "c", "d", "e")
		for _, m := range all {
			got := m.letters(t)
			want(t, "listed", named(got), "a b c d e")
			l := got[3]
			if l.Offset != 3 || l.Topic != "orders" || l.Source != (PartitionOffset{0, 3}) || l.Group != "email" || l.Attempts != 1 || l.Reason != "rejected" || l.Error != "no such user" || l.Redriving || l.First != l.Last || l.First <= 0 {
				t.Errorf("%+v", l)
			}
			only, err := m.DeadLetters(t.Context(), "orders-dlq", append(places(4, 1, 9), PartitionOffset{7, 0}), PartitionOffset{Offset: objectlog.NoOffset}, 10)
			if err != nil || named(only) != "b e" {
				t.Errorf("only some: %q, %v", named(only), err)
			}
		}
		_, err := all[0].DeadLetters(t.Context(), "nothing", nil, PartitionOffset{}, 1)
		wantErr(t, "list of no topic", err, metadata.ReasonUnknownTopic)
		counts, err := all[1].CountDeadLetters(t.Context(), []string{"nothing", "orders-dlq"})
		if err != nil || counts[1].Records != 5 {
			t.Errorf("counts %+v, %v", counts, err)
		}
		wantErr(t, "count of no topic", counts[0].Err, metadata.ReasonUnknownTopic)
	})
}

func TestRedrivenRecordsComeBackToTheirSourceOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].deaden(t, "a", "b", "c", "d")
		wantRedriven(t, "two of them", all[1].redrive(t, Redrive{RecordsMax: 2}), 2, 0, 2, 0)
		want(t, "dead letters", named(all[2].letters(t)), "c d")
		wantRedriven(t, "what is no dead letter any more, and what never was", all[2].redrive(t, Redrive{Only: places(1, 9)}), 0, 0, 0, 2)
		wantRedriven(t, "one", all[2].redrive(t, Redrive{Only: places(3)}), 1, 0, 0, 0)
		wantRedriven(t, "the rest", all[0].redrive(t, Redrive{}), 1, 0, 0, 0)
		wantRedriven(t, "nothing", all[0].redrive(t, Redrive{}), 0, 0, 0, 0)
		got := all[1].records(t, "orders", 0)
		want(t, "records", valuesOf(got), "a b c d a b d c")
		if h := got[5].Headers; len(h) != 1 || h[0].Key != "splashdam-redriven-from" || string(h[0].Value) != "orders-dlq/0/1" {
			t.Errorf("headers %+v", h)
		}
		var redriven int64
		for _, m := range all {
			redriven += m.DeadLetterUsage().Redriven
		}
		want(t, "counted", redriven, 4)
	})
}

func TestRedriveToAnotherTopicGoesByKeyAndMayBeEdited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "other", 3)
		a.topic(t, "orders", 1)
		b := values("orders", 0, "a", "b", "c")
		b.Records[0].Key, b.Records[1].Key = []byte("k1"), []byte("k2")
		a.produce(t, b)
		a.reject(t, "email", "orders", 0, 3)
		a.moved(t)
		wantRedriven(t, "edited", a.redrive(t, Redrive{To: "other", Only: places(0), Edited: []byte("mended"), HasEdited: true}), 1, 0, 0, 0)
		wantRedriven(t, "others", a.redrive(t, Redrive{To: "other"}), 2, 0, 0, 0)
		for key, value := range map[string]string{"k1": "mended", "k2": "b", "": "c"} {
			p := objectlog.Partition(0)
			if key != "" {
				p = objectlog.PartitionFor([]byte(key), 3)
			}
			found := false
			for _, r := range a.records(t, "other", p) {
				found = found || string(r.Key) == key && string(r.Value) == value
			}
			want(t, "record "+value+" in its partition", found, true)
		}
		for what, r := range map[string]Redrive{
			"an edited value for all":  {Topic: "orders-dlq", HasEdited: true},
			"a value that is too long": {Topic: "orders-dlq", HasEdited: true, Only: places(0), Edited: make([]byte, queues.EditedBytesMax+1)},
			"to where they are":        {Topic: "orders-dlq", To: "orders-dlq"},
		} {
			_, err := a.RedriveDeadLetters(t.Context(), r)
			wantErr(t, what, err, InvalidRequest)
		}
		_, err := a.RedriveDeadLetters(t.Context(), Redrive{Topic: "orders-dlq", To: "nothing"})
		wantErr(t, "to no topic", err, metadata.ReasonUnknownTopic)
	})
}

func TestRedriveChoosesByTheLastFailureAndRefusesWhatHasNowhereToGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1, "max.message.bytes", "500", "compression.type", "uncompressed")
		a.topic(t, "orders-dlq", 1, "dead.letters", "true")
		letter := func(value, topic string, last objectlog.Timestamp) {
			r := objectlog.Record{Value: []byte(value), Timestamp: 1}
			if topic != "" {
				r = queues.Letter{Topic: topic, Offset: 1, First: 1, Last: last, Reason: "expired"}.Write(r)
			}
			b := ProduceBatch{Topic: "orders-dlq", Records: []objectlog.Record{r}, Expected: objectlog.NoOffset, FirstSequence: -1}
			if p := a.produce(t, b); p.Err != nil {
				t.Fatal(p.Err)
			}
		}
		letter("early", "orders", 1000)
		letter("late", "orders", 3000)
		letter("nowhere", "", 0)
		letter("gone", "nothing", 1000)
		letter(strings.Repeat("x", 600), "orders", 2000)
		letter("itself", "orders-dlq", 2000)
		letter("between", "orders", 2000)
		wantRedriven(t, "one of a time", a.redrive(t, Redrive{FailedBefore: 2000, RecordsMax: 1}), 1, 0, 4, 0)
		out := a.redrive(t, Redrive{FailedBefore: 2000})
		wantRedriven(t, "of a time", out, 1, 0, 0, 3)
		wantErr(t, "to a topic that is gone", out.Refused[0].Err, metadata.ReasonUnknownTopic)
		wantErr(t, "too large", out.Refused[1].Err, objectlog.ErrTooLarge)
		wantErr(t, "to where it is", out.Refused[2].Err, InvalidRequest)
		wantRedriven(t, "whenever", a.redrive(t, Redrive{}), 1, 0, 0, 4)
		want(t, "records", valuesOf(a.records(t, "orders", 0)), "early between late")
	})
}

func TestRedriveThatIsCutOffIsFinishedOnceAndARepeatBeginsNothingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		a := start(t, s, testConfig())
		a.deaden(t, "a", "b", "c", "d", "e")
		s.failBucket(func(r objmem.Request) objmem.Fault {
			if r.Op == objmem.OpPut && strings.Contains(r.Key, "/seg/") {
				return objmem.FailAfter // it lands, and nobody knows
			}
			return objmem.None
		})
		wantRedriven(t, "while nothing is known to be stored", a.redrive(t, Redrive{RecordsMax: 3}), 0, 3, 2, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _ = a.RedriveDeadLetters(ctx, Redrive{Topic: "orders-dlq", FailedBefore: objectlog.NoTimestamp})
		if got := a.letters(t); len(got) != 5 || !got[0].Redriving || !got[4].Redriving {
			t.Errorf("listed meanwhile: %+v", got)
		}
		a.Agent.cfg.DrainTimeout = time.Second
		a.stop()
		s.heal()
		b := start(t, s, testConfig())
		out := b.redrive(t, Redrive{})
		if out.Arrived > 5 || out.Redriving+out.Remaining != 0 {
			t.Errorf("repeated: %+v", out)
		}
		b.moved(t)
		got := strings.Fields(valuesOf(b.records(t, "orders", 0)))
		want(t, "records", len(got), 10)
		want(t, "redriven, in order", strings.Join(got[5:], " "), "a b c d e")
		want(t, "dead letters left", len(b.letters(t)), 0)
	})
}

func TestRedriveOfUnknownOutcomeBeginsNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, f := range []metamem.Fault{metamem.FailAfter, metamem.FailBefore} {
			s := newStores()
			a := start(t, s, testConfig())
			a.deaden(t, "a", "b")
			failed := false
			s.failTable(func(r metamem.Request) metamem.Fault {
				if r.Op == metamem.OpPut && strings.HasPrefix(r.Key.PK, "ring") && !failed {
					failed = true
					return f
				}
				return metamem.None
			})
			wantRedriven(t, fmt.Sprint(f), a.redrive(t, Redrive{}), 2, 0, 0, 0)
			want(t, "records", valuesOf(a.records(t, "orders", 0)), "a b a b")
			a.stop()
		}
	})
}

func TestRecordsRedrivenToATopicThatIsDeletedAreDeadLettersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		a := start(t, s, testConfig())
		a.deaden(t, "a", "b")
		a.topic(t, "other", 1)
		s.failBucket(func(r objmem.Request) objmem.Fault {
			if r.Op == objmem.OpPut && strings.Contains(r.Key, "/seg/") {
				return objmem.FailBefore
			}
			return objmem.None
		})
		wantRedriven(t, "while nothing can be stored", a.redrive(t, Redrive{To: "other"}), 0, 2, 0, 0)
		if err := a.DeleteTopic(t.Context(), "other", 0); err != nil {
			t.Fatal(err)
		}
		s.heal()
		a.moved(t)
		want(t, "dead letters", named(a.letters(t)), "a b")
		wantRedriven(t, "elsewhere", a.redrive(t, Redrive{}), 2, 0, 0, 0)
		want(t, "records", valuesOf(a.records(t, "orders", 0)), "a b a b")
	})
}

func TestDiscardedDeadLettersCountNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.deaden(t, "a", "b", "c", "d", "e")
		at := a.letters(t)[0].Last
		discard := func(d Discard, records, remaining int64, refused int) {
			t.Helper()
			d.Topic = "orders-dlq"
			got, err := a.DiscardDeadLetters(t.Context(), d)
			if err != nil || got.Records != records || got.Remaining != remaining || len(got.Refused) != refused {
				t.Errorf("discard %+v: %+v, %v", d, got, err)
			}
		}
		discard(Discard{Only: places(3, 1, 9), FailedBefore: objectlog.NoTimestamp}, 2, 0, 1)
		want(t, "dead letters", named(a.letters(t)), "a c e")
		discard(Discard{Only: places(1), FailedBefore: objectlog.NoTimestamp}, 0, 0, 1)
		discard(Discard{FailedBefore: at - 1}, 0, 0, 0)
		discard(Discard{FailedBefore: at, RecordsMax: 1}, 1, 2, 0)
		wantRedriven(t, "one that is discarded", a.redrive(t, Redrive{Only: places(0)}), 0, 0, 0, 1)
		discard(Discard{FailedBefore: at}, 2, 0, 0)
		want(t, "dead letters", len(a.letters(t)), 0)
		want(t, "records that stay in the log", len(a.records(t, "orders-dlq", 0)), 5)
		_, err := a.DiscardDeadLetters(t.Context(), Discard{Topic: "orders-dlq", FailedBefore: objectlog.NoTimestamp})
		wantErr(t, "discard of all, whenever they failed", err, InvalidRequest)
	})
}

func TestRecordThatAGroupGivesUpOnIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 2)
		all[0].produce(t, values("orders", 1, "a", "b", "c"))
		g := GivenUp{Group: "email", Topic: "orders", Partition: 1, Offset: 1, Committed: objectlog.NoOffset, Attempts: 3, First: objectlog.NoTimestamp, Error: "bad\nvalue"}
		send := func(m member, g GivenUp, want error) {
			t.Helper()
			wantErr(t, fmt.Sprintf("send %d at %d", g.Offset, g.Committed), m.SendDeadLetter(t.Context(), g), want)
		}
		at := func(offset, committed objectlog.Offset) GivenUp {
			g := g
			g.Offset, g.Committed = offset, committed
			return g
		}
		for i, committed := range []objectlog.Offset{objectlog.NoOffset, 1, 1, 2, 3, 2} { // again before, and behind, the copy is there; the position moves on
			send(all[i%3], at(1, committed), nil)
			if i > 0 {
				all[i%3].moved(t)
			}
		}
		send(all[0], at(3, 3), OutOfRange)
		send(all[1], at(2, 3), InvalidRequest)
		got := all[2].records(t, "orders-dlq", 1)
		l := queues.Letter{}
		if len(got) == 1 {
			l = queues.ReadLetter(got[0])
		}
		if valuesOf(got) != "b" || l.Reason != "given-up" || l.Deliveries != 3 || l.Error != "bad value" || l.Group != "email" || l.Offset != 1 {
			t.Errorf("dead letters %+v, %+v", got, l)
		}
		own := at(1, 1)
		own.DeadLetters = "orders"
		send(all[0], own, InvalidRequest)
		own.Topic, own.DeadLetters = "nothing", ""
		send(all[0], own, metadata.ReasonUnknownTopic)
	})
}

func TestDeadLettersGoOnWhenTheirLeaderChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 1)
		var texts []string
		for i := range 400 {
			texts = append(texts, fmt.Sprint(i))
		}
		all[0].produce(t, values("orders", 0, texts...))
		<-time.After(time.Minute)
		shard := metadata.ShardOf(topicID(t, all[0].running, "orders"), 0, 4)
		all[0].reject(t, "email", "orders", 0, len(texts))
		for range 3 {
			<-time.After(30 * time.Millisecond)
			for _, m := range all {
				if m.shards[shard].replica.Status().Role == shardlog.RoleLeading {
					_ = m.shards[shard].replica.Resign(t.Context())
				}
			}
			eventually(t, 20*time.Second, "another leads", func() bool {
				for _, m := range all {
					if m.shards[shard].replica.Status().Role == shardlog.RoleLeading {
						return true
					}
				}
				return false
			})
		}
		for _, m := range all {
			m.moved(t)
		}
		want(t, "dead letters", valuesOf(all[1].records(t, "orders-dlq", 0)), strings.Join(texts, " "))
	})
}
