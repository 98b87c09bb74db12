package metadata

import (
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

func TestPartitionsOfADroppedTopicDoNotComeBack(t *testing.T) {
	s := withPartitions(t, Config{}, 1, 2)
	s.do(DropTopic{Topic: id(1)}.Command())
	late := AddPartitions{Topic: id(1), From: 0, To: 2}.Command()
	s.do(late)
	if _, ok := s.Partition(id(1), 0); ok {
		t.Error("an AddPartitions that came behind the DropTopic made partitions")
	}
	restored := NewState(Config{})
	if err := restored.Restore(s.encoded()); err != nil {
		t.Fatal(err)
	}
	if _, err := restored.Apply(s.position(), late); err != nil {
		t.Fatal(err)
	}
	if _, ok := restored.Partition(id(1), 0); ok {
		t.Error("a restored state has forgotten what was dropped")
	}
}

func TestDroppedTopicsAreForgottenInTime(t *testing.T) {
	s := NewState(Config{})
	for i := range droppedMax + 10 {
		s.bury(objectlog.UUID{0: 1, 14: byte(i >> 8), 15: byte(i)}, 0)
	}
	if n := len(s.dropped); n != droppedMax {
		t.Errorf("%d dropped topics are remembered, want %d", n, droppedMax)
	}
	s.bury(id(1), droppedLife+1)
	if n := len(s.dropped); n != 1 {
		t.Errorf("%d dropped topics are remembered a day later, want the new one", n)
	}
}
