package member_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client/member"
	"github.com/splashdam/splashdam/objectlog"
)

const session = 12 * time.Second // so that the shares are whole: waits 3 s, patience 2 s

var config = member.Config{Session: session, PollMax: time.Minute}

// at is a place by a letter: partitions of one topic.
func at(names string) []member.Place {
	var places []member.Place
	for _, n := range names {
		places = append(places, member.Place{Topic: "orders", TopicID: "id", Partition: objectlog.Partition(n - 'a')})
	}
	return places
}

func letters(places []member.Place) string {
	var b strings.Builder
	for _, p := range places {
		b.WriteByte('a' + byte(p.Partition))
	}
	return b.String()
}

// show writes effects as one line, without wakes.
func show(effects []member.Effect) string {
	var out []string
	for _, e := range effects {
		switch e := e.(type) {
		case member.Send:
			s := fmt.Sprintf("send#%d life %d gen %d owns [%s] wait %s", e.Request, e.Life, e.Generation, letters(e.Owned), e.Wait)
			if e.Leave {
				s += " leave"
			}
			if e.Elsewhere {
				s += " elsewhere"
			}
			out = append(out, s)
		case member.Stop:
			verb := "stop"
			if e.Lost {
				verb = "lose"
			}
			out = append(out, fmt.Sprintf("%s#%d [%s]", verb, e.Stop, letters(e.Places)))
		case member.Start:
			out = append(out, "start ["+letters(e.Places)+"]")
		case member.End:
			out = append(out, fmt.Sprintf("end %v", e.Err))
		}
	}
	return strings.Join(out, "; ")
}

// turn is one Step of a play: at a second, an event, what follows.
type turn struct {
	second float64
	event  member.Event
	want   string
}

func play(t *testing.T, cfg member.Config, turns ...turn) *member.Core {
	t.Helper()
	c := member.New(cfg)
	for i, turn := range turns {
		effects := c.Step(time.Duration(turn.second*float64(time.Second)), turn.event)
		if got := show(effects); got != turn.want {
			t.Fatalf("turn %d, %T at %v s:\ngot  %s\nwant %s", i, turn.event, turn.second, got, turn.want)
		}
	}
	return c
}

func answered(request int, generation int64, assigned string) member.Answered {
	return member.Answered{Request: request, Generation: generation, Assigned: at(assigned), Session: session}
}

// joined is how every play begins: a member with a and b in generation 5, its second heartbeat under way since second 1.
var joined = []turn{
	{0, member.Begin{}, "send#1 life 1 gen 0 owns [] wait 3s"},
	{1, answered(1, 5, "ab"), "start [ab]; send#2 life 1 gen 5 owns [ab] wait 3s"},
}

func after(turns ...turn) []turn { return append(slices.Clone(joined), turns...) }

func TestGenerationIsAdoptedWhenWhatItTakesAwayIsStopped(t *testing.T) {
	c := play(t, config, after(
		turn{2, answered(2, 6, "bc"), "stop#1 [a]"},
	)...)
	if _, generation := c.Committing(); generation != 5 {
		t.Errorf("commits carry generation %d while a partition is being stopped, want 5", generation)
	}
	if got, want := show(c.Step(2500*time.Millisecond, member.Stopped{Stop: 1})), "start [c]; send#3 life 1 gen 6 owns [bc] wait 3s"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, generation := c.Committing(); generation != 6 {
		t.Errorf("commits carry generation %d afterwards, want 6", generation)
	}
}

func TestHeartbeatsGoOnWithTheOldGenerationWhileStopping(t *testing.T) {
	play(t, config, after(
		turn{2, answered(2, 6, "bc"), "stop#1 [a]"},
		turn{3.9, member.Tick{}, ""},
		turn{4, member.Tick{}, "send#3 life 1 gen 5 owns [ab] wait 0s"},
		turn{4.1, answered(3, 6, "bc"), ""},
		turn{7, member.Tick{}, "send#4 life 1 gen 5 owns [ab] wait 0s"},
		turn{7.1, member.Stopped{Stop: 1}, "start [c]; send#5 life 1 gen 6 owns [bc] wait 3s"},
		turn{7.2, answered(4, 7, "b"), ""}, // given up
		turn{7.3, answered(5, 6, "bc"), ""},
	)...)
}

func TestNewestAnswerCountsWhenStopsAreDone(t *testing.T) {
	play(t, config, after(
		turn{2, answered(2, 6, "b"), "stop#1 [a]"},
		turn{4, member.Tick{}, "send#3 life 1 gen 5 owns [ab] wait 0s"},
		turn{4.1, answered(3, 7, "ad"), "stop#2 [b]"},
		turn{4.2, member.Stopped{Stop: 1}, ""},
		turn{4.3, member.Stopped{Stop: 1}, ""},
		turn{4.4, member.Stopped{Stop: 9}, ""},
		turn{4.5, member.Stopped{Stop: 2}, "start [ad]; send#4 life 1 gen 7 owns [ad] wait 3s"},
	)...)
}

func TestTopicMadeAnewIsAnotherPlace(t *testing.T) {
	again := []member.Place{{Topic: "orders", TopicID: "new id", Partition: 0}}
	play(t, config, after(
		turn{2, member.Answered{Request: 2, Generation: 6, Assigned: again}, "stop#1 [ab]"},
		turn{3, member.Stopped{Stop: 1}, "start [a]; send#3 life 1 gen 6 owns [a] wait 3s"},
	)...)
}

func TestMoreInTheSameGenerationBegins(t *testing.T) {
	play(t, config, after(
		turn{2, answered(2, 5, "abc"), "start [c]; send#3 life 1 gen 5 owns [abc] wait 3s"},
	)...)
}

func TestAnswerWithoutNewsIsFollowedByTheNextWait(t *testing.T) {
	play(t, config, after(
		turn{4, answered(2, 5, "ab"), "send#3 life 1 gen 5 owns [ab] wait 3s"},
		turn{4.1, answered(3, 5, "ab"), ""}, // an agent that does not wait is not asked without end
		turn{5.4, member.Tick{}, ""},
		turn{5.5, member.Tick{}, "send#4 life 1 gen 5 owns [ab] wait 3s"},
	)...)
}

func TestAnswerOfAnEarlierGenerationSaysNothing(t *testing.T) {
	play(t, config, after(
		turn{2, answered(2, 4, "c"), ""},
		turn{2.5, member.Tick{}, "send#3 life 1 gen 5 owns [ab] wait 3s"},
		turn{3, answered(3, 7, "b"), "stop#1 [a]"},
		turn{5.5, member.Tick{}, "send#4 life 1 gen 5 owns [ab] wait 0s"},
		turn{6, answered(4, 6, "a"), ""},
		turn{6.5, member.Stopped{Stop: 1}, "send#5 life 1 gen 7 owns [b] wait 3s"},
	)...)
}

func TestUnansweredHeartbeatIsRepeatedElsewhereAndItsLateAnswerThrownAway(t *testing.T) {
	play(t, config, after(
		turn{5.9, member.Tick{}, ""},
		turn{6, member.Tick{}, "send#3 life 1 gen 5 owns [ab] wait 0s elsewhere"},
		turn{6.1, answered(2, 6, "a"), ""},
		turn{6.2, member.Failed{Request: 2, Kind: member.UnknownMember}, ""},
		turn{6.3, member.Failed{Request: 3, Kind: member.Retry, After: 100 * time.Millisecond}, ""},
		turn{6.39, member.Tick{}, ""},
		turn{6.4, member.Tick{}, "send#4 life 1 gen 5 owns [ab] wait 0s"},
		turn{6.5, answered(4, 5, "ab"), "send#5 life 1 gen 5 owns [ab] wait 3s"},
	)...)
}

func TestSilenceOfASessionLosesEverythingAndNotBefore(t *testing.T) {
	// Heartbeat 1 was sent at 0: the session ends at 12, whatever is under way.
	play(t, config, after(
		turn{6, member.Tick{}, "send#3 life 1 gen 5 owns [ab] wait 0s elsewhere"},
		turn{8, member.Tick{}, "send#4 life 1 gen 5 owns [ab] wait 0s elsewhere"},
		turn{10, member.Tick{}, "send#5 life 1 gen 5 owns [ab] wait 0s elsewhere"},
		turn{11.9, member.Tick{}, ""},
		turn{12, answered(5, 5, "ab"), "lose#1 [ab]; send#6 life 1 gen 5 owns [] wait 0s elsewhere"},
		turn{12.1, answered(6, 5, "ab"), "start [ab]; send#7 life 1 gen 5 owns [ab] wait 3s"},
	)...)
}

func TestSilenceMakesAStopVoid(t *testing.T) {
	play(t, config, after(
		turn{2, answered(2, 6, "b"), "stop#1 [a]"}, // sent at 1
		turn{13, member.Tick{}, "lose#2 [ab]; send#3 life 1 gen 5 owns [] wait 0s elsewhere"},
		turn{13.1, member.Stopped{Stop: 1}, ""},
		turn{13.2, answered(3, 6, "b"), "start [b]; send#4 life 1 gen 6 owns [b] wait 3s"},
	)...)
}

func TestUnknownMemberLosesEverythingAndJoinsWithAnotherID(t *testing.T) {
	play(t, config, after(
		turn{2, member.Failed{Request: 2, Kind: member.UnknownMember, After: time.Second}, "lose#1 [ab]"},
		turn{3, member.Tick{}, "send#3 life 2 gen 0 owns [] wait 3s"},
		turn{4, answered(3, 9, "a"), "start [a]; send#4 life 2 gen 9 owns [a] wait 3s"},
	)...)
}

func TestFencedInstanceEnds(t *testing.T) {
	fenced := errors.New("another life")
	play(t, config, after(
		turn{2, member.Failed{Request: 2, Kind: member.Fenced, Err: fenced}, "lose#1 [ab]; end another life"},
		turn{3, member.Tick{}, ""},
		turn{3, member.Leave{}, ""},
	)...)
}

func TestConsumerThatDoesNotPollLeavesAndJoinsAnewAtItsNextPoll(t *testing.T) {
	cfg := config
	cfg.PollMax = 3 * time.Second
	play(t, cfg, after(
		turn{2, member.Polling{}, ""},
		turn{4.5, answered(2, 5, "ab"), "send#3 life 1 gen 5 owns [ab] wait 3s"}, // it waits for records: that is not slow
		turn{5, member.Polled{}, ""},
		turn{7.9, member.Tick{}, ""},
		turn{8, member.Tick{}, "lose#1 [ab]; send#4 life 1 gen 5 owns [] wait 0s leave"},
		turn{8.1, answered(4, 0, ""), ""},
		turn{100, member.Tick{}, ""},
		turn{101, member.Polling{}, "send#5 life 2 gen 0 owns [] wait 3s"},
	)...)
	play(t, cfg, after( // it comes back while it says that it leaves
		turn{3, member.Tick{}, "lose#1 [ab]; send#3 life 1 gen 5 owns [] wait 0s leave"},
		turn{3.1, member.Polled{}, ""},
		turn{3.2, answered(3, 0, ""), "send#4 life 2 gen 0 owns [] wait 3s"},
	)...)
}

func TestStaticMemberThatDoesNotPollIsSilent(t *testing.T) {
	cfg := config
	cfg.PollMax, cfg.Static = 3*time.Second, true
	play(t, cfg, after(
		turn{3, member.Tick{}, "lose#1 [ab]"},
		turn{60, member.Tick{}, ""},
		turn{61, member.Polled{}, "send#3 life 2 gen 0 owns [] wait 3s"},
	)...)
}

func TestLeaveStopsEverythingThenSaysSo(t *testing.T) {
	play(t, config, after(
		turn{2, answered(2, 6, "b"), "stop#1 [a]"},
		turn{3, member.Leave{}, "stop#2 [b]"},
		turn{3.1, member.Stopped{Stop: 1}, ""},
		turn{4, member.Tick{}, "send#3 life 1 gen 5 owns [b] wait 0s"},
		turn{4.1, answered(3, 6, "bc"), ""},
		turn{5, member.Stopped{Stop: 2}, "send#4 life 1 gen 5 owns [] wait 0s leave"},
		turn{5.1, member.Failed{Request: 4, Kind: member.Retry}, "send#5 life 1 gen 5 owns [] wait 0s leave"},
		turn{5.2, answered(5, 0, ""), "end <nil>"},
	)...)
}

func TestLeaveEndsWithTheSessionWhenNobodyAnswers(t *testing.T) {
	play(t, config, after(
		turn{2, member.Leave{}, "stop#1 [ab]"},
		turn{3, member.Stopped{Stop: 1}, "send#3 life 1 gen 5 owns [] wait 0s leave"},
		turn{5, member.Tick{}, "send#4 life 1 gen 5 owns [] wait 0s leave elsewhere"},
		turn{12, member.Tick{}, "end <nil>"},
	)...)
	play(t, config, after( // nor did before what was stopped was committed
		turn{2, member.Leave{}, "stop#1 [ab]"},
		turn{12, member.Tick{}, "lose#2 [ab]; end <nil>"},
	)...)
}

func TestStaticMemberStopsAndDoesNotLeave(t *testing.T) {
	cfg := config
	cfg.Static = true
	play(t, cfg, after(
		turn{2, member.Leave{}, "stop#1 [ab]"},
		turn{3, member.Stopped{Stop: 1}, "end <nil>"},
	)...)
}

func TestLeaveWithoutAGroupEndsAtOnce(t *testing.T) {
	play(t, config, turn{0, member.Leave{}, "end <nil>"})
	play(t, config, joined[0], turn{0.1, member.Leave{}, "send#2 life 1 gen 0 owns [] wait 0s leave"}, turn{0.2, answered(2, 0, ""), "end <nil>"})
}
