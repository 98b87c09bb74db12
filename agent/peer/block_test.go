package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

func TestBlocksCross(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	segment := objectlog.SegmentName{Boot: uuid(9), Counter: 1 << 60, Random: 1<<32 - 1}
	extent := objectlog.Extent{Start: 1 << 40, Next: 1<<40 + int64(len(data))}
	address := start(t, &fake{own: identity(calledBoot), block: func(_ context.Context, n objectlog.SegmentName, e objectlog.Extent) ([]byte, error) {
		if n != segment || e != extent {
			return nil, fmt.Errorf("asked for %v of %v", e, n)
		}
		return data, nil
	}})
	got, err := connected(t, identity(callerBoot)).ReadBlock(soon(t), called(address), segment, extent)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

func TestErrorsOfTheBucketCross(t *testing.T) {
	for _, sentinel := range []error{objectlog.ErrNotFound, objectlog.ErrRange} {
		address := start(t, &fake{own: identity(calledBoot), block: func(context.Context, objectlog.SegmentName, objectlog.Extent) ([]byte, error) {
			return nil, fmt.Errorf("get x: %w", sentinel)
		}})
		_, err := connected(t, identity(callerBoot)).ReadBlock(soon(t), called(address), objectlog.SegmentName{}, objectlog.Extent{Next: 1})
		if !errors.Is(err, sentinel) || !strings.Contains(err.Error(), "get x: "+sentinel.Error()) {
			t.Errorf("got %v, want %v", err, sentinel)
		}
	}
}

// A segment may end within the extent, so less of it is an answer; nothing and too much are none.
func TestAnEmptyOrTooLongBlockIsNoBlock(t *testing.T) {
	for data, want := range map[string]string{"": "0 bytes instead of 1 to 4", "abc": "", "abcd": "", "abcde": "5 bytes instead of 1 to 4"} {
		address := start(t, &fake{own: identity(calledBoot), block: func(context.Context, objectlog.SegmentName, objectlog.Extent) ([]byte, error) {
			return []byte(data), nil
		}})
		got, err := connected(t, identity(callerBoot)).ReadBlock(soon(t), called(address), objectlog.SegmentName{}, objectlog.Extent{Next: 4})
		switch {
		case want == "" && (err != nil || string(got) != data):
			t.Errorf("%q: got %q, %v", data, got, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %s", data, err, want)
		}
	}
}

func TestExtentsThatNobodyAsksForAreRefused(t *testing.T) {
	address := start(t, &fake{own: identity(calledBoot)})
	for _, e := range []objectlog.Extent{{}, {Start: -1, Next: 1}, {Start: 5, Next: 4}, {Next: blockBytesMax + 1}, {Start: -1 << 63, Next: 1<<63 - 1}} {
		_, err := connected(t, identity(callerBoot)).ReadBlock(soon(t), called(address), objectlog.SegmentName{}, e)
		if err == nil || !strings.Contains(err.Error(), "extent") {
			t.Errorf("%v: %v", e, err)
		}
	}
}
