package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splashdam/splashdam/agent/lead"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

const (
	// inboxMax is what waits for the core, or for one replica; more of it waits where it comes from.
	inboxMax  = 64
	drainPoll = 2 * time.Millisecond
)

// pingTimeout is far more than a greeting takes, and less than the lease: who does not answer in time is as good as away.
const pingTimeout = time.Second

// leaders drives a lead.Core: it greets the other agents, follows the leaders among them, and hands leadership on.
type leaders struct {
	peers    Peers
	own      lead.Peer
	shards   []shard
	lease    time.Duration
	start    time.Time // of the core's monotonic clock
	greeting func() Greeting
	wall     func() objectlog.Timestamp

	inbox   chan lead.Event
	tells   []chan shardlog.Event                  // by shard: a replica that is busy with a long step keeps none of the others waiting
	leave   chan struct{}                          // asks run to drain, and is closed
	left    chan struct{}                          // closed when it has begun to
	done    chan struct{}                          // closed when run is over
	streams map[objectlog.Shard]context.CancelFunc // owned by run
	effects sync.WaitGroup
	offers  atomic.Int32 // hand-offs under way

	mu      sync.Mutex
	core    *lead.Core
	agents  map[objectlog.UUID]AgentInfo // known, by boot
	said    map[objectlog.UUID]Greeting  // the newest of each
	met     map[objectlog.UUID]meeting   // beside it; of known agents only
	tenures []tenure                     // by shard
}

// tenure is the time in which a shard has one leader, or none, as far as is known here.
type tenure struct {
	boot  objectlog.UUID // zero: nobody is known
	since time.Duration
	ended chan struct{}   // closed when another one begins
	over  context.Context // ends a grace time later
	end   context.CancelFunc
}

// tenureGrace is how long a leader that was replaced may still answer for what it was sent.
const tenureGrace = 250 * time.Millisecond

func (l *leaders) newTenure(boot objectlog.UUID) tenure {
	over, end := context.WithCancel(context.Background())
	return tenure{boot: boot, since: l.mono(), ended: make(chan struct{}), over: over, end: end}
}

func newLeaders(cfg Config, own AgentInfo, boot objectlog.UUID, shards []shard, peers Peers) *leaders {
	self := lead.Peer{Boot: boot, Name: placeOf(own)}
	l := &leaders{peers: peers, own: self, shards: shards, lease: cfg.Lease, start: time.Now(), inbox: make(chan lead.Event, inboxMax), done: make(chan struct{}),
		leave: make(chan struct{}), left: make(chan struct{}),
		streams: make(map[objectlog.Shard]context.CancelFunc), agents: map[objectlog.UUID]AgentInfo{boot: own}, said: make(map[objectlog.UUID]Greeting),
		met: make(map[objectlog.UUID]meeting), wall: cfg.Wall,
		core: lead.New(lead.Config{Self: self, Shards: len(shards), Lease: cfg.Lease, Random: cfg.Random})}
	for range shards {
		l.tells = append(l.tells, make(chan shardlog.Event, inboxMax))
		l.tenures = append(l.tenures, l.newTenure(objectlog.UUID{}))
	}
	return l
}

// placeOf names the place where an agent runs: its next run there has the same name.
func placeOf(a AgentInfo) string { return a.Host + " " + a.PeerAddress }

// run drives the core until ctx ends, and returns when everything it started is over.
func (l *leaders) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer l.effects.Wait()
	defer close(l.done)
	defer cancel()
	for i := range l.shards {
		l.effects.Go(func() { l.watch(ctx, objectlog.Shard(i)) })
		l.effects.Go(func() { l.tell(ctx, objectlog.Shard(i)) })
	}
	leave := l.leave
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		var e lead.Event = lead.Tick{}
		select {
		case <-ctx.Done():
			return nil
		case <-wake.C:
		case e = <-l.inbox:
		case <-leave:
			e, leave = lead.Drain{}, nil
		}
		for _, f := range l.step(e) {
			l.dispatch(ctx, f)
		}
		if e == (lead.Drain{}) {
			close(l.left)
		}
		if at, ok := l.core.NextWake(); ok {
			wake.Reset(at - l.mono())
		} else {
			wake.Stop()
		}
	}
}

func (l *leaders) mono() time.Duration { return time.Since(l.start) + 1 }

// step steps the core and ends the tenures that are over.
func (l *leaders) step(e lead.Event) []lead.Effect {
	l.mu.Lock()
	defer l.mu.Unlock()
	effects := l.core.Step(l.mono(), e)
	for i := range l.tenures {
		t := &l.tenures[i]
		if boot, epoch := l.core.Leader(objectlog.Shard(i)); boot != t.boot {
			slog.Info("leader", "shard", i, "agent", boot, "epoch", epoch, "before", t.boot)
			close(t.ended)
			time.AfterFunc(tenureGrace, t.end)
			*t = l.newTenure(boot)
		}
	}
	return effects
}

// post hands an event to run.
func (l *leaders) post(ctx context.Context, e lead.Event) {
	select {
	case l.inbox <- e:
	case <-l.done:
	case <-ctx.Done():
	}
}

func (l *leaders) dispatch(ctx context.Context, e lead.Effect) {
	switch e := e.(type) {
	case lead.Ping:
		l.effects.Go(func() { l.ping(ctx, e.Boot) })
	case lead.Tell:
		select {
		case l.tells[e.Shard] <- e.Event:
		case <-ctx.Done():
		}
	case lead.HandOff:
		l.offers.Add(1)
		l.effects.Go(func() {
			defer l.offers.Add(-1)
			l.handOff(ctx, e)
		})
	case lead.Follow:
		if stop := l.streams[e.Shard]; stop != nil {
			stop()
			delete(l.streams, e.Shard)
		}
		if to, ok := l.agent(e.Boot); ok {
			streaming, stop := context.WithCancel(ctx)
			l.streams[e.Shard] = stop
			l.effects.Go(func() { l.follow(streaming, e.Shard, to) })
		}
	}
}

// tell passes events on to a replica, in order.
func (l *leaders) tell(ctx context.Context, s objectlog.Shard) {
	for {
		select {
		case e := <-l.tells[s]:
			_ = l.shards[s].replica.Tell(ctx, e) // in vain only when the replica is at its end too
		case <-ctx.Done():
			return
		}
	}
}

// watch tells the core how the own replica fares. How far it has come is told a few times per lease only.
func (l *leaders) watch(ctx context.Context, s objectlog.Shard) {
	replica := l.shards[s].replica
	var told shardlog.Status
	var at time.Time
	for ctx.Err() == nil {
		changed := replica.Changed()
		now := replica.Status()
		if at.IsZero() || now.Role != told.Role || now.Epoch != told.Epoch || now.Leader != told.Leader || now.Renewed != told.Renewed ||
			now.Applied != told.Applied && time.Since(at) > l.lease/6 {
			told, at = now, time.Now()
			l.post(ctx, lead.Moved{Shard: s, Status: now})
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (l *leaders) agent(boot objectlog.UUID) (AgentInfo, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.agents[boot]
	return a, ok && boot != l.own.Boot
}

// ping greets one agent and tells the core how that went.
func (l *leaders) ping(ctx context.Context, boot objectlog.UUID) {
	to, ok := l.agent(boot)
	if !ok {
		l.post(ctx, lead.Failed{Boot: boot})
		return
	}
	calling, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	began := time.Now()
	answer, err := l.peers.Ping(calling, to.PeerAddress, l.greeting())
	l.meet(boot, answer, err, time.Since(began))
	switch {
	case err == nil && answer.Agent.Boot == boot.String():
		l.heard(ctx, answer, false)
	case err == nil:
		l.heard(ctx, answer, true) // not of the ping under way to that boot, if there is one
		// Whoever meets itself knows nothing of what others meet at that address, as with loopback addresses: unless it has the place of a former run.
		l.post(ctx, lead.Failed{Boot: boot, Gone: answer.Agent.Boot != l.own.Boot.String() || placeOf(to) == l.own.Name})
	default:
		if errors.Is(err, ErrStranger) {
			slog.Warn("greet agent", "agent", boot, "address", to.PeerAddress, "err", err)
		}
		l.post(ctx, lead.Failed{Boot: boot, Refused: errors.Is(err, ErrRefused)})
	}
}

// heard takes another agent's greeting, which answers a ping of this one or comes unasked.
func (l *leaders) heard(ctx context.Context, g Greeting, unasked bool) {
	boot, err := objectlog.ParseUUID(g.Agent.Boot)
	if err != nil || boot == l.own.Boot {
		return
	}
	e := lead.Heard{Peer: lead.Peer{Boot: boot, Name: placeOf(g.Agent)}, Draining: g.Draining, Unasked: unasked, Reports: make([]lead.Report, len(l.shards))}
	for i := range min(len(e.Reports), len(g.Shards)) {
		s := g.Shards[i]
		leader, _ := objectlog.ParseUUID(s.Leader) // empty: zero
		e.Reports[i] = lead.Report{Leads: s.Leads, Epoch: s.Epoch, Leader: leader, Applied: s.Applied, Halted: s.Fault != ""}
	}
	l.mu.Lock()
	l.agents[boot], l.said[boot] = g.Agent, g
	m := l.met[boot]
	m.heard = time.Now()
	l.met[boot] = m
	l.mu.Unlock()
	if !unasked {
		l.post(ctx, e)
		return
	}
	select {
	case l.inbox <- e:
	default: // whoever greets is answered at once; there is a next greeting
	}
}

// listed takes the table's list of agents.
func (l *leaders) listed(ctx context.Context, items []metadata.Item) {
	var e lead.Listed
	there := map[objectlog.UUID]bool{l.own.Boot: true}
	l.mu.Lock()
	for _, item := range items {
		var info AgentInfo
		if json.Unmarshal(item.Value, &info) != nil {
			continue
		}
		boot, err := objectlog.ParseUUID(info.Boot)
		if err != nil || boot == l.own.Boot || info.PeerAddress == "" {
			continue
		}
		l.agents[boot], there[boot] = info, true
		e.Peers = append(e.Peers, lead.Peer{Boot: boot, Name: placeOf(info)})
	}
	for boot := range l.agents {
		if _, ago := l.core.Reached(boot, l.mono()); !there[boot] && ago > sweepEvery {
			delete(l.agents, boot)
			delete(l.said, boot)
			delete(l.met, boot)
		}
	}
	l.mu.Unlock()
	l.post(ctx, e)
}

// handOff lets go of a shard and offers it to another agent. That one hears of it at once instead of watching the lease.
func (l *leaders) handOff(ctx context.Context, e lead.HandOff) {
	err := l.shards[e.Shard].replica.Resign(ctx)
	if to, ok := l.agent(e.To); err == nil && ok {
		if err := l.peers.HandOff(ctx, to, e.Shard, e.Epoch); err != nil {
			slog.Warn("offer shard", "shard", e.Shard, "to", e.To, "err", err) // it finds the lease without a holder a moment later
		}
	}
	l.post(ctx, lead.HandedOff{Shard: e.Shard, Err: err})
}

// drain hands off what this agent leads, and answers when the others have heard of it or ctx has ended. It is called once.
func (l *leaders) drain(ctx context.Context) {
	close(l.leave)
	select {
	case <-l.left:
	case <-l.done:
		return
	}
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	for !l.idle() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
}

// idle: nothing is led here, and nobody waits to hear of it. A hand-off is counted before it lets go.
func (l *leaders) idle() bool {
	for _, s := range l.shards {
		if r := s.replica.Status().Role; r == shardlog.RoleLeading || r == shardlog.RoleClaiming {
			return false
		}
	}
	return l.offers.Load() == 0
}

// leader answers the shard's tenure as it is known now.
func (l *leaders) leader(s objectlog.Shard) (tenure, AgentInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tenures[s]
	return t, l.agents[t.boot]
}

// unreachable says since when the shard's leader can't be asked; ok: it can.
func (l *leaders) unreachable(s objectlog.Shard) (since time.Duration, boot objectlog.UUID, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tenures[s]
	if t.boot.IsZero() {
		return l.mono() - t.since, t.boot, false
	}
	if t.boot == l.own.Boot {
		return 0, t.boot, true
	}
	reached, ago := l.core.Reached(t.boot, l.mono())
	if m := l.met[t.boot]; !m.failing.IsZero() { // it may greet all the while
		ago = max(ago, time.Since(m.failing))
	}
	return min(ago, l.mono()-t.since), t.boot, reached
}

// live answers the agents that are alive as far as is known here.
func (l *leaders) live() map[objectlog.UUID]AgentInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := make(map[objectlog.UUID]AgentInfo)
	for _, p := range l.core.Live() {
		if info, ok := l.agents[p.Boot]; ok {
			live[p.Boot] = info
		}
	}
	return live
}

// anyWell says whether another agent that is alive has not stopped the shard.
func (l *leaders) anyWell(s objectlog.Shard) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.core.Live() {
		if said, ok := l.said[p.Boot]; ok && int(s) < len(said.Shards) && said.Shards[s].Fault == "" {
			return true
		}
	}
	return false
}

// known answers all agents that were listed or heard, in the order of their ordinals.
func (l *leaders) known() []AgentInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.agents), func(a, b AgentInfo) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
}

// last answers what the agent said last, and how long ago; negative: it was never heard.
func (l *leaders) last(boot objectlog.UUID) (Greeting, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, ok := l.said[boot]
	if !ok {
		return Greeting{}, -1
	}
	return g, time.Since(l.met[boot].heard)
}
