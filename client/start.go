package client

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

type startKind uint8

const (
	startUnset startKind = iota
	startEarliest
	startLatest
	startAt
	startSince
	startTail
)

// Start is a place in a log at which reading begins. The zero Start leaves it to the default.
type Start struct {
	kind   startKind
	number int64 // an offset, or a number of records
	time   time.Time
}

// Earliest is the first record still kept.
func Earliest() Start { return Start{kind: startEarliest} }

// Latest is behind the last committed record.
func Latest() Start { return Start{kind: startLatest} }

// At is this offset.
func At(o Offset) Start { return Start{kind: startAt, number: int64(o)} }

// Since is the first record whose timestamp is at or after t, or Latest where there is none.
func Since(t time.Time) Start { return Start{kind: startSince, time: t} }

// Tail is n records before the end, or Earliest where there are fewer.
func Tail(n int64) Start { return Start{kind: startTail, number: n} }

func (s Start) message() *splashdamv1.Start {
	switch s.kind {
	case startLatest:
		return &splashdamv1.Start{At: &splashdamv1.Start_Point{Point: splashdamv1.StartPoint_START_POINT_LATEST}}
	case startAt:
		return &splashdamv1.Start{At: &splashdamv1.Start_Offset{Offset: s.number}}
	case startSince:
		return &splashdamv1.Start{At: &splashdamv1.Start_Timestamp{Timestamp: timestamppb.New(s.time)}}
	case startTail:
		return &splashdamv1.Start{At: &splashdamv1.Start_TailRecords{TailRecords: s.number}}
	default:
		return &splashdamv1.Start{At: &splashdamv1.Start_Point{Point: splashdamv1.StartPoint_START_POINT_EARLIEST}}
	}
}

// place is one partition of one topic.
type place struct {
	topic     string
	partition Partition
}

// fetchFrom is a place and where to begin in it.
type fetchFrom struct {
	place
	start Start
}

func (f fetchFrom) message() *splashdamv1.FetchRequest_Partition {
	m := &splashdamv1.FetchRequest_Partition{Topic: f.topic, Start: f.start.message()}
	if f.partition != AnyPartition {
		p := int32(f.partition)
		m.Partition = &p
	}
	return m
}
