package agent

import (
	"cmp"
	"slices"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
)

// groupsNamed bounds the groups that GroupUsage names: each is a series of the metrics.
const groupsNamed = 100

// GroupUsage is what an agent can tell of groups without asking anybody. Groups are those whose shards it leads; counts are of what was done
// here since the agent was opened.
type GroupUsage struct {
	Groups  int
	Members int
	Largest []GroupSize // the 100 with the most members, largest first; none without

	Assignments int64 // made, each a generation or the finding that the old one still does
	Expired     int64 // members whose sessions were over
	Committed   int64 // positions, by calls to this agent
	Refused     int64 // positions; not those of unknown outcome, nor those that could not be tried
}

// GroupSize is a group as far as GroupUsage tells of it.
type GroupSize struct {
	Group      string
	Members    int
	Generation int64
}

// GroupUsage answers it.
func (a *Agent) GroupUsage() GroupUsage {
	u := GroupUsage{Committed: a.positions.committed.Load(), Refused: a.positions.refused.Load()}
	for _, c := range a.coordinators {
		u.Assignments += c.assignments.Load()
		u.Expired += c.expired.Load()
		if c.leading() == 0 {
			continue
		}
		c.shard.log.Read(func(metadata.Seq) {
			c.shard.groups.Groups("", func(g *groups.Group) bool {
				u.Groups++
				if n := len(g.Members); n > 0 {
					u.Members += n
					u.Largest = append(u.Largest, GroupSize{g.ID, n, g.Generation})
				}
				return true
			})
		})
	}
	slices.SortFunc(u.Largest, func(a, b GroupSize) int {
		return cmp.Or(cmp.Compare(b.Members, a.Members), cmp.Compare(a.Group, b.Group))
	})
	u.Largest = u.Largest[:min(len(u.Largest), groupsNamed)]
	return u
}
