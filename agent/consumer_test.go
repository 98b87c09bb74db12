package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// consumer is a member of a group as a client is one: it heartbeats through one agent, or through another when that fails, and gives up at
// once what it is told to.
type consumer struct {
	t       *testing.T
	group   string
	session time.Duration
	topics  []string
	stop    func() // as kill -9 does

	mu         sync.Mutex
	agents     []running // the first is asked
	generation int64
	owned      []groups.TopicPartition
	lost       int // how often its session was over
	answers    int
}

// consume starts a member.
func consume(t *testing.T, group, id string, session time.Duration, topics []string, agents ...running) *consumer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	c := &consumer{t: t, group: group, session: session, topics: topics, agents: agents, stop: func() { cancel(); ended.Wait() }}
	ended.Go(func() { c.run(ctx, id) })
	t.Cleanup(c.stop)
	return c
}

func (c *consumer) run(ctx context.Context, id string) {
	for ctx.Err() == nil {
		c.mu.Lock()
		h := groups.Heartbeat{Group: c.group, Generation: c.generation, Owned: c.owned,
			Member: groups.Member{ID: id, Session: c.session, Subscribed: groups.Subscription{Topics: c.topics}}}
		agent := c.agents[0]
		c.mu.Unlock()
		answer, err := agent.Heartbeat(ctx, h, c.session/3)
		c.mu.Lock()
		switch {
		case ctx.Err() != nil:
		case err == nil:
			c.generation, c.owned = answer.Generation, answer.Partitions
			c.answers++
		case errors.Is(err, groups.ReasonUnknownMember):
			c.lost++
			c.generation, c.owned = 0, nil
		case errors.Is(err, Unavailable):
			c.agents = append(c.agents[1:len(c.agents):len(c.agents)], agent)
		default:
			c.t.Errorf("member %s: %v", id, err)
		}
		c.mu.Unlock()
		if errors.Is(agent.Ready(), Draining) { // whom nobody is sent to any more
			c.through(append(c.agents[1:len(c.agents):len(c.agents)], agent)...)
		}
	}
}

func (c *consumer) through(agents ...running) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.agents = agents
}

// holds answers what the member works on and in which generation.
func (c *consumer) holds() ([]groups.TopicPartition, int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owned, c.generation
}

// counts answers how often the session was over, and how often the member was answered.
func (c *consumer) counts() (lost, answers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost, c.answers
}

// shared says whether the members have all partitions between them, none twice, each of them its part.
func shared(partitions int, all ...*consumer) bool {
	var owned []groups.TopicPartition
	var generations []int64
	for _, c := range all {
		has, g := c.holds()
		if n := len(has); n < partitions/len(all) || n > partitions/len(all)+1 {
			return false
		}
		owned, generations = append(owned, has...), append(generations, g)
	}
	slices.SortFunc(owned, groups.TopicPartition.Compare)
	return len(owned) == partitions && len(slices.Compact(owned)) == partitions && len(slices.Compact(generations)) == 1
}

// commit commits an offset in each partition that the member works on, as a client does that tries again elsewhere.
func (c *consumer) commit(topic string, o objectlog.Offset) error {
	owned, generation := c.holds()
	commit := OffsetCommit{Group: c.group, Member: c.member(), Generation: generation}
	for _, p := range owned {
		commit.Positions = append(commit.Positions, GroupPosition{Topic: topic, Partition: p.Partition, Offset: o})
	}
	for try := 0; ; try++ {
		c.mu.Lock()
		agent := c.agents[try%len(c.agents)]
		c.mu.Unlock()
		errs, err := agent.CommitOffsets(c.t.Context(), commit)
		if try < 100 && (errors.Is(err, Unavailable) || errors.Is(err, OutcomeUnknown) || errors.Is(err, Draining)) {
			<-time.After(10 * time.Millisecond)
			continue
		}
		return errors.Join(append(errs, err)...)
	}
}

// member is the id that the group knows it by.
func (c *consumer) member() string {
	owned, _ := c.holds()
	c.mu.Lock()
	agent := c.agents[0]
	c.mu.Unlock()
	g, err := agent.Group(c.t.Context(), c.group)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(owned) == 0 {
		c.t.Fatal("the member has no partition")
	}
	return g.OwnerOf(owned[0])
}

// wantPositions checks the group's positions in a topic through an agent, by partition; NoOffset: none.
func (r running) wantPositions(t *testing.T, group, topic string, offsets ...objectlog.Offset) {
	t.Helper()
	got, err := r.GroupOffsets(t.Context(), group, []string{topic})
	if err != nil {
		t.Fatal(err)
	}
	found := make([]objectlog.Offset, len(got))
	for i, o := range got {
		if o.Err != nil {
			t.Error(o.Err)
		}
		found[i] = o.Offset
	}
	if !slices.Equal(found, offsets) {
		t.Errorf("positions of group %s in %s: got %v, want %v", group, topic, found, offsets)
	}
}

// filled produces n records to each of the first partitions of a topic.
func (r running) fill(t *testing.T, topic string, partitions objectlog.Partition, n int) {
	t.Helper()
	for p := range partitions {
		texts := make([]string, n)
		for i := range texts {
			texts[i] = fmt.Sprint(i)
		}
		if got := r.produce(t, values(topic, p, texts...)); got.Err != nil {
			t.Fatal(got.Err)
		}
	}
}

// position commits one position without a member.
func (r running) position(t *testing.T, group, topic string, p objectlog.Partition, o objectlog.Offset) {
	t.Helper()
	errs, err := r.CommitOffsets(t.Context(), OffsetCommit{Group: group, Positions: []GroupPosition{{Topic: topic, Partition: p, Offset: o}}})
	if err = errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
}

// groupIn is a group that belongs to the shard.
func groupIn(s objectlog.Shard, shards int) string {
	for i := 0; ; i++ {
		if id := fmt.Sprint("group-", i); groups.ShardOf(id, shards) == s {
			return id
		}
	}
}

// applied is how far the shard has come.
func (r running) applied(s objectlog.Shard) metadata.Seq { return r.shards[s].log.Status().Applied }
