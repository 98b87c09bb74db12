// Package metadatatest is the acceptance suite of metadata.Table: each rule of its contract is one test. It assumes neither speed nor an
// empty table: every test works under partition keys of its own.
package metadatatest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
)

// suite is one test's view of the table.
type suite struct {
	*testing.T
	ctx   context.Context
	table metadata.Table
	pk    string // fresh
}

// Run runs the suite. open answers the table under test, once per test; it may answer the same one each time.
func Run(t *testing.T, open func(t *testing.T) metadata.Table) {
	for _, test := range []struct {
		name string
		run  func(suite)
	}{
		{"GetOfAnAbsentItemIsNoError", getAbsent},
		{"PutIfAbsentCreatesTheItemOnce", putAbsent},
		{"PutWithARevReplacesThatRevOnly", putRev},
		{"PutWithARevOfAnAbsentItemIsRefusedByNothing", putRevOfAbsent},
		{"RefusedPutAnswersTheItemThatRefusedIt", putRefused},
		{"PutAgainIsRefusedByItsOwnItem", putAgain},
		{"RevsMayBeNegativeAndGoAnyWay", putRevs},
		{"PutDoesNotKeepTheCallersSlice", putDoesNotKeepValue},
		{"AnswersBelongToTheCaller", answersAreCopies},
		{"ValuesAreBinaryUpTo300KiB", putValues},
		{"PartitionAndSortKeyAreDistinct", keysAreDistinct},
		{"RacingPutsOfAnAbsentItemHaveOneWinner", raceAbsent},
		{"RacingPutsHaveOneWinnerThatEachLoserSees", race},
		{"RacingIncrementsLoseNone", increments},
		{"QueryIsInBytewiseSortKeyOrder", queryOrder},
		{"QueryGoesOnAfterAKeyUpToALimit", queryAfter},
		{"QueryKeepsToItsPartitionKey", queryPartition},
		{"QueryAnswersManyLargeItems", queryLarge},
		{"DeleteWantsTheRev", deleteRev},
		{"DeletedItemIsAbsent", deleteThenPut},
		{"CreateAllWritesEveryItem", createAll},
		{"AnEndedContextIsUnknown", endedContext},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // a hung table fails the test, with time for a slow one
			defer cancel()
			test.run(suite{t, ctx, open(t), "metadatatest#" + rand.Text()})
		})
	}
}

func getAbsent(s suite) {
	s.wantAbsent("nothing")
	s.apply(s.item("other", 1, "x"), metadata.If{})
	s.wantAbsent("nothing")
}

func putAbsent(s suite) {
	first := s.item("a", 7, "first")
	s.apply(first, metadata.If{})
	s.wantItem(first)
	s.refuse(s.item("a", 8, "second"), metadata.If{}, &first)
	s.wantItem(first)
}

func putRev(s suite) {
	first, second := s.item("a", 7, "first"), s.item("a", 4096, "second")
	s.apply(first, metadata.If{})
	s.refuse(second, metadata.RevIs(6), &first)
	s.refuse(second, metadata.RevIs(8), &first)
	s.refuse(second, metadata.RevIs(0), &first)
	s.wantItem(first)
	s.apply(second, metadata.RevIs(7))
	s.wantItem(second)
	s.refuse(first, metadata.RevIs(7), &second)
}

func putRevOfAbsent(s suite) {
	for _, rev := range []metadata.Rev{0, 1, -1} {
		s.refuse(s.item("a", 2, "x"), metadata.RevIs(rev), nil)
	}
	s.wantAbsent("a")
}

func putRefused(s suite) {
	there := s.item("a", 3, "\x00the one that is there\xff")
	s.apply(there, metadata.If{})
	s.refuse(s.item("a", 4, "late"), metadata.If{}, &there)
	s.refuse(s.item("a", 4, "late"), metadata.RevIs(2), &there)
}

// putAgain is what a driver does after an unknown outcome.
func putAgain(s suite) {
	old, own := s.item("a", 1, "old"), s.item("a", 2, "new, nonce 1234")
	s.apply(old, metadata.If{})
	s.apply(own, metadata.RevIs(1))
	s.refuse(own, metadata.RevIs(1), &own)
	fresh := s.item("b", 1, "fresh, nonce 5678")
	s.apply(fresh, metadata.If{})
	s.refuse(fresh, metadata.If{}, &fresh)
}

func putRevs(s suite) {
	rev := metadata.Rev(-4096)
	s.apply(s.item("a", rev, "x"), metadata.If{})
	for _, next := range []metadata.Rev{-1, 0, 1, -1 << 63, 1<<63 - 1, 1<<53 + 1, 1 << 53, 5} {
		s.refuse(s.item("a", next, "wrong"), metadata.RevIs(rev^1), &metadata.Item{Key: s.key("a"), Rev: rev, Value: []byte("x")})
		s.apply(s.item("a", next, "x"), metadata.RevIs(rev))
		s.wantItem(s.item("a", next, "x"))
		rev = next
	}
}

func putDoesNotKeepValue(s suite) {
	item := s.item("a", 1, "before")
	s.apply(item, metadata.If{})
	copy(item.Value, "AFTER!")
	s.wantItem(s.item("a", 1, "before"))
	many := []metadata.Item{s.item("b", 1, "before")}
	s.wantOutcome(metadata.Applied, s.table.CreateAll(s.ctx, many))
	copy(many[0].Value, "AFTER!")
	s.wantItem(s.item("b", 1, "before"))
}

func answersAreCopies(s suite) {
	item := s.item("a", 1, "before")
	s.apply(item, metadata.If{})
	got, _ := s.get("a")
	copy(got.Value, "AFTER!")
	refused := s.table.Put(s.ctx, item, metadata.If{})
	if refused.Current != nil {
		copy(refused.Current.Value, "AFTER!")
	}
	for _, item := range s.query("", 10) {
		copy(item.Value, "AFTER!")
	}
	s.wantItem(item)
}

func putValues(s suite) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for i, value := range [][]byte{{}, {0}, all, pattern(8<<10, 1), pattern(64<<10+1, 2), pattern(300<<10, 3)} {
		item := metadata.Item{Key: s.key(fmt.Sprintf("v%d", i)), Rev: 1, Value: value}
		s.apply(item, metadata.If{})
		s.wantItem(item)
		s.refuse(item, metadata.If{}, &item)
		item.Rev, item.Value = 2, append(bytes.Clone(value[:len(value)/2]), "shorter"...)
		s.apply(item, metadata.RevIs(1))
		s.wantItem(item)
	}
}

func keysAreDistinct(s suite) {
	a := metadata.Item{Key: metadata.Key{PK: s.pk + "#1", SK: "1"}, Rev: 1, Value: []byte("a")}
	b := metadata.Item{Key: metadata.Key{PK: s.pk + "#", SK: "11"}, Rev: 2, Value: []byte("b")}
	c := metadata.Item{Key: metadata.Key{PK: s.pk + "#11", SK: "#"}, Rev: 3, Value: []byte("c")}
	for _, item := range []metadata.Item{a, b, c} {
		s.apply(item, metadata.If{})
	}
	for _, item := range []metadata.Item{a, b, c} {
		s.wantItem(item)
	}
}

func raceAbsent(s suite) {
	for round := range 10 {
		s.contend(fmt.Sprintf("%d", round), 1, metadata.If{})
	}
}

// race is the start-up self-test's shape: 64 writers, one condition, 100 rounds. A table that ever has two winners loses records.
func race(s suite) {
	s.apply(s.item("a", 0, "start"), metadata.If{})
	for round := range metadata.Rev(100) {
		s.contend("a", round+1, metadata.RevIs(round))
	}
}

// contend lets 64 writers try one put each, at once, with the same condition and different values.
func (s suite) contend(sk string, rev metadata.Rev, cond metadata.If) {
	s.Helper()
	const writers = 64
	items, results := make([]metadata.Item, writers), make([]metadata.PutResult, writers)
	s.together(writers, func(i int) {
		items[i] = s.item(sk, rev, fmt.Sprintf("writer %d of rev %d", i, rev))
		results[i] = s.table.Put(s.ctx, items[i], cond)
	})
	winner := -1
	for i, r := range results {
		switch {
		case r.Outcome == metadata.Applied && winner < 0:
			winner = i
		case r.Outcome == metadata.Applied:
			s.Fatalf("rev %d: writers %d and %d both won", rev, winner, i)
		}
	}
	if winner < 0 {
		s.Fatalf("rev %d: nobody won; the first answer: %+v", rev, results[0])
	}
	s.wantItem(items[winner])
	for i, r := range results {
		if i == winner {
			continue
		}
		if r.Outcome != metadata.Refused || r.Current == nil || !equal(*r.Current, items[winner]) {
			s.Fatalf("rev %d: writer %d lost with %s, want Refused by %s", rev, i, describe(r), items[winner].Value)
		}
	}
}

// increments is a counter that several writers move, each with what a refusal showed it.
func increments(s suite) {
	const writers, each = 8, 10
	s.apply(s.item("n", 0, "0"), metadata.If{})
	s.together(writers, func(int) {
		rev := metadata.Rev(0)
		for done := 0; done < each; {
			r := s.table.Put(s.ctx, s.item("n", rev+1, fmt.Sprint(rev+1)), metadata.RevIs(rev))
			switch {
			case r.Outcome == metadata.Applied:
				rev++
				done++
			case r.Outcome == metadata.Refused && r.Current != nil && r.Current.Rev > rev:
				rev = r.Current.Rev
			default:
				s.Errorf("increment of %d: %s", rev, describe(r))
				return
			}
		}
	})
	s.wantItem(s.item("n", writers*each, fmt.Sprint(writers*each)))
}

func queryOrder(s suite) {
	want := []string{"!", "-", "0", "00", "000001", "000002", "000010", "1", "A", "Z", "a", "a#b", "a/b", "ab", "\u00e9", "\uff5e"}
	for _, i := range []int{5, 15, 0, 9, 3, 12, 7, 1, 14, 10, 2, 13, 8, 4, 11, 6} {
		s.apply(s.item(want[i], metadata.Rev(i), want[i]), metadata.If{})
	}
	s.wantQuery("", 100, want)
}

func queryAfter(s suite) {
	var all []string
	for i := range 50 {
		all = append(all, fmt.Sprintf("%06d", 2*i))
		s.apply(s.item(all[i], metadata.Rev(i), "x"), metadata.If{})
	}
	s.wantQuery("", 100, all)
	s.wantQuery("", 7, all[:7])
	s.wantQuery("", 50, all)
	s.wantQuery(all[20], 10, all[21:31])
	s.wantQuery("000041", 1, all[21:22]) // after need not exist
	s.wantQuery(all[48], 10, all[49:])
	s.wantQuery(all[49], 10, nil)
	s.wantQuery("zzz", 10, nil)
	if _, err := s.table.Query(s.ctx, s.pk, "", 0); err == nil {
		s.Error("query with limit 0: no error")
	}
}

func queryPartition(s suite) {
	for _, pk := range []string{s.pk, s.pk + "#", s.pk + "#1", s.pk[:len(s.pk)-1]} {
		item := metadata.Item{Key: metadata.Key{PK: pk, SK: "a"}, Rev: 1, Value: []byte(pk)}
		s.apply(item, metadata.If{})
	}
	got := s.query("", 100)
	if len(got) != 1 || string(got[0].Value) != s.pk {
		s.Errorf("query answers %d items, want the one of its partition key", len(got))
	}
	items, err := s.table.Query(s.ctx, s.pk+"#no such", "", 10)
	if err != nil || len(items) != 0 {
		s.Errorf("query of an absent partition key: %d items, %v", len(items), err)
	}
}

// queryLarge is larger than one page of the engines that page by bytes.
func queryLarge(s suite) {
	var want []metadata.Item
	for i := range 12 {
		item := metadata.Item{Key: s.key(fmt.Sprintf("%02d", i)), Rev: metadata.Rev(i), Value: pattern(250<<10, byte(i))}
		s.apply(item, metadata.If{})
		want = append(want, item)
	}
	got := s.query("", 100)
	if len(got) != len(want) {
		s.Fatalf("query answers %d items, want %d", len(got), len(want))
	}
	for i := range got {
		if !equal(got[i], want[i]) {
			s.Errorf("item %d of the query is not what was put", i)
		}
	}
}

func deleteRev(s suite) {
	there := s.item("a", 5, "there")
	s.apply(there, metadata.If{})
	for _, cond := range []metadata.If{metadata.RevIs(4), {}} {
		r := s.table.Delete(s.ctx, there.Key, cond)
		if r.Outcome != metadata.Refused || r.Current == nil || !equal(*r.Current, there) {
			s.Errorf("delete if %+v: %s, want Refused by the item", cond, describe(r))
		}
	}
	s.wantItem(there)
	s.wantOutcome(metadata.Applied, s.table.Delete(s.ctx, there.Key, metadata.RevIs(5)))
	s.wantAbsent("a")
	r := s.table.Delete(s.ctx, there.Key, metadata.RevIs(5))
	if r.Outcome != metadata.Refused || r.Current != nil {
		s.Errorf("delete again: %s, want Refused by nothing", describe(r))
	}
}

func deleteThenPut(s suite) {
	s.apply(s.item("a", 1, "first"), metadata.If{})
	s.wantOutcome(metadata.Applied, s.table.Delete(s.ctx, s.key("a"), metadata.RevIs(1)))
	s.wantQuery("", 10, nil)
	second := s.item("a", 1, "second")
	s.apply(second, metadata.If{})
	s.wantItem(second)
}

// createAll makes a ring of the usual size, spread over sixteen partition keys as the ring's keys are.
func createAll(s suite) {
	const slots, spread = 4096, 16
	items := make([]metadata.Item, slots)
	for i := range items {
		items[i] = metadata.Item{
			Key: metadata.Key{PK: fmt.Sprintf("%s#%d", s.pk, i%spread), SK: fmt.Sprintf("%06d", i)},
			Rev: metadata.Rev(i - slots), Value: fmt.Appendf(nil, "slot %d", i),
		}
	}
	s.wantOutcome(metadata.Applied, s.table.CreateAll(s.ctx, items))
	seen := 0
	for p := range spread {
		got, err := s.table.Query(s.ctx, fmt.Sprintf("%s#%d", s.pk, p), "", slots)
		if err != nil {
			s.Fatal(err)
		}
		for i, item := range got {
			if want := items[p+i*spread]; !equal(item, want) {
				s.Fatalf("item %d of partition %d is %v rev %d, want %v rev %d", i, p, item.Key, item.Rev, want.Key, want.Rev)
			}
		}
		seen += len(got)
	}
	if seen != slots {
		s.Errorf("found %d of %d items", seen, slots)
	}
	items[17].Rev = 17
	s.apply(items[17], metadata.RevIs(17-slots))
	s.wantOutcome(metadata.Applied, s.table.CreateAll(s.ctx, nil))
}

func endedContext(s suite) {
	there := s.item("a", 1, "there")
	s.apply(there, metadata.If{})
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, _, get := s.table.Get(ctx, there.Key)
	_, query := s.table.Query(ctx, s.pk, "", 10)
	for method, err := range map[string]error{"Get": get, "Query": query} {
		if !errors.Is(err, context.Canceled) {
			s.Errorf("%s with an ended context: %v, want context.Canceled", method, err)
		}
	}
	next := s.item("a", 2, "next")
	for method, r := range map[string]metadata.PutResult{
		"Put": s.table.Put(ctx, next, metadata.RevIs(1)), "CreateAll": s.table.CreateAll(ctx, []metadata.Item{s.item("c", 1, "x")}),
		"Delete": s.table.Delete(ctx, s.key("b"), metadata.RevIs(1)),
	} {
		if r.Outcome != metadata.Unknown || !errors.Is(r.Err, context.Canceled) || r.Current != nil {
			s.Errorf("%s with an ended context: %s, want Unknown", method, describe(r))
		}
	}
	// The same put again decides what became of the first.
	if r := s.table.Put(s.ctx, next, metadata.RevIs(1)); r.Outcome == metadata.Refused && (r.Current == nil || !equal(*r.Current, next)) {
		s.Errorf("the same put again: %s", describe(r))
	}
	s.wantItem(next)
}

// together runs f(0) to f(n-1) at once and waits.
func (s suite) together(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// pattern is a value whose bytes depend on position and seed.
func pattern(n int, seed byte) []byte {
	value := make([]byte, n)
	for i := range value {
		value[i] = byte(i) ^ byte(i>>8)*31 ^ byte(i>>16)*17 ^ seed
	}
	return value
}
