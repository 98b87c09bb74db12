package metadata

import (
	"math"
	"reflect"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
	"pgregory.net/rapid"
)

// Clients choose timestamps, producer ids and sequences, so rows of any value have to survive, if not in 32 bytes.
func TestRowsOfAnyValueAreReadAsWritten(t *testing.T) {
	int64s := func(low int64) *rapid.Generator[int64] {
		return rapid.OneOf(rapid.Int64Range(low, 3), rapid.Int64Min(low), rapid.Just[int64](math.MaxInt64))
	}
	rapid.Check(t, func(t *rapid.T) {
		var runs []run
		for range rapid.IntRange(0, 5).Draw(t, "runs") {
			r := run{number: rapid.OneOf(rapid.Uint32Range(0, 3), rapid.Uint32()).Draw(t, "number")}
			if r.number == 0 {
				r.topic = id(rapid.IntRange(1, 3).Draw(t, "topic"))
			}
			r.partition = objectlog.Partition(rapid.Int32Min(0).Draw(t, "partition"))
			r.start = rapid.Int64Range(0, 1000).Draw(t, "start")
			for range rapid.IntRange(1, 3).Draw(t, "rows") {
				w := objectlog.BatchRow{Bytes: rapid.Int32Range(1, math.MaxInt32/2).Draw(t, "bytes"), Records: rapid.Int32Min(1).Draw(t, "records"),
					MaxTimestamp: objectlog.Timestamp(int64s(-1).Draw(t, "time")), CRC: rapid.Uint32().Draw(t, "crc"),
					ProducerID: objectlog.ProducerID(int64s(-1).Draw(t, "producer")), Expected: objectlog.Offset(int64s(-1).Draw(t, "expected"))}
				if w.ProducerID != objectlog.NoProducer {
					w.ProducerEpoch, w.FirstSequence = rapid.Int16Min(0).Draw(t, "epoch"), rapid.Int32Min(0).Draw(t, "sequence")
				}
				r.rows = append(r.rows, w)
			}
			runs = append(runs, r)
		}
		// number is asked by topic id, so let the id say it.
		asked := 0
		body := appendCommitHead(nil, 1, objectlog.SegmentName{Boot: id(1), Counter: 1})
		body = appendRuns(body, runs, func(objectlog.UUID) uint32 { asked++; return runs[asked-1].number })
		got, _, err := decodeCommit(Command{Kind: kindCommitRows, Body: body}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.runs) != len(runs) || len(runs) > 0 && !reflect.DeepEqual(got.runs, runs) {
			t.Fatalf("\n got %+v\nwant %+v", got.runs, runs)
		}
	})
}
