package agent

import (
	"testing"

	"github.com/splashdam/splashdam/agent/write"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

func TestOnlyProcessOfATableRetiresTheBootsBeforeIt(t *testing.T) {
	s := newStores()
	first := start(t, s, testConfig())
	first.stop()
	a := start(t, s, testConfig())
	batch, row, err := write.EncodeRecords([]objectlog.Record{{Value: []byte("late")}}, objectlog.CodecNone, 1<<20,
		objectlog.BatchOptions{LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer, ProducerEpoch: -1, FirstSequence: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, sections := objectlog.EncodeSegment([]objectlog.SegmentRun{{Topic: objectlog.UUID{1}, Batches: [][]byte{batch}, Rows: []objectlog.BatchRow{row}}})
	commit := func(ordinal int64) metadata.CommitResult {
		c := metadata.Commit{Ordinal: ordinal, Segment: objectlog.SegmentName{Boot: objectlog.UUID{9}, Counter: 1}, Section: sections[0].Ref}.Command()
		c.Footer = sections[0].Bytes
		results, err := a.propose(t.Context(), catalogShard, c)
		if err != nil {
			t.Fatal(err)
		}
		return results[0].(metadata.CommitResult)
	}
	waitFor(t, a.Agent, func() bool { // its own command was appended: the log has an entry more than the barriers
		applied := a.shards[catalogShard].log.Status().Applied
		return applied >= 2
	})
	if r := commit(first.presence.info.Ordinal); !r.Unknown {
		t.Errorf("a commit of the boot before: %+v", r)
	}
	if r := commit(a.presence.info.Ordinal + 1); r.Unknown {
		t.Errorf("a commit of a later boot: %+v", r)
	}
}
