package metadata

import (
	"encoding/binary"
	"fmt"

	"github.com/splashdam/splashdam/objectlog"
)

// A result is one byte that says of which type, then, in the writing of package wire,
//
//	0  nil             nothing
//	1  TopicResult     reason (1); id, name, partitions, target, settings, state (1), version, created
//	2  TrimResult      reason (1); log start
//	3  CommitResult    its batches, as a boot remembers them
//	4  the same, Unknown
//
// Results live as long as a call: as such they are never stored.
const (
	resultNil = iota
	resultTopic
	resultTrim
	resultCommit
	resultUnknown
)

// EncodeResult writes what State's Apply answered for a command, so that a proposer elsewhere can be told. Error: no result of State's.
func EncodeResult(result any) ([]byte, error) {
	switch x := result.(type) {
	case nil:
		return []byte{resultNil}, nil
	case TopicResult:
		return appendTopic([]byte{resultTopic, byte(x.Reason)}, &x.Topic), nil
	case TrimResult:
		return binary.AppendVarint([]byte{resultTrim, byte(x.Reason)}, int64(x.LogStart)), nil
	case CommitResult:
		if x.Unknown {
			return []byte{resultUnknown}, nil
		}
		if err := checkBatchResults(x.Batches); err != nil {
			return nil, err
		}
		return append([]byte{resultCommit}, appendBatchResults(x.Batches)...), nil
	}
	return nil, fmt.Errorf("encode result: %T is none of a shard's state", result)
}

// checkBatchResults keeps out what the encoding has no place for. An offset that went wrong on its way would be acknowledged.
func checkBatchResults(batches []BatchResult) error {
	for i, b := range batches {
		bears := b.Reason == ReasonNone || b.Reason == ReasonOffsetMismatch
		if b.Reason > ReasonOldSequence || bears && (b.Base < 0 || b.Base > offsetMax) || !bears && b.Base != objectlog.NoOffset {
			return fmt.Errorf("encode result: batch %d: base %d with reason %d", i, b.Base, b.Reason)
		}
	}
	return nil
}

// DecodeResult reads what EncodeResult wrote. Any other bytes are an error.
func DecodeResult(b []byte) (any, error) {
	r := newReader(b)
	var result any
	switch tag := r.Byte("type"); tag {
	case resultNil:
	case resultTopic:
		t := TopicResult{Reason: Reason(r.Byte("reason")), Topic: r.topic()}
		if t.Topic.State > TopicDeleting { // 0: of a command that found none
			r.Fail("topic %q (%s): no such state as %d", t.Topic.Name, t.Topic.ID, t.Topic.State)
		}
		result = t
	case resultTrim:
		result = TrimResult{Reason: Reason(r.Byte("reason")), LogStart: objectlog.Offset(r.Varint("log start"))}
	case resultCommit:
		result = CommitResult{Batches: r.batchResults()}
	case resultUnknown:
		result = CommitResult{Unknown: true}
	default:
		r.Fail("type %d: not one of this version", tag)
	}
	if err := r.End(); err != nil {
		return nil, fmt.Errorf("decode result: %w", err)
	}
	return result, nil
}
