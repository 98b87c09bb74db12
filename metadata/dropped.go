package metadata

import (
	"encoding/binary"
	"slices"

	"github.com/splashdam/splashdam/metadata/wire"
	"github.com/splashdam/splashdam/objectlog"
)

// dropped is a topic that this shard dropped, and when. An AddPartitions of a leader of shard 0 that was replaced long ago, or whose agent
// stood still, may arrive after all: it must not make partitions that no topic owns.
type dropped struct {
	topic objectlog.UUID
	time  objectlog.Timestamp
}

const (
	droppedLife = 24 * 3600 * 1000 // ms of entry time: far more than a proposal is under way
	droppedMax  = 10_000           // the oldest are forgotten first
)

func (s *State) wasDropped(topic objectlog.UUID) bool {
	return slices.ContainsFunc(s.dropped, func(d dropped) bool { return d.topic == topic })
}

// bury remembers a topic once, and forgets those of long ago. The list is replaced, never changed: views share it.
func (s *State) bury(topic objectlog.UUID, now objectlog.Timestamp) {
	if s.wasDropped(topic) {
		return
	}
	old := s.dropped
	for len(old) > 0 && (now-old[0].time > droppedLife || len(old) >= droppedMax) {
		old = old[1:]
	}
	s.dropped = append(slices.Clone(old), dropped{topic, now})
}

func appendDropped(dst []byte, all []dropped) []byte {
	dst = wire.AppendInt(dst, len(all))
	for _, d := range all {
		dst = binary.AppendVarint(append(dst, d.topic[:]...), int64(d.time))
	}
	return dst
}

func (r *reader) dropped() []dropped {
	n := r.Count("dropped topics", 17)
	all := make([]dropped, 0, n)
	for range n {
		all = append(all, dropped{r.UUID("dropped topic"), objectlog.Timestamp(r.Varint("dropped at"))})
	}
	if n == 0 {
		r.Fail("dropped topics: none, in a snapshot that says it has some")
	}
	return all
}
