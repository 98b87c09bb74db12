package mem

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/metadatatest"
	"github.com/splashdam/splashdam/objectlog"
)

var update = flag.Bool("update", false, "write testdata anew")

func TestTablePassesTheAcceptanceSuite(t *testing.T) {
	metadatatest.Run(t, func(*testing.T) metadata.Table { return new(Table) })
}

// script answers the faults in order, then none.
func script(faults ...Fault) func(Request) Fault {
	return func(r Request) Fault {
		if r.N <= len(faults) {
			return faults[r.N-1]
		}
		return None
	}
}

var k = metadata.Key{PK: "ring#c0ffee#1", SK: "000001"}

func item(rev metadata.Rev, value string) metadata.Item {
	return metadata.Item{Key: k, Rev: rev, Value: []byte(value)}
}

func TestPutFaultsDoWhatTheirNamesSay(t *testing.T) {
	ctx := context.Background()
	for _, test := range []struct {
		fault     Fault
		outcome   metadata.Outcome
		rev       metadata.Rev // afterwards
		sameAgain metadata.Outcome
	}{
		{None, metadata.Applied, 2, metadata.Refused},
		{FailBefore, metadata.Unknown, 1, metadata.Applied},
		{FailAfter, metadata.Unknown, 2, metadata.Refused},
		{Hold, metadata.Unknown, 1, metadata.Applied},
		{Twice, metadata.Refused, 2, metadata.Refused},
		{Throttle, metadata.Unknown, 1, metadata.Applied},
		{Blind, metadata.Applied, 2, metadata.Refused},
	} {
		table := &Table{Fault: script(None, test.fault)}
		table.Put(ctx, item(1, "old"), metadata.If{})
		r := table.Put(ctx, item(2, "new"), metadata.RevIs(1))
		if r.Outcome != test.outcome || (r.Outcome == metadata.Unknown) != errors.Is(r.Err, ErrInjected) {
			t.Errorf("%s: put: %+v", test.fault, r)
		}
		if errors.Is(r.Err, objectlog.ErrThrottled) != (test.fault == Throttle) {
			t.Errorf("%s: put: %v", test.fault, r.Err)
		}
		if r.Outcome == metadata.Refused && string(r.Current.Value) != "new" {
			t.Errorf("%s: refused by %q, want its own item", test.fault, r.Current.Value)
		}
		if got, _, _ := table.Get(ctx, k); got.Rev != test.rev {
			t.Errorf("%s: rev %d afterwards, want %d", test.fault, got.Rev, test.rev)
		}
		if r := table.Put(ctx, item(2, "new"), metadata.RevIs(1)); r.Outcome != test.sameAgain {
			t.Errorf("%s: the same put again: %+v", test.fault, r)
		}
	}
}

func TestBlindFaultHidesWhatRefused(t *testing.T) {
	ctx := context.Background()
	table := &Table{Fault: script(None, Blind)}
	table.Put(ctx, item(1, "old"), metadata.If{})
	if r := table.Put(ctx, item(2, "new"), metadata.RevIs(0)); r.Outcome != metadata.Unknown || r.Current != nil {
		t.Errorf("put: %+v, want Unknown", r)
	}
}

func TestHeldPutIsJudgedWhenItLands(t *testing.T) {
	ctx := context.Background()
	table := &Table{Fault: script(None, Hold, Hold)}
	table.Put(ctx, item(1, "old"), metadata.If{})
	late, later := item(2, "late"), item(2, "later")
	table.Put(ctx, late, metadata.RevIs(1))
	copy(late.Value, "XXXX") // the caller's slice is its own again
	table.Put(ctx, later, metadata.RevIs(1))
	if held := table.Held(); len(held) != 2 || held[0].N != 2 || held[1].N != 3 {
		t.Fatalf("held: %+v", held)
	}
	if r, err := table.Release(3); err != nil || r.Outcome != metadata.Applied {
		t.Errorf("release of the second: %+v, %v", r, err)
	}
	if r, err := table.Release(2); err != nil || r.Outcome != metadata.Refused || string(r.Current.Value) != "later" {
		t.Errorf("release of the first: %+v, %v", r, err)
	}
	if _, err := table.Release(2); err == nil {
		t.Error("a request was released twice")
	}
}

func TestLateCreateAllErasesEntries(t *testing.T) {
	ctx := context.Background()
	table := &Table{Fault: script(Hold)}
	table.CreateAll(ctx, []metadata.Item{item(-4096, "")})
	table.Put(ctx, item(1, "entry"), metadata.If{})
	table.Release(1)
	if got, _, _ := table.Get(ctx, k); got.Rev != -4096 {
		t.Errorf("rev %d: the held creation did not land", got.Rev)
	}
}

func TestCreateAllMayBeDoneInPart(t *testing.T) {
	ctx := context.Background()
	table := &Table{Fault: script(Partly)}
	var items []metadata.Item
	for _, sk := range []string{"1", "2", "3", "4"} {
		items = append(items, metadata.Item{Key: metadata.Key{PK: "p", SK: sk}})
	}
	if r := table.CreateAll(ctx, items); r.Outcome != metadata.Unknown {
		t.Errorf("create all: %+v", r)
	}
	if got, err := table.Query(ctx, "p", "", 10); err != nil || len(got) != 2 {
		t.Errorf("%d items are there, %v; want half", len(got), err)
	}
}

func TestReadFaultsTeachNothing(t *testing.T) {
	ctx := context.Background()
	for _, fault := range []Fault{FailBefore, FailAfter, Throttle, Hold, Blind, Partly} {
		table := &Table{Fault: script(None, fault, fault)}
		table.Put(ctx, item(1, "x"), metadata.If{})
		if got, ok, err := table.Get(ctx, k); !errors.Is(err, ErrInjected) || ok || got.Value != nil {
			t.Errorf("%s: get: %+v, %v, %v", fault, got, ok, err)
		}
		if got, err := table.Query(ctx, k.PK, "", 10); !errors.Is(err, ErrInjected) || got != nil {
			t.Errorf("%s: query: %+v, %v", fault, got, err)
		}
		if _, ok, err := table.Get(ctx, k); err != nil || !ok {
			t.Errorf("%s: afterwards: %v, %v", fault, ok, err)
		}
	}
}

func TestEditReplacesAndRemovesItems(t *testing.T) {
	ctx := context.Background()
	table := new(Table)
	table.Edit(k, func(metadata.Item) (metadata.Item, bool) { return item(9, "set"), true })
	if got, ok, _ := table.Get(ctx, k); !ok || got.Rev != 9 || got.Key != k {
		t.Errorf("after the edit: %+v, %v", got, ok)
	}
	table.Edit(k, func(metadata.Item) (metadata.Item, bool) { return metadata.Item{}, false })
	if _, ok, _ := table.Get(ctx, k); ok {
		t.Error("the item is still there")
	}
}

func TestTooLargeAValueIsNeverSent(t *testing.T) {
	table := new(Table)
	large := item(1, strings.Repeat("x", 300<<10+1))
	if r := table.Put(context.Background(), large, metadata.If{}); r.Outcome != metadata.Unknown || r.Err == nil || table.Count(OpPut) != 0 {
		t.Errorf("put: %v after %d requests", r.Err, table.Count(OpPut))
	}
	r := table.CreateAll(context.Background(), []metadata.Item{large})
	if r.Outcome != metadata.Unknown || r.Err == nil || table.Count(OpCreateAll) != 0 {
		t.Errorf("create all: %v after %d requests", r.Err, table.Count(OpCreateAll))
	}
}

func TestTranscriptShowsEveryRequest(t *testing.T) {
	ctx := context.Background()
	var lines strings.Builder
	table := &Table{
		Transcript: &lines,
		Rewrite:    func(key string) string { return strings.ReplaceAll(key, "c0ffee", "<ring>") },
		Fault:      script(None, None, FailAfter, Throttle, Hold),
	}
	table.CreateAll(ctx, []metadata.Item{item(-4095, "empty")})
	table.Put(ctx, item(1, "first"), metadata.RevIs(-4095))
	table.Put(ctx, item(2, "second"), metadata.RevIs(1))
	table.Get(ctx, k)
	table.Put(ctx, item(3, "third"), metadata.RevIs(2))
	table.Put(ctx, item(2, "again"), metadata.RevIs(1))
	table.Put(ctx, metadata.Item{Key: metadata.Key{PK: "agents", SK: "x"}, Rev: 1}, metadata.RevIs(1))
	table.Release(5)
	table.Get(ctx, k)
	table.Get(ctx, metadata.Key{PK: "agents", SK: "x"})
	table.Query(ctx, k.PK, "000000", 5)
	table.Delete(ctx, k, metadata.RevIs(3))
	const golden = "testdata/transcript.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if lines.String() != string(want) {
		t.Errorf("transcript:\n%swant:\n%s", lines.String(), want)
	}
}
