package shardlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/metadata"
)

// tableOf lets ReadLog read a world's table; before is called with each key that is read.
type tableOf struct {
	metadata.Table
	w      *world
	before func(metadata.Key)
	reads  int
}

func (t *tableOf) Get(_ context.Context, k metadata.Key) (metadata.Item, bool, error) {
	t.reads++
	if t.before != nil {
		t.before(k)
	}
	i, ok := t.w.table[k]
	return i, ok, nil
}

func (t *tableOf) read(from metadata.Seq) (records []Record, err error) {
	err = ReadLog(context.Background(), t, testShard, from, func(r Record) bool {
		records = append(records, r)
		return true
	})
	return records, err
}

func seqs(records []Record) (out []metadata.Seq) {
	for _, r := range records {
		out = append(out, r.Position.Seq)
	}
	return out
}

func upTo(from, to metadata.Seq) (out []metadata.Seq) {
	for ; from <= to; from++ {
		out = append(out, from)
	}
	return out
}

func TestReadLogGivesWhatTheRingHolds(t *testing.T) {
	w := newWorld(t, 16)
	table := &tableOf{w: w}
	if got, err := table.read(-1); err != nil || got != nil {
		t.Fatalf("a log without entries: %v, %v", got, err)
	}
	a := w.start(func(c *Config, _ *list) { c.SnapshotEveryEntries = 4 })
	w.untilLeading(a)
	for last := metadata.Seq(0); last < 50; last++ {
		for from := metadata.Seq(-1); from < last+20; from++ {
			got, err := table.read(from)
			if want := upTo(max(from, last-15, 0), last); err != nil || !slices.Equal(seqs(got), want) {
				t.Fatalf("from %d, the last being %d: %v, %v", from, last, seqs(got), err)
			}
		}
		a.must(fmt.Sprint(last + 1))
	}
	table.reads = 0
	got, err := table.read(45)
	if err != nil || table.reads > 1+5+6 {
		t.Errorf("%d reads of the table for %d entries of a ring of 16: %v", table.reads, len(got), err)
	}
	r := got[0]
	if r.Position.Epoch != 1 || r.Position.Time == 0 || r.Bytes != len(w.table[w.slotKey(45)].Value) || string(r.Commands[0].Body) != "45" {
		t.Errorf("entry 45: %+v", r)
	}
	n := 0
	if err := ReadLog(t.Context(), table, testShard, 0, func(Record) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("%d entries after the third was the last wanted: %v", n, err)
	}
}

func TestReadLogGoesOnAtTheOldestWhereTheLeaderHasOvertakenIt(t *testing.T) {
	w := newWorld(t, 16)
	a := w.start(func(c *Config, _ *list) { c.SnapshotEveryEntries = 2 })
	w.untilLeading(a)
	for i := range 20 {
		a.must(fmt.Sprint(i))
	}
	var got []metadata.Seq
	err := ReadLog(t.Context(), &tableOf{w: w}, testShard, 0, func(r Record) bool {
		if got = append(got, r.Position.Seq); len(got) == 3 {
			for i := range 40 {
				a.must(fmt.Sprint("more ", i))
			}
		}
		return true
	})
	if want := append(upTo(5, 7), upTo(45, 56)...); err != nil || !slices.Equal(got[:15], want) || got[len(got)-1] < 56 {
		t.Errorf("%v, want %v and on; %v", got, want, err)
	}
	// And while it looks for the end.
	for nth := range 8 {
		table := &tableOf{w: w}
		table.before = func(metadata.Key) {
			if table.reads == nth {
				for i := range 9 {
					a.must(fmt.Sprint("again ", i))
				}
			}
		}
		got, err := table.read(0)
		if last := a.status().Applied; err != nil || len(got) < 7 || !slices.Equal(seqs(got), upTo(got[0].Position.Seq, got[len(got)-1].Position.Seq)) || got[len(got)-1].Position.Seq < last-9 {
			t.Errorf("read %d: %v of %d, %v", nth, seqs(got), last, err)
		}
	}
}

func TestReadLogNamesDamage(t *testing.T) {
	for _, x := range damages {
		if x.name == "poison" || x.name == "command of an unknown kind" || x.name == "both snapshots missing" || x.name == "slot overwritten" {
			continue // not damage of the log's bytes
		}
		w := filled(t)
		x.damage(w)
		_, err := (&tableOf{w: w}).read(0)
		want := []string{"read log of shard 3", "compare the table with a backup"}
		if strings.HasPrefix(x.name, "slot") {
			want = append(want, "slot ring#aa")
		} else {
			want = append(want, "lease item shard#3")
		}
		for _, s := range want {
			if !strings.Contains(fmt.Sprint(err), s) {
				t.Errorf("%s: %q does not say %q", x.name, err, s)
			}
		}
		if errors.Is(err, ErrHalted) {
			t.Errorf("%s: reading halts nothing: %v", x.name, err)
		}
	}
}
