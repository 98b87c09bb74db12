package main

import (
	"encoding/json"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

func TestPercentilesAreThoseOfTheRecordedDurations(t *testing.T) {
	l := newLatencies()
	for i := 1; i <= 1000; i++ {
		l.add(time.Duration(i) * time.Millisecond)
	}
	l.add(time.Hour) // beyond the range: counted at its end
	p := l.percentiles()
	near := func(got, want float64) bool { return math.Abs(got-want) <= want/500 }
	if !near(p.P50, 501) || !near(p.P99, 991) || p.Count != 1001 || p.Max < 590_000 {
		t.Errorf("got %+v of 1 to 1,000 ms and one hour", p)
	}
}

func TestPaceKeepsTheScheduleWhateverWasLate(t *testing.T) {
	p := pace{start: time.Unix(100, 0), rate: 1000}
	if got, want := p.due(2500), time.Unix(102, 500_000_000); !got.Equal(want) {
		t.Errorf("request 2,500 at 1,000/s is due at %s, want %s", got, want)
	}
}

func TestBenchRecordsAreJSONOfTheirSizeAndNumbered(t *testing.T) {
	for _, size := range []int{benchSizeMin, 1024, 100_000} {
		g := newBenchRecords(1, size, 5, false)
		keys := map[string]int{}
		for i := range 3000 {
			key, value := g.take()
			var v struct {
				Sequence string `json:"sequence"`
			}
			if err := json.Unmarshal(value, &v); err != nil || len(value) != size {
				t.Fatalf("record %d: %d bytes, want %d, %v: %.80s", i, len(value), size, err, value)
			}
			if n, err := strconv.Atoi(v.Sequence); err != nil || n != i {
				t.Fatalf("record %d has number %s (%v)", i, v.Sequence, err)
			}
			keys[string(key)]++
		}
		if len(keys) != 5 {
			t.Errorf("%d keys, want 5", len(keys))
		}
	}
}

func TestIncompressibleBenchRecordsAreAsLargeWhenCompressed(t *testing.T) {
	const records, size = 1000, 1024
	g := newBenchRecords(1, size, 0, true)
	list := make([]objectlog.Record, records)
	for i := range list {
		_, list[i].Value = g.take()
		if n, err := benchSequence(list[i].Value); err != nil || n != int64(i) || len(list[i].Value) != size {
			t.Fatalf("record %d of %d bytes has number %d (%v)", i, len(list[i].Value), n, err)
		}
	}
	b, err := objectlog.EncodeBatch(nil, list, objectlog.BatchOptions{Codec: objectlog.CodecZstd})
	if err != nil || len(b) < records*size*9/10 {
		t.Errorf("%d records of %d bytes take %d (%v)", records, size, len(b), err)
	}
}
