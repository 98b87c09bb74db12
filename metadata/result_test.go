package metadata

import (
	"encoding/hex"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
	"pgregory.net/rapid"
)

// everyResult is results of every type, at their bounds too.
func everyResult() []any {
	topic := Topic{ID: id(1), Name: "matches", Partitions: 3, Target: 5, Settings: Settings{"retention.ms": "-1", "compression.type": "zstd"},
		State: TopicActive, Version: 4, Created: 1_700_000_000_000}
	return []any{
		nil,
		TopicResult{Topic: topic},
		TopicResult{Topic: topic, Reason: ReasonTopicExists},
		TopicResult{Reason: ReasonUnknownTopic},
		TrimResult{LogStart: 4},
		TrimResult{LogStart: math.MaxInt64},
		TrimResult{LogStart: objectlog.NoOffset, Reason: ReasonUnknownTopic},
		CommitResult{Batches: []BatchResult{}},
		CommitResult{Unknown: true},
		CommitResult{Batches: []BatchResult{{Base: 0}, {Base: 3}, {Base: 1 << 40, Duplicate: true}, {Base: 9, Reason: ReasonOffsetMismatch},
			{Base: objectlog.NoOffset, Reason: ReasonSequenceGap}, {Base: offsetMax}, {Base: objectlog.NoOffset, Reason: ReasonOldSequence, Duplicate: true}, {Base: 1}}},
	}
}

func TestResultsAreWrittenAsEver(t *testing.T) {
	var b strings.Builder
	for _, x := range everyResult() {
		encoded, err := EncodeResult(x)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%x\n", encoded)
	}
	golden(t, "results.golden", []byte(b.String()))
	i := 0
	for line := range strings.Lines(b.String()) {
		encoded, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeResult(encoded)
		if err != nil || !reflect.DeepEqual(got, everyResult()[i]) {
			t.Errorf("result %d: got %+v, %v, want %+v", i, got, err, everyResult()[i])
		}
		i++
	}
}

func drawOffset(t *rapid.T, what string) objectlog.Offset {
	return objectlog.Offset(rapid.OneOf(rapid.Int64Range(-1, 9), rapid.Int64Range(-1, math.MaxInt64)).Draw(t, what))
}

func drawReason(t *rapid.T) Reason { return Reason(rapid.Uint8().Draw(t, "reason")) }

func drawResult(t *rapid.T) any {
	switch rapid.IntRange(0, 4).Draw(t, "type") {
	case 0:
		return TopicResult{Reason: drawReason(t), Topic: Topic{
			ID: id(rapid.IntRange(0, 3).Draw(t, "topic")), Name: rapid.StringN(0, 60, nameBytesMax).Draw(t, "name"),
			Partitions: rapid.Int32Range(0, partitionsMax).Draw(t, "partitions"), Target: rapid.Int32Range(0, partitionsMax).Draw(t, "target"),
			Settings: rapid.SampledFrom([]Settings{nil, {"a": ""}, {"a": "1", "b": "2"}}).Draw(t, "settings"),
			State:    TopicState(rapid.Uint8Range(0, 3).Draw(t, "state")), Version: rapid.Int64Range(0, math.MaxInt64).Draw(t, "version"),
			Created: objectlog.Timestamp(rapid.Int64().Draw(t, "created"))}}
	case 1:
		return TrimResult{LogStart: drawOffset(t, "log start"), Reason: drawReason(t)}
	case 2:
		return CommitResult{Unknown: true}
	case 3:
		return nil
	}
	c := CommitResult{Batches: []BatchResult{}}
	for range rapid.IntRange(0, 20).Draw(t, "batches") {
		b := BatchResult{Base: objectlog.NoOffset, Reason: Reason(rapid.Uint8Range(0, uint8(ReasonOldSequence)).Draw(t, "reason")), Duplicate: rapid.Bool().Draw(t, "duplicate")}
		if b.Reason == ReasonNone || b.Reason == ReasonOffsetMismatch {
			b.Base = objectlog.Offset(rapid.OneOf(rapid.Int64Range(0, 9), rapid.Int64Range(0, offsetMax)).Draw(t, "base"))
		}
		c.Batches = append(c.Batches, b)
	}
	return c
}

func TestResultsReadAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := drawResult(t)
		b, err := EncodeResult(x)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeResult(b)
		if err != nil || !reflect.DeepEqual(got, x) {
			t.Fatalf("got %+v, %v, want %+v", got, err, x)
		}
		if _, err := DecodeResult(append(b, 0)); err == nil {
			t.Fatal("a byte too many was taken")
		}
		for n := range b {
			if _, err := DecodeResult(b[:n]); err == nil {
				t.Fatalf("%x, cut at %d of %d, was taken", b, n, len(b))
			}
		}
	})
}

// What Apply really answers crosses, whatever the command.
func TestEveryAnswerOfTheStateIsAResult(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 1)
	for _, c := range everyCommand() {
		result, err := s.Apply(s.position(), c)
		if err != nil {
			t.Fatal(err)
		}
		b, err := EncodeResult(result)
		if err != nil {
			t.Fatalf("kind %d: %v", c.Kind, err)
		}
		if got, err := DecodeResult(b); err != nil || !reflect.DeepEqual(got, result) {
			t.Errorf("kind %d: got %+v, %v, want %+v", c.Kind, got, err, result)
		}
	}
}

func TestNoOtherValueIsAResult(t *testing.T) {
	noOffset := CommitResult{Batches: []BatchResult{{Base: objectlog.NoOffset}}}
	offset := CommitResult{Batches: []BatchResult{{Base: 1, Reason: ReasonFencedProducer}}}
	for _, x := range []any{1, "", &CommitResult{}, []BatchResult{}, noOffset, offset} {
		if b, err := EncodeResult(x); err == nil {
			t.Errorf("%T %+v became %x", x, x, b)
		}
	}
}

func TestResultOfACommitIsSmall(t *testing.T) {
	oneRun, partitions := CommitResult{}, CommitResult{}
	for i := range objectlog.Offset(256) {
		oneRun.Batches = append(oneRun.Batches, BatchResult{Base: 1<<40 + 50*i})
		partitions.Batches = append(partitions.Batches, BatchResult{Base: 1<<30 + i*7919%(1<<20)})
	}
	for _, c := range []struct {
		what     string
		result   CommitResult
		bytesMax int
	}{{"256 batches of one run", oneRun, 1800}, {"256 batches of as many partitions", partitions, 1600}} {
		if b, err := EncodeResult(c.result); err != nil || len(b) > c.bytesMax {
			t.Errorf("%s: %d bytes, %v, want at most %d", c.what, len(b), err, c.bytesMax)
		}
	}
}

// FuzzResult: no bytes panic or allocate without bound, and what is taken is written again as something that reads the same.
func FuzzResult(f *testing.F) {
	for _, x := range everyResult() {
		b, err := EncodeResult(x)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{resultCommit, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := DecodeResult(b)
		if err != nil {
			return
		}
		again, err := EncodeResult(x)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeResult(again); err != nil || !reflect.DeepEqual(got, x) {
			t.Fatalf("got %+v, %v, want %+v", got, err, x)
		}
	})
}
