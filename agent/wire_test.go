package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// wire connects the agents of a test without a network, by their peer addresses.
type wire struct {
	mu     sync.Mutex
	agents map[string]*Agent
	cut    map[string]bool // addresses that swallow calls
	gone   map[objectlog.UUID]bool
}

func newWire() *wire {
	return &wire{agents: map[string]*Agent{}, cut: map[string]bool{}, gone: map[objectlog.UUID]bool{}}
}

// end is an agent's end of the wire.
type end struct {
	w   *wire
	own Identity
}

func (w *wire) dial(own Identity) Peers { return end{w, own} }

// reach answers the agent at an address.
func (e end) reach(ctx context.Context, address string) (*Agent, error) {
	e.w.mu.Lock()
	a, cut := e.w.agents[address], e.w.cut[address] || e.w.gone[e.own.Boot]
	e.w.mu.Unlock()
	switch {
	case cut:
		<-ctx.Done()
		return nil, fmt.Errorf("%w: %w", shardlog.ErrUnknown, ctx.Err())
	case a == nil:
		return nil, ErrRefused
	}
	return a, nil
}

func (e end) meant(ctx context.Context, to AgentInfo) (*Agent, error) {
	a, err := e.reach(ctx, to.PeerAddress)
	if err == nil && a.presence.info.Boot != to.Boot {
		return nil, ErrStranger
	}
	return a, err
}

func (e end) Ping(ctx context.Context, address string, own Greeting) (Greeting, error) {
	a, err := e.reach(ctx, address)
	if err != nil {
		return Greeting{}, err
	}
	return a.Greet(ctx, own)
}

func (e end) Propose(ctx context.Context, to AgentInfo, s objectlog.Shard, commands []metadata.Command) (shardlog.Receipt, error) {
	a, err := e.meant(ctx, to)
	if err != nil {
		return shardlog.Receipt{}, err
	}
	return a.ProposeHere(ctx, s, commands)
}

func (e end) Follow(ctx context.Context, to AgentInfo, s objectlog.Shard, from metadata.Seq, heard func(Signal) error) error {
	a, err := e.meant(ctx, to)
	if err != nil {
		return err
	}
	return a.Stream(ctx, s, from, heard)
}

func (e end) Heartbeat(ctx context.Context, to AgentInfo, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error) {
	a, err := e.meant(ctx, to)
	if err != nil {
		return groups.Assignment{}, err
	}
	return a.HeartbeatHere(ctx, h, wait)
}

func (e end) HandOff(ctx context.Context, to AgentInfo, s objectlog.Shard, epoch objectlog.Epoch) error {
	a, err := e.meant(ctx, to)
	if err != nil {
		return err
	}
	return a.TakeOver(ctx, s, e.own.Boot, epoch)
}

func (e end) ReadBlock(ctx context.Context, to AgentInfo, segment objectlog.SegmentName, extent objectlog.Extent) ([]byte, error) {
	a, err := e.meant(ctx, to)
	if err != nil {
		return nil, err
	}
	return a.Block(ctx, segment, extent)
}

// member is an agent of a cluster of many.
type member struct {
	running
	w     *wire
	place string
	dead  *atomic.Bool
}

// join starts an agent.
func (w *wire) join(t *testing.T, s stores, place string, changes ...func(*Config)) member {
	t.Helper()
	cfg := testConfig()
	cfg.Shards, cfg.ExclusiveTable, cfg.Dial, cfg.PeerAddress, cfg.ClientAddress = 4, false, w.dial, place, place
	for _, change := range changes {
		change(&cfg)
	}
	dead := &atomic.Bool{}
	a, err := Open(t.Context(), cfg, mortalBucket{s.bucket, dead}, mortalTable{s.table, dead})
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.agents[place] = a
	w.mu.Unlock()
	m := member{begin(t, a), w, place, dead}
	eventually(t, 10*time.Second, "agent "+place+" is ready", func() bool { return a.Ready() == nil })
	return m
}

// leave stops the agent gracefully.
func (m member) leave() {
	m.stop()
	m.w.remove(m.place, m.Agent)
}

func (w *wire) remove(name string, a *Agent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.agents[name] == a {
		delete(w.agents, name)
	}
}

// die ends the agent as kill -9 does: from now on its address refuses connections, and its stores never hear of it again.
func (m member) die() {
	m.dead.Store(true)
	m.w.remove(m.place, m.Agent)
	m.w.mu.Lock()
	m.w.gone[m.identity.Boot] = true
	m.w.mu.Unlock()
	m.kill()
}

var errDead = errors.New("sent by a dead process")

// mortalTable and mortalBucket are the stores of one agent, which hear nothing of it any more once it is dead.
type mortalTable struct {
	metadata.Table
	dead *atomic.Bool
}

func (m mortalTable) Put(ctx context.Context, item metadata.Item, cond metadata.If) metadata.PutResult {
	if m.dead.Load() {
		return metadata.PutResult{Err: errDead}
	}
	return m.Table.Put(ctx, item, cond)
}

func (m mortalTable) Delete(ctx context.Context, key metadata.Key, cond metadata.If) metadata.PutResult {
	if m.dead.Load() {
		return metadata.PutResult{Err: errDead}
	}
	return m.Table.Delete(ctx, key, cond)
}

type mortalBucket struct {
	objectlog.Bucket
	dead *atomic.Bool
}

func (m mortalBucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Bucket.Put(ctx, key, body, nonce)
}

// leads answers how many shards the agent leads.
func (r running) leads() int {
	n := 0
	for _, s := range r.shards {
		if s.replica.Status().Role == shardlog.RoleLeading {
			n++
		}
	}
	return n
}

func eventually(t testing.TB, within time.Duration, what string, is func() bool) {
	t.Helper()
	over, poll := time.After(within), time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !is() {
		select {
		case <-over:
			t.Fatalf("not within %s: %s", within, what)
		case <-poll.C:
		}
	}
}
