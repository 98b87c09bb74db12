package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/splashdam/splashdam/client"
)

// problem is one thing that is wrong with a cluster, in words.
type problem struct {
	What  string `json:"what"`
	Do    string `json:"do"`
	Agent string `json:"agent,omitempty"` // boot of the agent that it is about
	Shard *int32 `json:"shard,omitempty"`
}

const (
	// heardAgoMax is how long nothing need be heard of an agent that is well: several greetings are lost by then.
	heardAgoMax = 5 * time.Second
	// lagMax is how many entries an agent may be behind that is well: a leader writes some tens in a second.
	lagMax = 500
	// ringFillMax is where a ring is fuller than it ever is while snapshots keep up, which are taken at every eighth of it.
	ringFillMax = 0.5
	// snapshotAgeMax is above the minute after which a changed shard gets a snapshot.
	snapshotAgeMax = 5 * time.Minute
)

// problemsOf says what is wrong and what to do, agents first.
func problemsOf(c client.Cluster, names map[string]string) []problem {
	found := []problem{}
	heard := make(map[string]bool)    // by boot
	places := make(map[string]string) // boots of agents that were heard, by peer address
	for _, a := range c.Agents {
		tell := func(what, do string) { found = append(found, problem{What: what, Do: do, Agent: a.Boot}) }
		heard[a.Boot] = isHeard(a)
		name, at, asker := names[a.Boot], orNone(a.PeerAddress), names[c.AnsweredBy]
		met := ""
		if a.Unreached != "" {
			met = "; what is met there: " + strings.TrimPrefix(a.Unreached, "ping: agent at "+a.PeerAddress+": ")
		}
		switch {
		case replaced(a, c.Agents):
		case a.HeardAgo < 0:
			tell(fmt.Sprintf("Agent %s at %s was not heard by agent %s yet%s", name, at, asker, met),
				"if it runs, look at its --advertise-peer, at its certificates and at the network between the two; if it was killed, its entry goes within two minutes")
		case !heard[a.Boot]:
			tell(fmt.Sprintf("Agent %s at %s was last heard %s%s", name, at, agoText(secondsOf(a.HeardAgo)), met),
				"if it runs, look at its machine, at its --advertise-peer and at the network between the two; if it was killed, its entry goes within two minutes")
		case a.Unreached != "":
			tell(fmt.Sprintf("Agent %s at %s greets agent %s but does not answer it%s", name, at, asker, met),
				"look at its --advertise-peer and at what is between the two: it must lead to that agent, of this cluster and of this version")
		}
		if heard[a.Boot] && a.Problem != "" {
			tell(fmt.Sprintf("Agent %s is not ready: %s", name, a.Problem), "mend what it names, it goes on by itself, or is to be started again where a shard halted; its log has more")
		}
		if a.ClockAhead != 0 {
			tell(fmt.Sprintf("The clock of agent %s is %s", name, clockText(a, c, names)), "set it, and keep it set (NTP): records get their time from it, and retention goes by it")
		}
		if other, ok := places[a.PeerAddress]; ok && heard[a.Boot] && a.PeerAddress != "" {
			tell(fmt.Sprintf("Agents %s and %s have one peer address, %s", names[other], names[a.Boot], a.PeerAddress), "give each an --advertise-peer of its own and start them again")
		}
		if heard[a.Boot] {
			places[a.PeerAddress] = a.Boot
		}
	}
	for _, h := range c.Shards {
		found = append(found, problemsOfShard(h, c.Agents, heard, names)...)
	}
	return found
}

// clockText says how far the agent's clock is off.
func clockText(a client.AgentInfo, c client.Cluster, names map[string]string) string {
	than := "agent " + names[c.AnsweredBy] + "'s"
	if a.Boot == c.AnsweredBy {
		than = "those of the others"
	}
	if a.ClockAhead < 0 {
		return fmt.Sprintf("%s behind %s", (-a.ClockAhead).Round(time.Second), than)
	}
	return fmt.Sprintf("%s ahead of %s", a.ClockAhead.Round(time.Second), than)
}

func isHeard(a client.AgentInfo) bool { return a.HeardAgo >= 0 && a.HeardAgo <= heardAgoMax }

// replaced says whether a is an earlier run of an agent: a later one answers in its place.
func replaced(a client.AgentInfo, agents []client.AgentInfo) bool {
	return !isHeard(a) && a.PeerAddress != "" && slices.ContainsFunc(agents, func(b client.AgentInfo) bool {
		return isHeard(b) && b.Ordinal > a.Ordinal && b.PeerAddress == a.PeerAddress && b.Host == a.Host
	})
}

func problemsOfShard(h client.ShardInfo, agents []client.AgentInfo, heard map[string]bool, names map[string]string) (found []problem) {
	tell := func(what, do string) { found = append(found, problem{What: what, Do: do, Shard: &h.Shard}) }
	switch {
	case h.Fault != "":
		tell(fmt.Sprintf("Shard %d stopped: %s", h.Shard, h.Fault),
			fmt.Sprintf("delete nothing; look at what it names and at splashdam shard log %d, and restore it from a backup of the store", h.Shard))
	case h.Leader == "":
		tell(fmt.Sprintf("Shard %d has no leader, writes to it wait", h.Shard), "an agent takes over within seconds; if not, mend what the agents say")
	case !heard[h.Leader]:
		tell(fmt.Sprintf("Shard %d is led by agent %s, which does not answer", h.Shard, names[h.Leader]), "another agent takes over within seconds; if not, mend what the agents say")
	}
	if fill := float64(h.RingUsed) / float64(max(1, h.RingSlots)); fill > ringFillMax {
		tell(fmt.Sprintf("The ring of shard %d is %.0f %% full, writes slow down at 75 %%", h.Shard, 100*fill), "snapshots do not keep up: look whether the bucket takes puts, and at its latency")
	}
	if behind := h.AppliedSeq - h.SnapshotSeq; behind > 0 && h.SnapshotAge > snapshotAgeMax {
		tell(fmt.Sprintf("The newest snapshot of shard %d is of %s, %s entries ago", h.Shard, agoText(secondsOf(h.SnapshotAge)), humanCount(behind)), "look whether the bucket takes puts, and at the leader's log")
	}
	for _, a := range agents {
		if lag, ok := lagOf(a, h); ok && lag > lagMax {
			tell(fmt.Sprintf("Agent %s is %s entries behind in shard %d", names[a.Boot], humanCount(lag), h.Shard), "it reads old state: look at its load and at the network to the shard's leader")
		}
	}
	return found
}
