package agent

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/groups"
)

func TestGroupUsageOfAllAgentsCountsEveryGroupOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		all[0].topic(t, "orders", 2)
		all[0].fill(t, "orders", 1, 9)
		one := consume(t, "email", "one", session, orders, all[0].running)
		two := consume(t, "email", "two", session, orders, all[1].running)
		eventually(t, 2*time.Second, "they share", func() bool { return shared(2, one, two) })
		all[0].position(t, "tool", "orders", 0, 1)
		if _, err := all[2].CommitOffsets(t.Context(), OffsetCommit{Group: "email", Positions: []GroupPosition{{Topic: "orders"}}}); err == nil {
			t.Error("a commit of nobody was taken while there are members")
		}
		two.stop()
		eventually(t, 5*time.Second, "one has all", func() bool { return shared(2, one) })
		_, generation := one.holds()
		var sum GroupUsage
		for _, m := range all {
			u := m.GroupUsage()
			sum.Groups += u.Groups
			sum.Members += u.Members
			sum.Largest = append(sum.Largest, u.Largest...)
			sum.Assignments += u.Assignments
			sum.Expired += u.Expired
			sum.Committed += u.Committed
			sum.Refused += u.Refused
		}
		if sum.Groups != 2 || sum.Members != 1 || sum.Expired != 1 || sum.Committed != 1 || sum.Refused != 1 || sum.Assignments < 2 {
			t.Errorf("together %+v", sum)
		}
		if !slices.Equal(sum.Largest, []GroupSize{{"email", 1, generation}}) {
			t.Errorf("groups with members: %+v", sum.Largest)
		}
	})
}

func TestGroupUsageNamesTheLargestGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		for i := range groupsNamed + 5 {
			for m := range 1 + i%2 {
				h := groups.Heartbeat{Group: fmt.Sprintf("group-%03d", i), Member: groups.Member{ID: fmt.Sprint(m), Subscribed: groups.Subscription{Topics: orders}}}
				if _, err := a.Heartbeat(t.Context(), h, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		u := a.GroupUsage()
		if u.Groups != groupsNamed+5 || len(u.Largest) != groupsNamed || u.Largest[0].Group != "group-001" || u.Largest[0].Members != 2 || u.Largest[groupsNamed-1].Members != 1 {
			t.Errorf("%d groups, %d named, first %+v", u.Groups, len(u.Largest), u.Largest[0])
		}
	})
}
