package agent

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

const session = 3 * time.Second

var orders = []string{"orders"}

func TestMembersAtDifferentAgentsAreOneGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 6)
		all[0].fill(t, "orders", 6, 10)
		var members []*consumer
		for i, m := range all {
			members = append(members, consume(t, "email", fmt.Sprint("m", i), session, orders, m.running))
		}
		eventually(t, 2*time.Second, "the members share the topic", func() bool { return shared(6, members...) })
		for i, c := range members { // through each agent, and read at once through every one
			o := objectlog.Offset(i + 1)
			if err := c.commit("orders", o); err != nil {
				t.Fatal(err)
			}
			owned, _ := c.holds()
			for _, m := range all {
				got, err := m.GroupOffsets(t.Context(), "email", nil)
				if err != nil {
					t.Fatal(err)
				}
				at := 0
				for _, g := range got {
					if g.Err == nil && g.Offset == o && g.Member == fmt.Sprint("m", i) {
						at++
					}
				}
				want(t, "positions of member "+fmt.Sprint(i)+" seen through "+m.place, at, len(owned))
			}
		}
		joined := time.Now()
		members = append(members, consume(t, "email", "m3", session, orders, all[2].running))
		eventually(t, 2*time.Second, "a fourth member has its part", func() bool { return shared(6, members...) })
		if took := time.Since(joined); took > time.Second {
			t.Errorf("a member has its part %s after it joined", took)
		}
		g, err := all[1].Group(t.Context(), "email")
		if err != nil || len(g.Members) != 4 || !g.Settled() || g.Coordinator == "" {
			t.Errorf("group %+v, %v", g, err)
		}
	})
}

func TestNobodyIsExpiredAndCommitsGoOnWhenTheLeaderChanges(t *testing.T) {
	const group = "email"
	for what, change := range map[string]struct {
		how    func(w *wire, leader member)
		within time.Duration // commits go on
	}{
		"dies":    {func(_ *wire, m member) { m.die() }, time.Second},
		"leaves":  {func(_ *wire, m member) { m.leave() }, time.Second},
		"resigns": {func(_ *wire, m member) { _ = m.shards[groups.ShardOf(group, 4)].replica.Resign(m.draining) }, 6 * time.Second},
		"vanishes": {func(w *wire, m member) {
			w.mu.Lock()
			w.cut[m.place] = true
			w.mu.Unlock()
			m.dead.Store(true)
		}, 6 * time.Second},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _, all := three(t)
				all[0].topic(t, "orders", 4)
				all[0].fill(t, "orders", 4, 100)
				<-time.After(time.Minute)
				leader, others := leaderOf(t, all, groups.ShardOf(group, 4))
				one := consume(t, group, "one", session, orders, others[0].running, others[1].running)
				two := consume(t, group, "two", session, orders, others[1].running, others[0].running)
				three := consume(t, group, "three", session, orders, leader.running, others[0].running) // the leader goes from under it
				eventually(t, 2*time.Second, "the members share the topic", func() bool { return shared(4, one, two, three) })
				if what == "vanishes" { // whoever is only there loses its members
					three.through(others[0].running)
				}
				_, generation := one.holds()
				change.how(w, leader)
				began := time.Now()
				for _, c := range []*consumer{one, two} {
					if err := c.commit("orders", 7); err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(began); took > change.within {
					t.Errorf("commits take %s", took)
				}
				<-time.After(6 * session) // as long as a heartbeat may hang, and more
				for _, c := range []*consumer{one, two, three} {
					if lost, answers := c.counts(); lost > 0 || answers == 0 {
						t.Errorf("a member lost its session %d times, and was answered %d times", lost, answers)
					}
				}
				if _, now := one.holds(); now != generation || !shared(4, one, two, three) {
					t.Errorf("generation %d, was %d: a change of the leader is none of the group", now, generation)
				}
				for _, m := range others {
					got, err := m.GroupOffsets(t.Context(), group, nil)
					if err != nil {
						t.Fatal(err)
					}
					for _, o := range got {
						if want := o.Member != "three"; o.Err != nil || o.Committed != want || want && o.Offset != 7 {
							t.Errorf("through %s: %+v", m.place, o)
						}
					}
				}
				w.mu.Lock()
				w.cut[leader.place] = false
				w.mu.Unlock()
			})
		})
	}
}

func TestTableOutageExpiresNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, all := three(t)
		all[0].topic(t, "orders", 4)
		var members []*consumer
		for i, m := range all {
			members = append(members, consume(t, "email", fmt.Sprint(i), time.Second, orders, m.running))
		}
		eventually(t, 2*time.Second, "the members share the topic", func() bool { return shared(4, members...) })
		_, generation := members[0].holds()
		s.failTable(func(metamem.Request) metamem.Fault { return metamem.FailBefore })
		<-time.After(time.Minute)
		s.heal()
		<-time.After(10 * time.Second)
		for _, c := range members {
			lost, _ := c.counts()
			_, now := c.holds()
			if lost > 0 || now != generation {
				t.Errorf("a member lost its session %d times; generation %d, was %d", lost, now, generation)
			}
		}
		eventually(t, 2*time.Second, "the members share the topic behind the outage", func() bool { return shared(4, members...) })
	})
}

func TestLeaderThatCannotRenewItsLeaseAnswersNoHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cfg := newStores(), testConfig()
		cfg.Shards = 1
		a := start(t, s, cfg)
		a.topic(t, "orders", 1)
		h := groups.Heartbeat{Group: "email", Member: groups.Member{ID: "m", Subscribed: groups.Subscription{Topics: orders}}}
		answer, err := a.Heartbeat(t.Context(), h, 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		h.Generation, h.Owned = answer.Generation, answer.Partitions
		waiting := make(chan error, 1)
		go func() {
			_, err := a.HeartbeatHere(t.Context(), h, time.Hour)
			waiting <- err
		}()
		<-time.After(time.Second)
		s.failTable(func(metamem.Request) metamem.Fault { return metamem.FailBefore })
		wantErr(t, "a heartbeat that waits", <-waiting, shardlog.ErrNotLeader)
		_, err = a.HeartbeatHere(t.Context(), h, 0)
		wantErr(t, "a heartbeat that comes", err, shardlog.ErrNotLeader)
		h.Generation, h.Member.ID = 7, "stranger" // it may have joined at another leader
		_, err = a.HeartbeatHere(t.Context(), h, 0)
		wantErr(t, "a heartbeat of a member that is not known here", err, shardlog.ErrNotLeader)
		s.heal()
		h.Generation, h.Member.ID = answer.Generation, "m"
		if _, err := a.Heartbeat(t.Context(), h, 0); err != nil {
			t.Errorf("when the table is back: %v", err)
		}
	})
}

func TestSessionsStandStillWhileTheTableIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		a := start(t, s, testConfig())
		a.topic(t, "orders", 1)
		h := groups.Heartbeat{Group: "email", Member: groups.Member{ID: "m", Session: 6 * time.Second, Subscribed: groups.Subscription{Topics: orders}}}
		beat := func(what string) {
			t.Helper()
			answer, err := a.Heartbeat(t.Context(), h, 0)
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			h.Generation = answer.Generation
		}
		beat("at first")
		<-time.After(time.Second) // it has its first generation
		beat("before the outage")
		s.failTable(func(metamem.Request) metamem.Fault { return metamem.FailBefore })
		<-time.After(time.Minute)
		s.heal()
		c := a.coordinators[groups.ShardOf("email", 2)]
		eventually(t, 10*time.Second, "the lease is renewed", func() bool { return c.leading() != 0 })
		<-time.After(time.Second) // the member comes back a little later
		beat("behind the outage")
		<-time.After(7 * time.Second)
		_, err := a.Heartbeat(t.Context(), h, 0)
		wantErr(t, "when it was silent for its session", err, groups.ReasonUnknownMember)
	})
}

func TestDeadMembersPartitionsMoveWithinItsSessionAndASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 5)
		var members []*consumer
		for i, m := range all {
			members = append(members, consume(t, "email", fmt.Sprint(i), session, orders, m.running))
		}
		eventually(t, 2*time.Second, "the members share the topic", func() bool { return shared(5, members...) })
		members[1].stop()
		began := time.Now()
		eventually(t, 10*time.Second, "the others share the topic", func() bool { return shared(5, members[0], members[2]) })
		if took := time.Since(began); took > session+time.Second || took < session*2/3 {
			t.Errorf("the partitions of a dead member moved after %s, want its session of %s and less than a second", took, session)
		}
	})
}

func TestTopicsThatComeAndGrowAreAssigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		one := consume(t, "email", "one", session, []string{"late", "orders"}, all[0].running)
		two := consume(t, "email", "two", session, []string{"late", "orders"}, all[1].running)
		all[2].topic(t, "orders", 3)
		eventually(t, 2*time.Second, "a topic that comes is shared", func() bool { return shared(3, one, two) })
		if _, err := all[1].AddPartitions(t.Context(), "orders", 7, false); err != nil {
			t.Fatal(err)
		}
		all[2].topic(t, "late", 4)
		eventually(t, 2*time.Second, "what comes is shared too", func() bool { return shared(11, one, two) })
		if err := all[0].DeleteTopic(t.Context(), "orders", 0); err != nil {
			t.Fatal(err)
		}
		eventually(t, 2*time.Second, "what goes is given up", func() bool { return shared(4, one, two) })
	})
}

func TestNewsWakesAllThatWaitForTheGroupAndNobodyElse(t *testing.T) {
	_, l, _ := follower(t)
	c := newCoordinator(shard{log: l, groups: l.groups})
	apply := func(command metadata.Command) {
		if _, err := l.apply(command); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(group string) <-chan struct{} {
		_, moved, err := c.answer(groups.Heartbeat{Group: group, Member: groups.Member{ID: "m"}}, true)
		if err != nil || moved == nil {
			t.Fatalf("a member of group %s with no news: %v", group, err)
		}
		return moved
	}
	is := func(what string, closed <-chan struct{}, want bool) {
		t.Helper()
		select {
		case <-closed:
			if !want {
				t.Errorf("%s: woken", what)
			}
		default:
			if want {
				t.Errorf("%s: not woken", what)
			}
		}
	}
	for _, g := range []string{"email", "other"} {
		apply(groups.Join{Group: g, Member: groups.Member{ID: "m", Subscribed: groups.Subscription{Topics: orders}}}.Command())
	}
	first, other := ask("email"), ask("other")
	is("at first", first, false)
	apply(groups.Join{Group: "email", Member: groups.Member{ID: "n", Subscribed: groups.Subscription{Topics: orders}}}.Command())
	second := ask("email") // before wake has come to it
	is("who waited when the group moved", first, true)
	is("who came behind that", second, false)
	apply(groups.Leave{Group: "email", Member: "n"}.Command())
	is("of another group", other, false)
	_, none, err := c.answer(groups.Heartbeat{Group: "none", Member: groups.Member{ID: "m"}, Generation: 1}, true)
	if !errors.Is(err, groups.ReasonUnknownMember) || none != nil || len(c.waiting) != 2 {
		t.Errorf("a group that is not there: %v; %d are waited for", err, len(c.waiting))
	}
}

func TestWrongHeartbeatIsWrongAtOnceThroughEveryAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		id := func(n byte) groups.TopicPartition { return groups.TopicPartition{Topic: objectlog.UUID{n}} }
		good := groups.Heartbeat{Group: "email", Member: groups.Member{ID: "m", Subscribed: groups.Subscription{Topics: orders}}}
		for what, change := range map[string]func(h *groups.Heartbeat){
			"no group":        func(h *groups.Heartbeat) { h.Group = "" },
			"no member":       func(h *groups.Heartbeat) { h.Member.ID = "" },
			"no subscription": func(h *groups.Heartbeat) { h.Member.Subscribed.Topics = nil },
			"bad pattern":     func(h *groups.Heartbeat) { h.Member.Subscribed.Pattern = "(" },
			"out of order":    func(h *groups.Heartbeat) { h.Owned = []groups.TopicPartition{id(2), id(1)} },
		} {
			h := good
			change(&h)
			for _, m := range all {
				began := time.Now()
				_, err := m.Heartbeat(t.Context(), h, time.Second)
				if wantErr(t, what, err, InvalidRequest); time.Since(began) > time.Second {
					t.Errorf("%s: said after %s", what, time.Since(began))
				}
			}
		}
		for i := range 100 { // what is not there leaves nothing
			h := good
			h.Group, h.Leaving = fmt.Sprint("none-", i), i%2 == 0
			h.Generation = 1
			_, err := all[i%3].Heartbeat(t.Context(), h, time.Second)
			if h.Leaving && err != nil || !h.Leaving && !errors.Is(err, groups.ReasonUnknownMember) {
				t.Errorf("a group that is not there, leaving %t: %v", h.Leaving, err)
			}
		}
		for _, m := range all {
			for _, c := range m.coordinators {
				c.mu.Lock()
				want(t, "groups that are waited for", len(c.waiting), 0)
				c.mu.Unlock()
			}
		}
	})
}

// A member that has seen more than this agent has is not sent back to an assignment that may be others' by now.
func TestMemberIsNotAnsweredFromAViewOlderThanItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 1)
		h := groups.Heartbeat{Group: "email", Member: groups.Member{ID: "m", Subscribed: groups.Subscription{Topics: orders}}}
		answer, err := a.Heartbeat(t.Context(), h, 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		h.Generation = answer.Generation + 1
		answer, err = a.HeartbeatHere(t.Context(), h, 0)
		if wantErr(t, "a member of a later generation", err, shardlog.ErrNotLeader); len(answer.Partitions) > 0 {
			t.Errorf("answered %+v", answer)
		}
	})
}

func TestStoppingAgentAnswersItsWaitingMembersAtOnceAndKeepsOthersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 2)
		<-time.After(time.Minute)
		leader, others := leaderOf(t, all, groups.ShardOf("email", 4))
		beat := func(through member, id string) groups.Heartbeat {
			h := groups.Heartbeat{Group: "email", Member: groups.Member{ID: id, Session: time.Minute, Subscribed: groups.Subscription{Topics: orders}}}
			for range 4 { // until it has its part
				a, err := through.Heartbeat(t.Context(), h, time.Second)
				if err != nil {
					t.Fatal(err)
				}
				h.Generation, h.Owned = a.Generation, a.Partitions
			}
			return h
		}
		for range 2 { // the second to come changes what the first one has
			beat(leader, "hers")
			beat(others[0], "his")
		}
		hers, his := beat(leader, "hers"), beat(others[0], "his")
		type answer struct {
			err  error
			took time.Duration
		}
		wait := func(m member, h groups.Heartbeat) chan answer {
			answered, began := make(chan answer, 1), time.Now()
			go func() {
				_, err := m.Heartbeat(t.Context(), h, 20*time.Second)
				answered <- answer{err, time.Since(began)}
			}()
			return answered
		}
		there, elsewhere := wait(leader, hers), wait(others[0], his)
		<-time.After(time.Second)
		leader.Drain()
		if a := <-there; a.err != nil || a.took > 1100*time.Millisecond {
			t.Errorf("through the agent that drains: %v after %s, want an answer at once", a.err, a.took)
		}
		<-time.After(time.Second) // load balancers notice
		leader.leave()
		if a := <-elsewhere; a.err != nil || a.took < 20*time.Second || a.took > 21*time.Second {
			t.Errorf("through another agent, while the leader drained and left: %v after %s, want the whole wait", a.err, a.took)
		}
	})
}

func TestGroupsExpireWithTheirPositionsWhenNobodyIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.GroupLife = time.Minute
		a := start(t, newStores(), cfg)
		a.topic(t, "orders", 1)
		a.fill(t, "orders", 1, 3)
		a.position(t, "idle", "orders", 0, 1)
		consume(t, "busy", "m", session, orders, a)
		<-time.After(30 * time.Second)
		a.position(t, "later", "orders", 0, 2)
		<-time.After(31 * time.Second)
		a.expire(t.Context(), make([]metadata.Seq, 2))
		var left []string
		list, err := a.Groups(t.Context(), "", 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range list {
			left = append(left, g.ID)
		}
		want(t, "groups that are left", fmt.Sprint(left), "[busy later]")
		a.wantPositions(t, "idle", "orders", objectlog.NoOffset)
	})
}
