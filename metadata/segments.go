package metadata

import (
	"slices"

	"github.com/splashdam/splashdam/objectlog"
)

const segmentPageLen = 256

// segments numbers the segments that rows lie in, so that a row names one by four bytes. A number is reused when no row refers to it any
// more. Pages are copied on the first change after a view.
type segments struct {
	pages []*segmentPage
	next  uint32   // numbers below it have been given out
	free  []uint32 // those of them without rows
}

type segmentPage struct {
	gen     uint32
	entries [segmentPageLen]segment
}

// segment is committed at one position per shard, so the leader epoch of its batches is kept here.
type segment struct {
	name  objectlog.SegmentName
	epoch objectlog.Epoch
	rows  uint32 // that refer to it
}

func (s *segments) at(n uint32) *segment {
	return &s.pages[n/segmentPageLen].entries[n%segmentPageLen]
}

func (s *segments) own(n, gen uint32) *segment {
	page := s.pages[n/segmentPageLen]
	if page.gen != gen {
		own := *page
		own.gen = gen
		page = &own
		s.pages[n/segmentPageLen] = page
	}
	return &page.entries[n%segmentPageLen]
}

func (s *segments) add(name objectlog.SegmentName, epoch objectlog.Epoch, gen uint32) uint32 {
	n := s.next
	if k := len(s.free); k > 0 {
		n, s.free = s.free[k-1], s.free[:k-1]
	} else {
		if n%segmentPageLen == 0 {
			s.pages = append(s.pages, &segmentPage{gen: gen})
		}
		s.next++
	}
	*s.own(n, gen) = segment{name: name, epoch: epoch}
	return n
}

// release takes back one row's reference.
func (s *segments) release(n, gen uint32) {
	e := s.own(n, gen)
	if e.rows--; e.rows == 0 {
		s.free = append(s.free, n)
	}
}

// view is a picture for reading.
func (s *segments) view() segments { return segments{pages: slices.Clone(s.pages), next: s.next} }
