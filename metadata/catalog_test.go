package metadata

import (
	"testing"
)

func TestTopicLivesFromCreatingToForgotten(t *testing.T) {
	s := newShard(t, Config{})
	settings := Settings{"retention.ms": "1000"}
	created := Topic{ID: id(1), Name: "a", Target: 3, Settings: settings, State: TopicCreating, Version: 1, Created: 1_001}
	want(t, "created", s.do(CreateTopic{ID: id(1), Name: "a", Partitions: 3, Settings: settings}.Command()), any(TopicResult{Topic: created}))
	want(t, "unsettled", s.Unsettled(), []Topic{created})

	active := created
	active.State, active.Partitions, active.Version = TopicActive, 3, 2
	want(t, "active", s.do(ActivateTopic{ID: id(1), Partitions: 3}.Command()), any(TopicResult{Topic: active}))
	want(t, "unsettled", s.Unsettled(), nil)

	grown := active
	grown.Target, grown.Version = 8, 3
	want(t, "growing", s.do(GrowTopic{ID: id(1), Partitions: 8}.Command()), any(TopicResult{Topic: grown}))
	want(t, "unsettled", s.Unsettled(), []Topic{grown})
	grown.Partitions, grown.Version = 8, 4
	want(t, "grown", s.do(ActivateTopic{ID: id(1), Partitions: 8}.Command()), any(TopicResult{Topic: grown}))

	altered := grown
	altered.Settings, altered.Version = nil, 5
	want(t, "altered", s.do(AlterTopic{ID: id(1), Version: 4}.Command()), any(TopicResult{Topic: altered}))

	deleting := altered
	deleting.State, deleting.Version = TopicDeleting, 6
	want(t, "deleting", s.do(DeleteTopic{ID: id(1), Version: 5}.Command()), any(TopicResult{Topic: deleting}))
	want(t, "unsettled", s.Unsettled(), []Topic{deleting})
	want(t, "forgotten", s.do(ForgetTopic{ID: id(1)}.Command()), any(TopicResult{Topic: deleting}))
	if topic, ok := s.Topic("a"); ok {
		t.Errorf("forgotten topic is still there: %+v", topic)
	}
}

func TestNameIsTakenUntilItsTopicIsForgotten(t *testing.T) {
	s := newShard(t, Config{})
	other := CreateTopic{ID: id(2), Name: "a", Partitions: 1}.Command()
	s.do(CreateTopic{ID: id(1), Name: "a", Partitions: 1}.Command())
	want(t, "reason", s.do(other).(TopicResult).Reason, ReasonTopicExists)
	s.do(DeleteTopic{ID: id(1)}.Command())
	want(t, "reason while deleting", s.do(other).(TopicResult).Reason, ReasonTopicExists)
	s.do(ForgetTopic{ID: id(1)}.Command())
	want(t, "reason when forgotten", s.do(other).(TopicResult).Reason, ReasonNone)
}

func TestRepeatedCatalogCommandsChangeNothing(t *testing.T) {
	s := newShard(t, Config{})
	for _, c := range []Command{
		CreateTopic{ID: id(1), Name: "a", Partitions: 2}.Command(),
		ActivateTopic{ID: id(1), Partitions: 2}.Command(),
		GrowTopic{ID: id(1), Partitions: 4}.Command(),
		ActivateTopic{ID: id(1), Partitions: 4}.Command(),
		AlterTopic{ID: id(1), Settings: Settings{"retention.ms": "5"}}.Command(),
		DeleteTopic{ID: id(1)}.Command(),
	} {
		first := s.do(c).(TopicResult)
		want(t, "the first", first.Reason, ReasonNone)
		want(t, "the repeat", s.do(c), any(first))
	}
}

func TestCatalogCommandsSayWhyTheyDidNothing(t *testing.T) {
	s := newShard(t, Config{})
	s.do(CreateTopic{ID: id(1), Name: "a", Partitions: 2}.Command())
	s.do(ActivateTopic{ID: id(1), Partitions: 2}.Command())
	s.do(CreateTopic{ID: id(2), Name: "b", Partitions: 2}.Command())
	s.do(DeleteTopic{ID: id(2)}.Command())
	before, _ := s.Topic("a")
	for _, c := range []struct {
		what    string
		command Command
		want    Reason
	}{
		{"id of another topic", CreateTopic{ID: id(1), Name: "c", Partitions: 1}.Command(), ReasonInvalid},
		{"creation of a topic that is being deleted", CreateTopic{ID: id(2), Name: "b", Partitions: 2}.Command(), ReasonTopicExists},
		{"altered at another version", AlterTopic{ID: id(1), Version: 1, Settings: Settings{"retention.ms": "5"}}.Command(), ReasonTopicChanged},
		{"deleted at another version", DeleteTopic{ID: id(1), Version: 1}.Command(), ReasonTopicChanged},
		{"fewer partitions", GrowTopic{ID: id(1), Partitions: 1}.Command(), ReasonInvalid},
		{"more partitions than asked for", ActivateTopic{ID: id(1), Partitions: 3}.Command(), ReasonInvalid},
		{"a live topic forgotten", ForgetTopic{ID: id(1)}.Command(), ReasonInvalid},
		{"alter unknown", AlterTopic{ID: id(9)}.Command(), ReasonUnknownTopic},
		{"grow unknown", GrowTopic{ID: id(9), Partitions: 1}.Command(), ReasonUnknownTopic},
		{"activate unknown", ActivateTopic{ID: id(9), Partitions: 1}.Command(), ReasonUnknownTopic},
		{"delete unknown", DeleteTopic{ID: id(9)}.Command(), ReasonUnknownTopic},
		{"forget unknown", ForgetTopic{ID: id(9)}.Command(), ReasonUnknownTopic},
		{"alter deleting", AlterTopic{ID: id(2), Settings: Settings{"retention.ms": "5"}}.Command(), ReasonUnknownTopic},
		{"grow deleting", GrowTopic{ID: id(2), Partitions: 9}.Command(), ReasonUnknownTopic},
		{"activate deleting", ActivateTopic{ID: id(2), Partitions: 2}.Command(), ReasonUnknownTopic},
	} {
		want(t, c.what, s.do(c.command).(TopicResult).Reason, c.want)
	}
	after, _ := s.Topic("a")
	want(t, "topic", after, before)
}

func TestTopicsAreListedInNameOrder(t *testing.T) {
	s := newShard(t, Config{})
	for n, name := range []string{"b", "a", "d", "c"} {
		s.do(CreateTopic{ID: id(n + 1), Name: name, Partitions: 1}.Command())
	}
	names := func(topics []Topic) (names string) {
		for _, t := range topics {
			names += t.Name
		}
		return names
	}
	want(t, "all", names(s.Topics("", 10)), "abcd")
	want(t, "two", names(s.Topics("", 2)), "ab")
	want(t, "behind b", names(s.Topics("b", 10)), "cd")
	want(t, "behind the last", names(s.Topics("d", 10)), "")
	want(t, "none", names(s.Topics("", 0)), "")
}
