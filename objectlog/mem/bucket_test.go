package mem

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/objectlogtest"
)

var update = flag.Bool("update", false, "write testdata anew")

func TestBucketPassesTheAcceptanceSuite(t *testing.T) {
	objectlogtest.Run(t, func(*testing.T) objectlog.Bucket { return new(Bucket) })
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

func TestPutFaultsStoreWhatTheirNamesSay(t *testing.T) {
	ctx, nonce := context.Background(), objectlog.UUID{1}
	for _, test := range []struct {
		fault      Fault
		err        error
		storedThen bool
	}{
		{None, nil, true},
		{FailBefore, ErrInjected, false},
		{Throttle, objectlog.ErrThrottled, false},
		{FailAfter, ErrInjected, true},
		{Hold, ErrInjected, false},
		{Twice, nil, true},
	} {
		b := &Bucket{Fault: script(test.fault)}
		if err := b.Put(ctx, "k", []byte("body"), nonce); !errors.Is(err, test.err) {
			t.Errorf("%s: put: %v, want %v", test.fault, err, test.err)
		}
		_, err := b.Stat(ctx, "k")
		if stored := err == nil; stored != test.storedThen {
			t.Errorf("%s: stored is %v, want %v", test.fault, stored, test.storedThen)
		}
		if err := b.Put(ctx, "k", []byte("body"), nonce); err != nil {
			t.Errorf("%s: the same put again: %v", test.fault, err)
		}
	}
}

func TestHeldPutLandsWhenReleased(t *testing.T) {
	ctx := context.Background()
	b := &Bucket{Fault: script(Hold)}
	body := []byte("body")
	b.Put(ctx, "k", body, objectlog.UUID{1})
	body[0] = 'X' // the caller's slice is its own again
	held := b.Held()
	if len(held) != 1 || held[0].Key != "k" {
		t.Fatalf("held: %+v", held)
	}
	if err := b.Release(held[0].N); err != nil {
		t.Fatal(err)
	}
	got, err := b.Get(ctx, "k", objectlog.Extent{})
	if err != nil || string(got) != "body" {
		t.Errorf("after the release: %q, %v", got, err)
	}
	if err := b.Release(held[0].N); err == nil {
		t.Error("a request was released twice")
	}
}

func TestHeldPutIsJudgedWhenItLands(t *testing.T) {
	ctx := context.Background()
	b := &Bucket{Fault: script(Hold)}
	b.Put(ctx, "k", []byte("first"), objectlog.UUID{1})
	if err := b.Put(ctx, "k", []byte("second"), objectlog.UUID{2}); err != nil {
		t.Fatal(err)
	}
	if err := b.Release(1); !errors.Is(err, objectlog.ErrExists) {
		t.Errorf("release: %v, want ErrExists", err)
	}
	if got, _ := b.Get(ctx, "k", objectlog.Extent{}); string(got) != "second" {
		t.Errorf("the late put replaced the object: %q", got)
	}
}

func TestHeldDeleteRemovesWhatCameMeanwhile(t *testing.T) {
	ctx := context.Background()
	b := &Bucket{Fault: script(Hold)}
	b.Delete(ctx, "k")
	b.Put(ctx, "k", []byte("body"), objectlog.UUID{1})
	if err := b.Release(1); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stat(ctx, "k"); !errors.Is(err, objectlog.ErrNotFound) {
		t.Errorf("stat: %v, want ErrNotFound", err)
	}
}

func TestReadFaultsLastForOneRequest(t *testing.T) {
	ctx := context.Background()
	b := &Bucket{Fault: script(None, NotFound, Corrupt, Short, FailBefore, Throttle)}
	body := []byte("0123456789")
	b.Put(ctx, "k", body, objectlog.UUID{1})
	get := func() ([]byte, error) { return b.Get(ctx, "k", objectlog.Extent{}) }
	if _, err := get(); !errors.Is(err, objectlog.ErrNotFound) {
		t.Errorf("not found: %v", err)
	}
	if got, err := get(); err != nil || len(got) != 10 || bytes.Equal(got, body) {
		t.Errorf("corrupt: %q, %v", got, err)
	}
	if got, err := get(); err != nil || string(got) != "01234" {
		t.Errorf("short: %q, %v", got, err)
	}
	if _, err := get(); !errors.Is(err, ErrInjected) {
		t.Errorf("fail before: %v", err)
	}
	if _, err := get(); !errors.Is(err, objectlog.ErrThrottled) || !errors.Is(err, ErrInjected) {
		t.Errorf("throttle: %v", err)
	}
	if got, err := get(); err != nil || !bytes.Equal(got, body) {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

func TestEditDamagesAndRemovesObjects(t *testing.T) {
	ctx := context.Background()
	b := new(Bucket)
	b.Put(ctx, "k", []byte("body"), objectlog.UUID{1})
	b.Edit("k", func(body []byte) []byte { return body[:2] })
	if got, _ := b.Get(ctx, "k", objectlog.Extent{}); string(got) != "bo" {
		t.Errorf("after the damage: %q", got)
	}
	b.Edit("k", func([]byte) []byte { return nil })
	if _, err := b.Stat(ctx, "k"); !errors.Is(err, objectlog.ErrNotFound) {
		t.Errorf("after the removal: %v", err)
	}
}

func TestTranscriptShowsEveryRequest(t *testing.T) {
	ctx := context.Background()
	var lines strings.Builder
	b := &Bucket{
		Transcript: &lines,
		Rewrite:    func(key string) string { return strings.ReplaceAll(key, "c0ffee", "<boot>") },
		Fault:      script(None, FailAfter, None, None, None, None, None, Hold, Corrupt),
	}
	const k = "seg/c0ffee/1"
	b.Put(ctx, k, make([]byte, 1234), objectlog.UUID{1})
	b.Put(ctx, "other", nil, objectlog.UUID{1})
	b.Put(ctx, k, nil, objectlog.UUID{2})
	b.Get(ctx, k, objectlog.Extent{Start: 10, Next: 20})
	b.Get(ctx, k, objectlog.Extent{Start: 10, Next: 2000})
	b.Get(ctx, "absent", objectlog.Extent{})
	b.List(ctx, "seg/", k, 5)
	b.Delete(ctx, k)
	b.Get(ctx, k, objectlog.Extent{})
	b.List(ctx, "seg/", "", 5)
	b.Release(8)
	b.Stat(ctx, k)
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
	if got := b.Count(OpGet); got != 4 {
		t.Errorf("counted %d gets, want 4", got)
	}
}
