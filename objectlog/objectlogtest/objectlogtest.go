// Package objectlogtest is the acceptance suite of objectlog.Bucket: each rule of its contract is one test. It assumes neither speed nor
// an empty bucket: every test works under a prefix of its own, and removes what it put there.
package objectlogtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// suite is one test's view of the bucket.
type suite struct {
	*testing.T
	ctx    context.Context
	bucket objectlog.Bucket
	prefix string // fresh, ends in a slash
}

// Run runs the suite. open answers the bucket under test, once per test; it may answer the same one each time.
func Run(t *testing.T, open func(t *testing.T) objectlog.Bucket) {
	for _, test := range []struct {
		name string
		run  func(suite)
	}{
		{"PutThenGetAnswersTheBody", putThenGet},
		{"PutKeepsAnEmptyBody", putEmpty},
		{"PutKeepsALargeBodyWhole", putLarge},
		{"PutDoesNotKeepTheCallersSlice", putDoesNotKeepBody},
		{"PutTakesKeysOfManySegments", putManySegments},
		{"PutAgainWithTheSameNonceIsNoError", putAgain},
		{"PutOfAnotherContentIsErrExists", putOther},
		{"PutOfTheSameBodyWithAnotherNonceIsErrExists", putOtherNonce},
		{"PutAfterDeleteStoresTheNewContent", putAfterDelete},
		{"ConcurrentPutsOfOneKeyHaveOneWinner", putRace},
		{"ConcurrentIdenticalPutsAllSucceed", putSameRace},
		{"GetAnswersTheExtentExactly", getExtent},
		{"GetBeyondTheEndIsErrRange", getBeyond},
		{"GetOfAnAbsentKeyIsErrNotFound", getAbsent},
		{"GetAnswersASliceOfTheCallersOwn", getOwnSlice},
		{"StatDescribesTheObject", stat},
		{"StatOfAnAbsentKeyIsErrNotFound", statAbsent},
		{"ListIsInBytewiseKeyOrder", listOrder},
		{"ListGoesOnAfterAKey", listAfter},
		{"ListKeepsToThePrefix", listPrefix},
		{"ListOfNothingIsEmpty", listNothing},
		{"ListRefusesAWrongLimit", listLimit},
		{"ListTakesAThousandAndTheRest", listThousand},
		{"DeleteIsIdempotent", deleteTwice},
		{"AnEndedContextIsAnError", endedContext},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // a hung store fails the test, with time for a slow one
			defer cancel()
			s := suite{t, ctx, open(t), "objectlogtest/" + newNonce().String() + "/"}
			defer s.clean()
			test.run(s)
		})
	}
}

func putThenGet(s suite) {
	body := pattern(1000, 1)
	s.put("a", body, newNonce())
	s.wantBody("a", body)
}

func putEmpty(s suite) {
	nonce := newNonce()
	s.put("empty", nil, nonce)
	s.wantBody("empty", nil)
	s.put("empty", []byte{}, nonce)
	s.wantErr(objectlog.ErrExists, s.bucket.Put(s.ctx, s.prefix+"empty", []byte{0}, nonce))
	info := s.stat("empty")
	if info.Bytes != 0 || info.CRC32C != 0 || info.Nonce != nonce {
		s.Errorf("stat of an empty object: %+v", info)
	}
}

func putLarge(s suite) {
	body := pattern(16<<20+7, 2)
	s.put("large", body, newNonce())
	s.wantBody("large", body)
	e := objectlog.Extent{Start: 16<<20 - 5, Next: 16<<20 + 7}
	if got := s.get("large", e); !bytes.Equal(got, body[e.Start:]) {
		s.Errorf("get %v of the large object answers other bytes", e)
	}
}

func putDoesNotKeepBody(s suite) {
	body := pattern(5000, 3)
	want := bytes.Clone(body)
	s.put("a", body, newNonce())
	for i := range body {
		body[i] = 0xee
	}
	s.wantBody("a", want)
}

func putManySegments(s suite) {
	key := "0e/" + newNonce().String() + "/x/y/z/0000000000000001-89abcdef.seg"
	s.put(key, []byte("deep"), newNonce())
	s.wantBody(key, []byte("deep"))
	if got := s.list("0e/", "", 10); len(got) != 1 || got[0] != key {
		s.Errorf("list: %q, want %q", got, key)
	}
}

func putAgain(s suite) {
	body, nonce := pattern(300, 4), newNonce()
	for range 3 {
		s.put("a", body, nonce)
	}
	s.wantBody("a", body)
}

func putOther(s suite) {
	body, nonce := pattern(300, 5), newNonce()
	s.put("a", body, nonce)
	for name, other := range map[string][]byte{
		"same length": pattern(300, 6), "longer": pattern(301, 5), "shorter": body[:299], "empty": nil,
	} {
		if err := s.bucket.Put(s.ctx, s.prefix+"a", other, nonce); !errors.Is(err, objectlog.ErrExists) {
			s.Errorf("put of another body, %s, with the same nonce: %v, want ErrExists", name, err)
		}
	}
	s.wantBody("a", body)
}

func putOtherNonce(s suite) {
	body, nonce := pattern(300, 7), newNonce()
	s.put("a", body, nonce)
	s.wantErr(objectlog.ErrExists, s.bucket.Put(s.ctx, s.prefix+"a", body, newNonce()))
	if got := s.stat("a").Nonce; got != nonce {
		s.Errorf("nonce after a refused put: %s, want the first, %s", got, nonce)
	}
}

func putAfterDelete(s suite) {
	s.put("a", []byte("first"), newNonce())
	s.delete("a")
	s.put("a", []byte("second"), newNonce())
	s.wantBody("a", []byte("second"))
}

// putRace puts different contents under one key at once: one is stored, whole, and everybody else is told.
func putRace(s suite) {
	const rounds, writers = 10, 16
	for round := range rounds {
		key := fmt.Sprintf("race/%d", round)
		bodies, errs := make([][]byte, writers), make([]error, writers)
		s.together(writers, func(i int) {
			bodies[i] = pattern(20_000+i, byte(i))
			errs[i] = s.bucket.Put(s.ctx, s.prefix+key, bodies[i], newNonce())
		})
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = i
			case err == nil:
				s.Fatalf("round %d: writers %d and %d both stored their content", round, winner, i)
			case !errors.Is(err, objectlog.ErrExists):
				s.Fatalf("round %d: a loser got %v, want ErrExists", round, err)
			}
		}
		if winner < 0 {
			s.Fatalf("round %d: nobody stored the object", round)
		}
		s.wantBody(key, bodies[winner])
	}
}

func putSameRace(s suite) {
	body, nonce := pattern(50_000, 9), newNonce()
	s.together(8, func(int) {
		if err := s.bucket.Put(s.ctx, s.prefix+"same", body, nonce); err != nil {
			s.Errorf("one of the identical puts: %v", err)
		}
	})
	s.wantBody("same", body)
}

func getExtent(s suite) {
	body := pattern(1000, 10)
	s.put("a", body, newNonce())
	for _, e := range []objectlog.Extent{{Start: 0, Next: 1}, {Start: 0, Next: 1000}, {Start: 999, Next: 1000}, {Start: 333, Next: 777}} {
		if got := s.get("a", e); !bytes.Equal(got, body[e.Start:e.Next]) {
			s.Errorf("get %v: %d bytes, not those of the extent", e, len(got))
		}
	}
}

func getBeyond(s suite) {
	s.put("a", pattern(1000, 11), newNonce())
	s.put("empty", nil, newNonce())
	for _, e := range []objectlog.Extent{{Start: 0, Next: 1001}, {Start: 999, Next: 1001}, {Start: 1000, Next: 1001}, {Start: 5000, Next: 6000}} {
		got, err := s.bucket.Get(s.ctx, s.prefix+"a", e)
		if !errors.Is(err, objectlog.ErrRange) || len(got) > 0 {
			s.Errorf("get %v of 1,000 bytes: %d bytes and %v, want ErrRange", e, len(got), err)
		}
	}
	for _, e := range []objectlog.Extent{{Start: -1, Next: 5}, {Start: 6, Next: 5}} {
		if _, err := s.bucket.Get(s.ctx, s.prefix+"a", e); err == nil {
			s.Errorf("get %v, which is no extent: no error", e)
		}
	}
	_, err := s.bucket.Get(s.ctx, s.prefix+"empty", objectlog.Extent{Start: 0, Next: 1})
	s.wantErr(objectlog.ErrRange, err)
}

func getAbsent(s suite) {
	for _, e := range []objectlog.Extent{{}, {Start: 0, Next: 10}} {
		got, err := s.bucket.Get(s.ctx, s.prefix+"absent", e)
		s.wantErr(objectlog.ErrNotFound, err)
		if got != nil {
			s.Errorf("get %v of an absent key answers %d bytes", e, len(got))
		}
	}
}

func getOwnSlice(s suite) {
	body := pattern(100, 12)
	s.put("a", body, newNonce())
	got := s.get("a", objectlog.Extent{})
	for i := range got {
		got[i] = 0
	}
	s.wantBody("a", body)
}

func stat(s suite) {
	body, nonce := pattern(12_345, 13), newNonce()
	s.put("x/y", body, nonce)
	got := s.stat("x/y")
	want := objectlog.ObjectInfo{
		Key: s.prefix + "x/y", Bytes: 12_345, Created: got.Created,
		Nonce: nonce, CRC32C: crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)),
	}
	if got != want {
		s.Errorf("stat: %+v, want %+v", got, want)
	}
}

func statAbsent(s suite) {
	_, err := s.bucket.Stat(s.ctx, s.prefix+"absent")
	s.wantErr(objectlog.ErrNotFound, err)
}

// listOrder has names around the slash in the byte order, where a walk of folders and bytewise order differ. No key is another's
// folder: some stores refuse that, and our keys never are.
func listOrder(s suite) {
	want := []string{"A", "a!", "a-b", "a.b", "a/b", "a/b-", "a0", "a1/z", "b/0/0", "b/0/1", "b/00", "z"}
	for _, i := range []int{7, 3, 11, 0, 9, 5, 1, 10, 2, 8, 4, 6} {
		s.put(want[i], []byte(want[i]), newNonce())
	}
	s.wantList("", "", 1000, want)
}

func listAfter(s suite) {
	all := []string{"a", "b/1", "b/2", "b/3", "c", "d/1", "e"}
	for _, key := range all {
		s.put(key, nil, newNonce())
	}
	for i, after := range all {
		s.wantList("", after, 1000, all[i+1:])
		s.wantList("", after, 2, all[i+1:min(i+3, len(all))])
	}
	s.wantList("", "b", 1, []string{"b/1"})    // after need not be a key itself
	s.wantList("", "b/2x", 1, []string{"b/3"}) // ditto, within a folder
	s.wantList("b/", "b/1", 10, all[2:4])      // with a prefix
	s.wantList("b/", "a", 10, all[1:4])        // after lies before the prefix
	s.wantList("b/", "b/3", 10, nil)           // nothing is left
	s.wantList("b/", "c", 10, nil)             // after lies behind the prefix
	s.wantList("", "", 3, all[:3])             // the limit alone
	s.wantList("d/", "", 10, []string{"d/1"})  // the prefix alone
	s.wantList("d", "", 10, []string{"d/1"})   // a prefix need not end a segment
	s.wantList("b/2", "", 10, []string{"b/2"}) // a prefix may be a whole key
	s.wantList("d/1/", "", 10, nil)            // an object has nothing below it
}

func listPrefix(s suite) {
	for _, key := range []string{"seg/0a/1", "seg/0a/2", "seg/0b/1", "segment", "snap/1"} {
		s.put(key, pattern(len(key), 1), newNonce())
	}
	s.wantList("seg/", "", 10, []string{"seg/0a/1", "seg/0a/2", "seg/0b/1"})
	s.wantList("seg", "", 10, []string{"seg/0a/1", "seg/0a/2", "seg/0b/1", "segment"})
	s.wantList("seg/0", "", 10, []string{"seg/0a/1", "seg/0a/2", "seg/0b/1"})
	s.wantList("seg/0b", "", 10, []string{"seg/0b/1"})
	infos, err := s.bucket.List(s.ctx, s.prefix+"segm", "", 10)
	if err != nil || len(infos) != 1 || infos[0].Bytes != int64(len("segment")) {
		s.Errorf("list: %+v, %v, want one object of 7 bytes", infos, err)
	}
}

func listNothing(s suite) {
	s.wantList("", "", 10, nil)
	s.wantList("no/such/prefix", "", 10, nil)
}

func listLimit(s suite) {
	for _, limit := range []int{-1, 0, 1001} {
		if _, err := s.bucket.List(s.ctx, s.prefix, "", limit); err == nil {
			s.Errorf("list with limit %d: no error", limit)
		}
	}
}

func listThousand(s suite) {
	const objects = 1_010
	var want []string
	for i := range objects {
		want = append(want, fmt.Sprintf("%02x/%04d", i/100, i))
	}
	s.together(16, func(worker int) {
		for i := worker; i < objects; i += 16 {
			s.put(want[i], nil, newNonce())
		}
	})
	s.wantList("", "", 1000, want[:1000])
	s.wantList("", want[999], 1000, want[1000:])
}

func deleteTwice(s suite) {
	s.delete("absent")
	s.put("a", []byte("body"), newNonce())
	s.put("b", []byte("stays"), newNonce())
	s.delete("a")
	s.delete("a")
	_, err := s.bucket.Get(s.ctx, s.prefix+"a", objectlog.Extent{})
	s.wantErr(objectlog.ErrNotFound, err)
	s.wantList("", "", 10, []string{"b"})
}

func endedContext(s suite) {
	s.put("there", []byte("body"), newNonce())
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	body := []byte("late")
	_, get := s.bucket.Get(ctx, s.prefix+"there", objectlog.Extent{})
	_, list := s.bucket.List(ctx, s.prefix, "", 10)
	_, stat := s.bucket.Stat(ctx, s.prefix+"there")
	nonce := newNonce()
	for method, err := range map[string]error{
		"Put": s.bucket.Put(ctx, s.prefix+"late", body, nonce), "Get": get, "List": list, "Stat": stat,
		"Delete": s.bucket.Delete(ctx, s.prefix+"there"),
	} {
		if !errors.Is(err, context.Canceled) {
			s.Errorf("%s with an ended context: %v, want context.Canceled", method, err)
		}
	}
	s.put("late", body, nonce) // whatever became of the first attempt, the same put decides it
	s.wantBody("late", body)
	if !strings.HasPrefix(s.stat("late").Key, s.prefix) {
		s.Error("stat answers a key without its prefix")
	}
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

func newNonce() objectlog.UUID {
	return objectlog.NewUUID(rand.Uint64)
}

// pattern is a body whose bytes depend on position and seed, so that a mixture of two bodies is seen.
func pattern(n int, seed byte) []byte {
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(i) ^ byte(i>>8)*31 ^ byte(i>>16)*17 ^ seed
	}
	return body
}
