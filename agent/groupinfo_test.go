package agent

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

func TestGroupsOfAllShardsAreListedPageByPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 1)
		var made []string
		for i := range 25 {
			id := fmt.Sprintf("group-%02d", i)
			made = append(made, id)
			all[i%3].position(t, id, "orders", 0, 0)
		}
		for _, limit := range []int{1, 7, 25, 1000} {
			for _, m := range all {
				var listed []string
				for after := ""; ; after = listed[len(listed)-1] {
					page, err := m.Groups(t.Context(), after, limit)
					if err != nil {
						t.Fatal(err)
					}
					for _, g := range page {
						if listed = append(listed, g.ID); len(g.Offsets) > 0 {
							t.Errorf("group %s is listed with its offsets", g.ID)
						}
					}
					if len(page) < limit {
						break
					}
				}
				if !slices.Equal(listed, made) {
					t.Errorf("pages of %d through %s: %v", limit, m.place, listed)
				}
			}
		}
	})
}

func TestDeletedGroupIsGoneAtEveryAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 1)
		for i, m := range all {
			id := fmt.Sprint("group-", i)
			all[(i+1)%3].position(t, id, "orders", 0, 0)
			if err := m.DeleteGroup(t.Context(), id); err != nil {
				t.Error(err)
			}
			for _, other := range all {
				_, err := other.Group(t.Context(), id)
				wantErr(t, "a group that is deleted", err, groups.ReasonUnknownGroup)
				wantErr(t, "its deletion", other.DeleteGroup(t.Context(), id), groups.ReasonUnknownGroup)
				_, err = other.GroupOffsets(t.Context(), id, nil)
				wantErr(t, "its positions", err, groups.ReasonUnknownGroup)
				other.wantPositions(t, id, "orders", objectlog.NoOffset)
			}
		}
		c := consume(t, "busy", "m", session, orders, all[0].running)
		eventually(t, 2*time.Second, "the member has all", func() bool { return shared(1, c) })
		wantErr(t, "deletion of a group with a member", all[1].DeleteGroup(t.Context(), "busy"), groups.ReasonNotEmpty)
		wantErr(t, "deletion without a name", all[1].DeleteGroup(t.Context(), ""), InvalidRequest)
		c.stop()
		<-time.After(session + time.Second)
		wantErr(t, "deletion when the member is gone", all[1].DeleteGroup(t.Context(), "busy"), nil)
	})
}

func TestResetMovesPositionsWithinTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 3)
		a.fill(t, "orders", 2, 10) // the third is empty
		if _, err := a.TrimPartition(t.Context(), "orders", 1, 4); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		noon := a.cfg.Wall()
		<-time.After(time.Minute)
		a.fill(t, "orders", 1, 5) // [0, 15), [4, 10), none
		none := objectlog.NoOffset
		one, beyond := objectlog.Offset(1), objectlog.Offset(1<<62)
		for _, x := range []struct {
			what string
			to   Reset
			want []objectlog.Offset
		}{
			{"earliest", Reset{To: Start{Kind: StartEarliest}}, []objectlog.Offset{0, 4, 0}},
			{"latest", Reset{To: Start{Kind: StartLatest}}, []objectlog.Offset{15, 10, 0}},
			{"offset", Reset{To: Start{Kind: StartOffset, Offset: 6}}, []objectlog.Offset{6, 6, 0}},
			{"offset below the log", Reset{To: Start{Kind: StartOffset, Offset: one}}, []objectlog.Offset{1, 4, 0}},
			{"offset beyond the log", Reset{To: Start{Kind: StartOffset, Offset: beyond}}, []objectlog.Offset{15, 10, 0}},
			{"negative offset", Reset{To: Start{Kind: StartOffset, Offset: -5}}, []objectlog.Offset{0, 4, 0}},
			{"time", Reset{To: Start{Kind: StartTime, Time: noon}}, []objectlog.Offset{10, 10, 0}},
			{"time before all", Reset{To: Start{Kind: StartTime, Time: 0}}, []objectlog.Offset{0, 4, 0}},
			{"tail", Reset{To: Start{Kind: StartTail, Tail: 2}}, []objectlog.Offset{13, 8, 0}},
			{"shift back", Reset{Shifts: true, Shift: -3}, []objectlog.Offset{4, 4, 0}},
			{"shift on", Reset{Shifts: true, Shift: 2}, []objectlog.Offset{9, 9, 0}},
			{"shift far back", Reset{Shifts: true, Shift: -1 << 63}, []objectlog.Offset{0, 4, 0}},
			{"shift far on", Reset{Shifts: true, Shift: 1<<63 - 1}, []objectlog.Offset{15, 10, 0}},
			{"one partition", Reset{To: Start{Kind: StartEarliest}, Partitions: []objectlog.Partition{1}}, []objectlog.Offset{7, 4, 0}},
		} {
			for p := range objectlog.Partition(2) {
				a.position(t, "tool", "orders", p, 7)
			}
			a.position(t, "tool", "orders", 2, 0)
			x.to.Group, x.to.Topic, x.to.ValidateOnly = "tool", "orders", true
			before := []objectlog.Offset{7, 7, 0}
			try, err := a.ResetOffsets(t.Context(), x.to)
			if err != nil {
				t.Fatalf("%s: %v", x.what, err)
			}
			a.wantPositions(t, "tool", "orders", before...) // still
			x.to.ValidateOnly = false
			moved, err := a.ResetOffsets(t.Context(), x.to)
			if err != nil || !slices.Equal(moved, try) {
				t.Errorf("%s: %+v, %v; validation said %+v", x.what, moved, err, try)
			}
			for _, m := range moved {
				if m.From != before[m.Partition] || m.To != x.want[m.Partition] {
					t.Errorf("%s: partition %d moved %d to %d, want %d to %d", x.what, m.Partition, m.From, m.To, before[m.Partition], x.want[m.Partition])
				}
			}
			a.wantPositions(t, "tool", "orders", x.want...)
		}
		moved, err := a.ResetOffsets(t.Context(), Reset{Group: "fresh", Topic: "orders", To: Start{Kind: StartLatest}})
		if err != nil || len(moved) != 3 || moved[0] != (Moved{0, none, 15}) {
			t.Errorf("a group that was not there: %+v, %v", moved, err)
		}
	})
}

func TestResetThatIsWrongMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 2)
		a.fill(t, "orders", 2, 9)
		a.position(t, "tool", "orders", 0, 5)
		earliest := Start{Kind: StartEarliest}
		for what, x := range map[string]struct {
			r    Reset
			want error
		}{
			"no group":          {Reset{Topic: "orders", To: earliest}, InvalidRequest},
			"unknown topic":     {Reset{Group: "tool", Topic: "none", To: earliest}, metadata.ReasonUnknownTopic},
			"unknown partition": {Reset{Group: "tool", Topic: "orders", To: earliest, Partitions: []objectlog.Partition{0, 2}}, metadata.ReasonUnknownTopic},
			"no such partition": {Reset{Group: "tool", Topic: "orders", To: earliest, Partitions: []objectlog.Partition{-1}}, metadata.ReasonUnknownTopic},
			"no place to shift": {Reset{Group: "tool", Topic: "orders", Shifts: true, Shift: -1}, InvalidRequest}, // in partition 1
		} {
			_, err := a.ResetOffsets(t.Context(), x.r)
			wantErr(t, what, err, x.want)
		}
		a.wantPositions(t, "tool", "orders", 5, objectlog.NoOffset)

		errs, err := a.commitOffsets(t.Context(), OffsetCommit{Group: "tool", Positions: []GroupPosition{{Topic: "orders", Offset: 1}, {Topic: "orders", Partition: 1, Offset: 99}}}, true)
		if err != nil || !errors.Is(errs[1], OutOfRange) {
			t.Errorf("a position beyond the log: %v, %v", errs, err)
		}
		a.wantPositions(t, "tool", "orders", 5, objectlog.NoOffset) // nor its neighbour
	})
}

func TestResetOfAGroupWithMembersWantsForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 2)
		all[0].fill(t, "orders", 2, 9)
		c := consume(t, "email", "m", session, orders, all[0].running)
		eventually(t, 2*time.Second, "the member has all", func() bool { return shared(2, c) })
		if err := c.commit("orders", 7); err != nil {
			t.Fatal(err)
		}
		r := Reset{Group: "email", Topic: "orders", To: Start{Kind: StartEarliest}}
		for _, m := range all {
			for _, r.ValidateOnly = range []bool{false, true} {
				_, err := m.ResetOffsets(t.Context(), r)
				wantErr(t, "reset without force", err, groups.ReasonNotEmpty)
			}
			m.wantPositions(t, "email", "orders", 7, 7)
		}
		r.ValidateOnly, r.Force = false, true
		if _, err := all[1].ResetOffsets(t.Context(), r); err != nil {
			t.Error(err)
		}
		all[2].wantPositions(t, "email", "orders", 0, 0)
	})
}

func TestLagCountsWhatTheLogStillHolds(t *testing.T) {
	for _, x := range []struct {
		o    GroupOffset
		lag  int64
		told bool
	}{
		{GroupOffset{HighWatermark: 10, LogStart: 4}, 6, true},
		{GroupOffset{HighWatermark: 10, LogStart: 4, Committed: true, Offset: 7}, 3, true},
		{GroupOffset{HighWatermark: 10, LogStart: 4, Committed: true, Offset: 2}, 6, true},
		{GroupOffset{HighWatermark: 10, LogStart: 4, Committed: true, Offset: 10}, 0, true},
		{GroupOffset{HighWatermark: 10, Committed: true, Offset: 11}, 0, false},
	} {
		if lag, told := x.o.Lag(); told != x.told || told && lag != x.lag {
			t.Errorf("%+v: lag %d, %t", x.o, lag, told)
		}
	}
}
