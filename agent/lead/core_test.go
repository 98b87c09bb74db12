package lead

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// stage is one Core, whose others are played by the test.
type stage struct {
	*testing.T
	core *Core
	now  time.Duration
	all  []Effect
}

func boot(n byte) objectlog.UUID { return objectlog.UUID{n} }

// agent is the n-th one; of shard 0, their order by rendezvous is 2, 3, 1, 0 (TestRendezvousAnswersTheSameInEveryVersion).
func agent(n byte) Peer { return Peer{Boot: boot(n), Name: fmt.Sprintf("e%d", n)} }

// enter is agent 1 at one second, with that many shards.
func enter(t *testing.T, shards int) *stage {
	s := &stage{T: t, now: time.Second, core: New(Config{Self: agent(1), Shards: shards, Random: func() uint64 { return 0 }})}
	s.step(Tick{})
	return s
}

func (s *stage) step(e Event) []Effect {
	effects := s.core.Step(s.now, e)
	s.all = append(s.all, effects...)
	return effects
}

// pass lets time pass, with Ticks as the core wants them.
func (s *stage) pass(d time.Duration) []Effect {
	var all []Effect
	until := s.now + d
	for at, ok := s.core.NextWake(); ok && at <= until; at, ok = s.core.NextWake() {
		s.now = at
		all = append(all, s.step(Tick{})...)
	}
	s.now = until
	return append(all, s.step(Tick{})...)
}

// keep lets time pass while the peers answer every ping in no time.
func (s *stage) keep(d time.Duration, heard ...Heard) []Effect {
	var all []Effect
	answer := func(effects []Effect) {
		for len(effects) > 0 {
			f := effects[0]
			effects = effects[1:]
			all = append(all, f)
			for _, h := range heard {
				if f == (Ping{h.Peer.Boot}) {
					effects = append(effects, s.step(h)...)
				}
			}
		}
	}
	until := s.now + d
	for _, h := range heard {
		answer(s.step(h))
	}
	for at, ok := s.core.NextWake(); ok && at <= until; at, ok = s.core.NextWake() {
		s.now = at
		answer(s.step(Tick{}))
	}
	s.now = until
	answer(s.step(Tick{}))
	return all
}

// want checks the effects of one kind: those of which a sample is given.
func (s *stage) want(what string, effects []Effect, sample Effect, want ...Effect) {
	s.Helper()
	var got []Effect
	for _, f := range effects {
		if reflect.TypeOf(f) == reflect.TypeOf(sample) {
			got = append(got, f)
		}
	}
	if !reflect.DeepEqual(got, want) {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func ranked(shard objectlog.Shard, rank int) Effect { return Tell{shard, shardlog.Ranked{Rank: rank}} }
func goneTo(shard objectlog.Shard, n byte) Effect {
	return Tell{shard, shardlog.HolderGone{Holder: boot(n)}}
}

// follows is a greeting of an agent that follows in shard 0.
func follows(n byte, epoch objectlog.Epoch, leader byte) Heard {
	return Heard{Peer: agent(n), Reports: []Report{{Epoch: epoch, Leader: boot(leader), Applied: 100}}}
}

func leading(n byte, epoch objectlog.Epoch) Heard {
	h := follows(n, epoch, n)
	h.Reports[0].Leads = true
	return h
}

func (s *stage) moved(role shardlog.Role, epoch objectlog.Epoch, leader objectlog.UUID) []Effect {
	return s.step(Moved{Status: shardlog.Status{Role: role, Epoch: epoch, Leader: leader, Applied: 100}})
}

func (s *stage) listed(n ...byte) []Effect {
	var e Listed
	for _, n := range n {
		e.Peers = append(e.Peers, agent(n))
	}
	return s.step(e)
}

func TestNobodyIsRankedBeforeTheFirstList(t *testing.T) {
	s := enter(t, 1)
	s.want("before the list", s.all, Tell{}, ranked(0, -1))
	s.want("alone", s.listed(), Tell{}, ranked(0, 0))
}

func TestListedPeersCountForAThirdOfALeaseUnlessTheyFail(t *testing.T) {
	s := enter(t, 1)
	s.want("with two better ones", s.listed(2, 3), Tell{})
	s.want("without the one that failed", s.step(Failed{Boot: boot(2)}), Tell{}, ranked(0, 1))
	s.want("shortly before", s.pass(lease/3-1), Tell{})
	s.want("without the one that was never heard", s.pass(1), Tell{}, ranked(0, 0))
	s.want("with the one that was heard", s.step(follows(3, 0, 0)), Tell{}, ranked(0, 1))
}

func TestLeaderIsNotAmongItsSuccessors(t *testing.T) {
	s := enter(t, 1)
	s.listed(2, 3)
	s.want("behind the one that leads and another", s.step(follows(3, 1, 2)), Tell{}, ranked(0, 1))
	s.want("which says so itself", s.step(leading(2, 1)), Tell{})
	s.want("behind the one that leads", s.step(leading(3, 2)), Tell{})
	draining := follows(2, 2, 3)
	draining.Draining = true
	s.want("when the other is about to stop", s.step(draining), Tell{}, ranked(0, 0))
	s.want("when this agent is about to stop", s.step(Drain{}), Tell{}, ranked(0, -1))
}

func TestPeersArePingedThriceALeaseEachAtItsTime(t *testing.T) {
	s := enter(t, 1)
	n := uint64(0)
	s.core.cfg.Random = func() uint64 { n += 1e8; return n }
	s.want("at once", s.listed(2, 3), Ping{}, Ping{boot(2)}, Ping{boot(3)})
	together, pings := 0, map[Effect]int{}
	s.step(follows(2, 1, 0))
	s.step(follows(3, 1, 0))
	for until := s.now + 10*lease; s.now < until; {
		s.now, _ = s.core.NextWake()
		effects := s.step(Tick{})
		if len(effects) > 1 {
			together++
		}
		for _, f := range effects {
			pings[f]++
			s.step(follows(f.(Ping).Boot[0], 1, 0))
		}
	}
	for p, n := range pings {
		if n < 30 || n > 41 {
			t.Errorf("%v %d times in 10 leases, want 30 to 40", p, n)
		}
	}
	if len(pings) != 2 || together > 1 {
		t.Errorf("%d peers pinged, %d times together", len(pings), together)
	}
}

func TestPeerThatIsAwayIsPingedLessAndThenForgotten(t *testing.T) {
	s := enter(t, 1)
	s.listed(2)
	s.step(follows(2, 1, 0))
	fail := func(d time.Duration) (n int) {
		for until := s.now + d; ; {
			at, ok := s.core.NextWake()
			if !ok || at > until {
				s.now = until
				return n
			}
			s.now = at
			for _, f := range s.step(Tick{}) {
				if f == (Ping{boot(2)}) {
					n++
					s.step(Failed{Boot: boot(2)})
				}
			}
		}
	}
	fail(5 * lease)
	if n := fail(20 * lease); n < 10 || n > 14 {
		t.Errorf("%d pings in 20 leases, want one in two leases", n)
	}
	if len(s.core.Live()) != 1 {
		t.Errorf("alive: %v", s.core.Live())
	}
	s.listed(2)
	s.listed()
	if n := fail(10*lease - 1); n > 0 || len(s.core.peers) != 1 {
		t.Errorf("%d pings to one that is not listed, %d peers known", n, len(s.core.peers))
	}
	if n := fail(1); n > 0 || len(s.core.peers) > 0 {
		t.Errorf("%d pings to one that is not listed, %d peers known", n, len(s.core.peers))
	}
	if _, ok := s.core.NextWake(); ok {
		t.Error("there is something to do")
	}
}

func TestPeerIsAliveForALeaseBehindItsGreeting(t *testing.T) {
	s := enter(t, 1)
	s.listed(2)
	s.step(follows(2, 1, 0))
	s.pass(lease - 1)
	if len(s.core.Live()) != 2 {
		t.Errorf("before the lease is over: %v", s.core.Live())
	}
	if ok, ago := s.core.Reached(boot(2), s.now); !ok || ago != lease-1 {
		t.Errorf("reached %v, %v ago", ok, ago)
	}
	s.want("when it is over", s.pass(1), Tell{}, ranked(0, 0))
	if len(s.core.Live()) != 1 {
		t.Errorf("behind it: %v", s.core.Live())
	}
	if ok, ago := s.core.Reached(boot(9), s.now); ok || ago != s.now-time.Second {
		t.Errorf("nobody was reached %v, %v ago", ok, ago)
	}
}

func TestPeerThatRefusesTwiceIsNotAlive(t *testing.T) {
	s := enter(t, 1)
	s.want("two alive", s.listed(2), Tell{}, ranked(0, 1))
	s.step(follows(2, 1, 0))
	s.want("one refusal", s.step(Failed{Boot: boot(2), Refused: true}), Tell{})
	s.want("the second", s.step(Failed{Boot: boot(2), Refused: true}), Tell{}, ranked(0, 0))
	h := follows(2, 1, 0)
	h.Unasked = true
	s.want("it greets", s.step(h), Tell{})
	s.want("it can't be reached otherwise", s.step(Failed{Boot: boot(2)}), Tell{})
	s.want("it answers", s.step(follows(2, 1, 0)), Tell{}, ranked(0, 1))
}

// succession is agent 1, the first successor of agent 3, which it reached, or heard only.
func succession(t *testing.T, unasked bool) *stage {
	s := enter(t, 1)
	s.listed(3)
	s.step(follows(3, 4, 0))
	s.moved(shardlog.RoleFollowing, 5, boot(3))
	h := leading(3, 5)
	if h.Unasked = unasked; unasked {
		s.want("one that says it leads", s.step(h), Ping{}, Ping{boot(3)})
	} else {
		s.step(h)
	}
	return s
}

func TestTwoRefusalsThatLieApartMeanThatTheLeaderIsGone(t *testing.T) {
	s := succession(t, false)
	s.want("a stream ends", s.step(StreamEnded{Boot: boot(3)}), Ping{}, Ping{boot(3)})
	s.want("a refusal", s.step(Failed{Boot: boot(3), Refused: true}), Ping{})
	s.want("shortly before", s.pass(20*ms-1), Ping{})
	s.want("later", s.pass(1), Ping{}, Ping{boot(3)})
	s.want("the second refusal", s.step(Failed{Boot: boot(3), Refused: true}), Tell{}, goneTo(0, 3))
	if leader, epoch := s.core.Leader(0); !leader.IsZero() || epoch != 5 {
		t.Errorf("leader %v of epoch %d", leader, epoch)
	}
	s.want("no news", s.pass(lease/2), Tell{})
	s.want("the replica knew another holder", s.moved(shardlog.RoleFollowing, 5, boot(9)), Tell{}, goneTo(0, 3))
}

func TestAllStreamsOfALeaderThatEndMakeTwoPings(t *testing.T) {
	s := enter(t, 4)
	s.listed(3)
	h := Heard{Peer: agent(3)}
	for range 4 {
		h.Reports = append(h.Reports, Report{Leads: true, Epoch: 5, Leader: boot(3)})
	}
	s.step(h)
	end := func(shard objectlog.Shard) []Effect { return s.step(StreamEnded{Shard: shard, Boot: boot(3)}) }
	s.want("one", end(0), Ping{}, Ping{boot(3)})
	s.want("another", end(1), Ping{})
	s.want("a refusal", s.step(Failed{Boot: boot(3), Refused: true}), Ping{})
	s.want("the third", end(2), Ping{})
	s.want("later", s.pass(20*ms), Ping{}, Ping{boot(3)})
	s.want("the last", end(3), Ping{})
}

func TestLeaderWhosePingFailsIsPingedAtOnceAndThenLess(t *testing.T) {
	s := succession(t, false)
	s.want("the first", s.step(Failed{Boot: boot(3)}), Ping{}, Ping{boot(3)})
	s.want("the second", s.step(Failed{Boot: boot(3)}), Ping{})
	s.want("shortly before", s.pass(lease/6-1), Ping{})
	s.want("then", s.pass(1), Ping{}, Ping{boot(3)})
}

func TestRefusalsOfLongAgoDeposeNobody(t *testing.T) {
	s := enter(t, 1)
	s.step(leading(3, 5)) // not listed: the own list is late
	s.moved(shardlog.RoleFollowing, 5, boot(3))
	s.step(StreamEnded{Boot: boot(3)})
	s.step(Failed{Boot: boot(3), Refused: true})
	s.pass(20 * ms)
	s.step(Failed{Boot: boot(3), Refused: true})
	s.pass(2 * lease) // it stood still, or was cut off
	h := leading(3, 5)
	h.Unasked = true
	s.want("it greets", s.step(h), Ping{}, Ping{boot(3)})
	s.want("a list makes this the first successor", s.listed(3), Tell{}, ranked(0, 0))
}

func TestARefusalBetweenOtherFailuresMeansNothing(t *testing.T) {
	s := succession(t, false)
	for range 20 {
		s.step(StreamEnded{Boot: boot(3)})
		s.step(Failed{Boot: boot(3), Refused: true})
		s.pass(20 * ms)
		s.step(Failed{Boot: boot(3)})
	}
	s.want("refusals that are not in a row", s.all, Tell{}, ranked(0, -1), ranked(0, 1), ranked(0, 0))
}

func TestRefusalsOfALeaderThatWasNotReachedDeposeNobody(t *testing.T) {
	s := succession(t, true)
	s.step(Failed{Boot: boot(3), Refused: true})
	s.pass(20 * ms)
	s.want("two refusals", s.step(Failed{Boot: boot(3), Refused: true}), Tell{})
	s.want("another boot at its address", s.step(Failed{Boot: boot(3), Gone: true}), Tell{}, goneTo(0, 3))
}

func TestOnlyTheFirstSuccessorDeposes(t *testing.T) {
	s := succession(t, false)
	s.step(follows(2, 5, 3)) // of shard 0, agent 2 comes before agent 1
	s.want("not the second", s.step(Failed{Boot: boot(3), Gone: true}), Tell{})
	s.want("who becomes the first", s.step(Failed{Boot: boot(2), Gone: true}), Tell{}, ranked(0, 0), goneTo(0, 3))
}

func TestBootThatIsGoneStaysGone(t *testing.T) {
	s := succession(t, false)
	s.step(Failed{Boot: boot(3), Gone: true})
	s.step(leading(3, 6))
	s.listed(3)
	s.want("no ping", s.pass(10*lease), Ping{})
	if len(s.core.Live()) != 1 {
		t.Errorf("alive: %v", s.core.Live())
	}
}

func TestBootWhoseNameANewerOneBearsIsAskedOnceMore(t *testing.T) {
	s := succession(t, false)
	newer := Listed{Peers: []Peer{agent(3), {Boot: boot(4), Name: agent(3).Name}}}
	s.want("both", s.step(newer), Ping{}, Ping{boot(3)}, Ping{boot(4)})
	s.want("one refusal", s.step(Failed{Boot: boot(3), Refused: true}), Tell{}, goneTo(0, 3))
}

// An item of a former run that is listed after the newer boot of that name was heard must not end the newer one for good.
func TestFormerRunThatIsListedLaterDoesNotEndTheNewerOne(t *testing.T) {
	s := enter(t, 1)
	s.listed()
	s.step(follows(3, 5, 2))                                                      // boot 3 is met by its greeting
	s.step(Listed{Peers: []Peer{agent(3), {Boot: boot(4), Name: agent(3).Name}}}) // boot 4: a former run, whose item stayed behind
	s.step(Failed{Boot: boot(4), Gone: true})
	s.pass(lease)
	s.step(Failed{Boot: boot(3), Refused: true}) // for a moment
	s.pass(lease)
	s.step(leading(3, 6)) // it answers again, and leads
	if boot3, _ := s.core.Leader(0); boot3 != boot(3) || len(s.core.Live()) != 2 {
		t.Errorf("leader %v, alive: %v; want boot 3 and both", boot3, s.core.Live())
	}
}

func TestRestartedAgentTakesWhatItsFormerRunLedInItsFirstSeconds(t *testing.T) {
	for name, after := range map[string]time.Duration{"young": time.Second, "old": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			s := enter(t, 1)
			s.step(Listed{Peers: []Peer{agent(2), agent(3), {Boot: boot(7), Name: agent(1).Name}}})
			s.keep(after, follows(2, 0, 0), follows(3, 0, 0))
			want := []Effect{ranked(0, 0), goneTo(0, 7)} // though it is the third in the order
			if name == "old" {
				want = nil
			}
			s.want("when it learns who leads", s.moved(shardlog.RoleFollowing, 3, boot(7)), Tell{}, want...)
			s.want("in the same state", s.keep(lease, follows(2, 3, 7), follows(3, 3, 7)), Tell{})
		})
	}
}

func TestFormerRunDoesNotHoldUpTheNext(t *testing.T) {
	s := enter(t, 1)
	s.want("a list", s.step(Listed{Peers: []Peer{{Boot: objectlog.UUID{0, 1}, Name: agent(1).Name}}}), Tell{}, ranked(0, 0))
}

func TestOfferedAgentClaims(t *testing.T) {
	s := enter(t, 1)
	s.listed(2, 3)
	s.step(follows(2, 5, 3))
	s.step(leading(3, 5))
	s.want("an offer", s.step(Offered{Holder: boot(3), Epoch: 5}), Tell{}, ranked(0, 0), goneTo(0, 3))
	if leader, _ := s.core.Leader(0); !leader.IsZero() {
		t.Errorf("leader %v, who let go", leader)
	}
	s.want("a newer epoch", s.step(leading(2, 6)), Tell{}, ranked(0, 1))
	s.want("an offer of old", s.step(Offered{Holder: boot(3), Epoch: 5}), Tell{})
	s.want("an offer", s.step(Offered{Holder: boot(2), Epoch: 6}), Tell{}, ranked(0, 0), goneTo(0, 2))
	s.want("nothing came of it", s.keep(3*lease, follows(2, 6, 0), follows(3, 6, 0)), Tell{}, ranked(0, -1))
	s.want("another offer", s.step(Offered{Holder: boot(2), Epoch: 6}), Tell{}, ranked(0, 0), goneTo(0, 2))
	s.want("drain", s.step(Drain{}), Tell{}, ranked(0, -1))
	s.want("an offer to one that stops", s.step(Offered{Holder: boot(2), Epoch: 6}), Tell{})
}

func TestNobodyLetsGoOfAnotherOnesEpoch(t *testing.T) {
	s := enter(t, 1)
	s.listed(2, 3)
	s.step(leading(3, 5))
	s.want("an offer of one that does not hold the shard", s.step(Offered{Holder: boot(2), Epoch: 5}), Tell{})
	if leader, epoch := s.core.Leader(0); leader != boot(3) || epoch != 5 {
		t.Errorf("leader %v of epoch %d", leader, epoch)
	}
	s.step(follows(2, 6, 0))
	s.want("of an epoch whose holder is not known", s.step(Offered{Holder: boot(2), Epoch: 6}), Tell{}, ranked(0, 0), goneTo(0, 2))
}

func TestReplicaThatHaltedSucceedsNobody(t *testing.T) {
	s := enter(t, 2)
	s.listed(2, 3)
	halted, well := follows(2, 5, 3), follows(2, 5, 3)
	halted.Reports[0].Halted = true
	leader := leading(3, 5)
	leader.Reports = append(leader.Reports, leader.Reports[0])
	s.step(leader)
	s.moved(shardlog.RoleFollowing, 5, boot(3))
	s.want("another one, of shard 0", s.step(halted), Tell{}, ranked(0, 0))
	s.want("a greeting of before, that is late", s.step(well), Tell{})
	s.want("the leader is gone", s.step(Failed{Boot: boot(3), Gone: true}), Tell{}, goneTo(0, 3))
	s.want("the own one halts", s.moved(shardlog.RoleHalted, 5, boot(3)), Tell{})
	s.want("an offer", s.step(Offered{Holder: boot(3), Epoch: 5}), Tell{})
}

func TestShardIsHandedToNoReplicaThatHalted(t *testing.T) {
	first, second := follows(2, 5, 1), follows(3, 5, 1)
	first.Reports[0].Halted = true
	s := owned(t)
	s.want("to the first of its order", s.keep(20*lease, first), HandOff{})
	s.want("when this agent stops", s.step(Drain{}), HandOff{}, HandOff{0, boot(0), 5})
	s = owned(t)
	s.listed(2, 3)
	s.want("to the next", s.keep(3*lease, first, second), HandOff{}, HandOff{0, boot(3), 5})
}

// owned is agent 1, which leads shard 0 at epoch 5 since now, while agent 2 should.
func owned(t *testing.T) *stage {
	s := enter(t, 1)
	s.listed(2)
	s.step(follows(2, 4, 0))
	s.moved(shardlog.RoleLeading, 5, boot(1))
	return s
}

func TestShardMovesToItsOwner(t *testing.T) {
	near, far, behind, stops, nobody := follows(2, 5, 1), follows(2, 5, 1), follows(2, 4, 1), follows(2, 5, 1), follows(0, 5, 1)
	far.Reports[0].Applied = 100 - 64 - 1
	stops.Draining = true
	late := func(s *stage) { s.pass(2 * lease) }
	for name, c := range map[string]struct {
		before func(*stage)
		heard  Heard
		first  time.Duration // behind the begin of the tenure; 0: not at all
	}{
		"near":               {heard: near, first: 3 * lease},
		"far behind":         {heard: far},
		"of an older epoch":  {heard: behind},
		"about to stop":      {heard: stops},
		"not first":          {heard: nobody},
		"alive since lately": {before: func(s *stage) { s.pass(3 * lease); late(s) }, heard: near, first: 6 * lease},
		"not listed":         {before: func(s *stage) { s.listed() }, heard: near},
	} {
		t.Run(name, func(t *testing.T) {
			s := owned(t)
			began := s.now
			if c.before != nil {
				c.before(s)
				s.step(Failed{Boot: boot(2)})
			}
			if c.first == 0 {
				s.want("the whole time", s.keep(20*lease, c.heard), HandOff{})
				return
			}
			s.want("shortly before", s.keep(began+c.first-1-s.now, c.heard), HandOff{})
			s.want("then", s.keep(1, c.heard), HandOff{}, HandOff{0, boot(2), 5})
			s.want("once", s.keep(20*lease, c.heard), HandOff{})
			s.want("it failed", s.step(HandedOff{Err: errors.New("away")}), HandOff{})
			s.want("shortly before the next", s.keep(3*lease-1, c.heard), HandOff{})
			s.want("the next", s.keep(1, c.heard), HandOff{}, HandOff{0, boot(2), 5})
		})
	}
}

func TestShardsMoveOneAtATime(t *testing.T) {
	s := enter(t, 8)
	s.listed(2)
	for i := range objectlog.Shard(8) {
		s.step(Moved{Shard: i, Status: shardlog.Status{Role: shardlog.RoleLeading, Epoch: 1, Leader: boot(1)}})
	}
	h := Heard{Peer: agent(2)}
	for range 8 {
		h.Reports = append(h.Reports, Report{Epoch: 1, Leader: boot(1)})
	}
	var moved []objectlog.Shard
	count := func(effects []Effect) {
		for _, f := range effects {
			if f, ok := f.(HandOff); ok {
				moved = append(moved, f.Shard)
			}
		}
	}
	for want := 1; want <= 3; want++ {
		count(s.keep(10*lease, h))
		if len(moved) != want {
			t.Fatalf("%v are handed off, want %d", moved, want)
		}
		count(s.step(HandedOff{Shard: moved[want-1]}))
	}
}

func TestReplicaThatLetGoIsRankedAnewWhenAnotherLeads(t *testing.T) {
	for _, moved := range []bool{true, false} {
		s := owned(t)
		s.keep(3*lease, follows(2, 5, 1))
		events := []Event{HandedOff{}, Moved{Status: shardlog.Status{Role: shardlog.RoleFollowing, Epoch: 5, Applied: 100}}}
		if moved {
			events[0], events[1] = events[1], events[0]
		}
		s.want("the first word", s.step(events[0]), Tell{}, ranked(0, -1))
		s.want("the second", s.step(events[1]), Tell{})
		s.want("a late word of its own leading", s.moved(shardlog.RoleLeading, 5, boot(1)), HandOff{})
		s.step(events[1])
		s.want("a late word of another", s.step(follows(2, 5, 1)), Tell{})
		if leader, _ := s.core.Leader(0); !leader.IsZero() {
			t.Errorf("leader %v, who let go", leader)
		}
		s.want("another leads", s.step(leading(2, 6)), Tell{}, ranked(0, 0))
	}
	s := owned(t)
	s.keep(3*lease, follows(2, 5, 1))
	s.step(HandedOff{})
	s.want("shortly before", s.keep(2*lease-1, follows(2, 5, 0)), Tell{})
	s.want("nobody leads for two leases", s.keep(1, follows(2, 5, 0)), Tell{}, ranked(0, 1))
}

func TestDrainHandsOffAtOnceToTheNearest(t *testing.T) {
	near, far := follows(3, 5, 1), follows(2, 5, 1)
	far.Reports[0].Applied = 0
	for name, c := range map[string]struct {
		heard    []Heard
		to, next objectlog.UUID
	}{"near": {[]Heard{far, near}, boot(3), boot(2)}, "far": {[]Heard{far}, boot(2), boot(2)}, "nobody": {}} {
		t.Run(name, func(t *testing.T) {
			s := enter(t, 1)
			s.listed(2, 3)
			s.moved(shardlog.RoleLeading, 5, boot(1))
			for _, h := range c.heard {
				s.step(h)
			}
			s.want("drain", s.step(Drain{}), HandOff{}, HandOff{0, c.to, 5})
			s.step(HandedOff{Err: errors.New("away")})
			s.want("again", s.pass(lease/3), HandOff{}, HandOff{0, c.to, 5})
			s.step(HandedOff{})
			s.step(Moved{Status: shardlog.Status{Role: shardlog.RoleFollowing, Epoch: 5}})
			s.want("a claim was under way", s.moved(shardlog.RoleLeading, 6, boot(1)), HandOff{}, HandOff{0, c.next, 6}) // nobody is near it
		})
	}
}

func TestAtMostEightReplicasClaimAtATime(t *testing.T) {
	s := enter(t, 24)
	first := 0
	for _, f := range s.listed() {
		if f, ok := f.(Tell); ok && f.Event == (shardlog.Ranked{Rank: 0}) {
			first++
		}
	}
	if first != 8 {
		t.Errorf("%d replicas may claim, want %d", first, 8)
	}
	for i := range objectlog.Shard(8) {
		s.want("one claims", s.step(Moved{Shard: i, Status: shardlog.Status{Role: shardlog.RoleClaiming, Epoch: 1}}), Tell{})
	}
	s.want("while they claim", s.pass(10*lease), Tell{})
	s.want("one leads", s.step(Moved{Shard: 3, Status: shardlog.Status{Role: shardlog.RoleLeading, Epoch: 1, Leader: boot(1)}}), Tell{}, ranked(8, 0))
	s.want("one halts", s.step(Moved{Shard: 4, Status: shardlog.Status{Role: shardlog.RoleHalted, Epoch: 1}}), Tell{}, ranked(9, 0))
}

func TestWatchersStandBackWhileEightReplicasClaim(t *testing.T) {
	s := enter(t, 9)
	s.listed(2)
	h := Heard{Peer: agent(2)}
	for range 9 {
		h.Reports = append(h.Reports, Report{Leads: true, Epoch: 1, Leader: boot(2)})
	}
	s.step(h)
	for i := range objectlog.Shard(9) {
		s.step(Moved{Shard: i, Status: shardlog.Status{Role: shardlog.RoleFollowing, Epoch: 1, Leader: boot(2)}})
	}
	var last []Effect
	for i := range objectlog.Shard(8) {
		last = s.step(Moved{Shard: i, Status: shardlog.Status{Role: shardlog.RoleClaiming, Epoch: 1, Leader: boot(2)}})
	}
	s.want("eight claim", last, Tell{}, ranked(8, -1))
	s.want("seven", s.step(Moved{Shard: 0, Status: shardlog.Status{Role: shardlog.RoleFollowing, Epoch: 2, Leader: boot(2)}}), Tell{}, ranked(8, 0))
}

func TestTakeOversThatComeToNothingGiveTheirPlacesBack(t *testing.T) {
	s := enter(t, 16)
	s.listed()
	given := 0
	for _, f := range s.pass(lease) {
		if f, ok := f.(Tell); ok && f.Event == (shardlog.Ranked{Rank: 0}) {
			given++
		}
	}
	if given != 8 {
		t.Errorf("%d more may claim, want %d", given, 8)
	}
}

func TestNewLeaderGreetsEverybodyAtOnce(t *testing.T) {
	s := enter(t, 1)
	s.listed(2, 3)
	s.step(follows(2, 1, 0))
	s.want("it leads", s.moved(shardlog.RoleLeading, 2, boot(1)), Ping{}, Ping{boot(2)})
	s.want("the end of a ping that began before", s.step(follows(3, 1, 0)), Ping{}, Ping{boot(3)})
	s.step(follows(2, 2, 1))
	s.want("it stops", s.step(Drain{}), Ping{}, Ping{boot(2)})
}

func TestLeaderIsTheHolderOfTheNewestEpoch(t *testing.T) {
	z := byte(0)
	for name, c := range map[string]struct {
		own    shardlog.Status
		heard  []Heard
		leader byte
		epoch  objectlog.Epoch
	}{
		"nobody":                         {},
		"own status":                     {own: shardlog.Status{Epoch: 3, Leader: boot(3)}, leader: 3, epoch: 3},
		"a newer word of another":        {own: shardlog.Status{Epoch: 3, Leader: boot(3)}, heard: []Heard{follows(2, 4, 9)}, leader: 9, epoch: 4},
		"an older one":                   {own: shardlog.Status{Epoch: 3, Leader: boot(3)}, heard: []Heard{follows(2, 2, 9)}, leader: 3, epoch: 3},
		"own before hearsay":             {own: shardlog.Status{Epoch: 3, Leader: boot(3)}, heard: []Heard{follows(2, 3, 9)}, leader: 3, epoch: 3},
		"the leader's before own":        {own: shardlog.Status{Epoch: 3, Leader: boot(9)}, heard: []Heard{leading(2, 3)}, leader: 2, epoch: 3},
		"itself":                         {own: shardlog.Status{Role: shardlog.RoleLeading, Epoch: 3, Leader: boot(1)}, heard: []Heard{follows(2, 3, 9)}, leader: 1, epoch: 3},
		"one who denies it":              {own: shardlog.Status{Epoch: 3, Leader: boot(3)}, heard: []Heard{follows(3, 3, z)}, epoch: 3},
		"one who claims":                 {own: shardlog.Status{Epoch: 2, Leader: boot(9)}, heard: []Heard{follows(3, 3, 3)}, leader: 3, epoch: 3},
		"itself, as others think":        {own: shardlog.Status{Role: shardlog.RoleFollowing, Epoch: 3}, heard: []Heard{follows(2, 3, 1)}, epoch: 3},
		"a newest one nobody knows":      {own: shardlog.Status{Epoch: 3, Leader: boot(3)}, heard: []Heard{follows(2, 4, z)}, epoch: 4},
		"an older greeting that is late": {heard: []Heard{leading(2, 3), follows(2, 2, 9)}, leader: 2, epoch: 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := enter(t, 1)
			s.listed(2, 3)
			s.step(Moved{Status: c.own})
			for _, h := range c.heard {
				s.step(h)
			}
			want := objectlog.UUID{}
			if c.leader != 0 {
				want = boot(c.leader)
			}
			if leader, epoch := s.core.Leader(0); leader != want || epoch != c.epoch {
				t.Errorf("got %v of epoch %d, want %v of %d", leader, epoch, want, c.epoch)
			}
		})
	}
}

func TestStreamsThatEndSoonAreBegunLessAndLess(t *testing.T) {
	s := enter(t, 1)
	s.listed(2)
	follow := Follow{0, boot(2)}
	s.want("a leader", s.step(leading(2, 3)), Follow{}, follow)
	s.want("no news", s.step(leading(2, 3)), Follow{})
	for _, d := range []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, time.Second, time.Second} {
		s.step(StreamEnded{Boot: boot(2)})
		s.want("shortly before", s.keep(d-1, leading(2, 3)), Follow{})
		s.want(fmt.Sprint("behind ", d), s.keep(1, leading(2, 3)), Follow{}, follow)
	}
	s.keep(lease, leading(2, 3))
	s.step(StreamEnded{Boot: boot(2)})
	s.want("behind one that held", s.keep(50*ms, leading(2, 3)), Follow{}, follow)
	s.step(StreamEnded{Boot: boot(2)})
	s.want("another epoch", s.step(leading(2, 4)), Follow{}, follow)
	s.want("a stream of old ends", s.step(StreamEnded{Boot: boot(3)}), Follow{})
	s.want("which is no reason", s.keep(lease, leading(2, 4)), Follow{})
	s.want("itself", s.moved(shardlog.RoleLeading, 5, boot(1)), Follow{}, Follow{})
	s.want("one without an address", s.moved(shardlog.RoleFollowing, 6, boot(9)), Follow{})
}

func TestNothingHappensForANumberOutOfRange(t *testing.T) {
	s := enter(t, 1)
	s.listed(2)
	s.step(Heard{Peer: agent(2), Reports: make([]Report, 9)})
	for _, e := range []Event{Moved{Shard: 1}, StreamEnded{Shard: 1}, Offered{Shard: 1}, HandedOff{Shard: 1}, Failed{Boot: boot(9)}, Heard{Peer: agent(1)}} {
		s.want(fmt.Sprintf("%T", e), s.step(e), Tell{})
	}
	if leader, epoch := s.core.Leader(1); !leader.IsZero() || epoch != 0 {
		t.Errorf("leader %v of epoch %d", leader, epoch)
	}
}

func TestWhoDidNotTakeAShardIsHandedNothingForLonger(t *testing.T) {
	s := owned(t)
	s.want("the first", s.keep(3*lease, follows(2, 5, 1)), HandOff{}, HandOff{0, boot(2), 5})
	s.step(HandedOff{})
	s.moved(shardlog.RoleLeading, 6, boot(1))
	s.want("shortly before the next", s.keep(6*lease-1, follows(2, 6, 1)), HandOff{})
	s.want("the next", s.keep(1, follows(2, 6, 1)), HandOff{}, HandOff{0, boot(2), 6})
}

func TestDeposedReplicaIsToldItsRankAnew(t *testing.T) {
	s := owned(t)
	s.want("another leads", s.moved(shardlog.RoleFollowing, 6, boot(9)), Tell{}, ranked(0, 1))
}
