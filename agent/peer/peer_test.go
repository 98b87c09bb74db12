package peer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is an agent that answers what a test says.
type fake struct {
	own      agent.Identity
	greet    func(context.Context, agent.Greeting) (agent.Greeting, error)
	propose  func(context.Context, objectlog.Shard, []metadata.Command) (shardlog.Receipt, error)
	stream   func(context.Context, objectlog.Shard, metadata.Seq, func(agent.Signal) error) error
	takeOver func(context.Context, objectlog.Shard, objectlog.UUID, objectlog.Epoch) error
	block    func(context.Context, objectlog.SegmentName, objectlog.Extent) ([]byte, error)
	beat     func(context.Context, groups.Heartbeat, time.Duration) (groups.Assignment, error)
}

var errNotAsked = errors.New("the test does not expect this call")

func (f *fake) Identity() agent.Identity { return f.own }

func (f *fake) Greet(ctx context.Context, from agent.Greeting) (agent.Greeting, error) {
	if f.greet == nil {
		return agent.Greeting{}, errNotAsked
	}
	return f.greet(ctx, from)
}

func (f *fake) ProposeHere(ctx context.Context, s objectlog.Shard, commands []metadata.Command) (shardlog.Receipt, error) {
	if f.propose == nil {
		return shardlog.Receipt{}, errNotAsked
	}
	return f.propose(ctx, s, commands)
}

func (f *fake) Stream(ctx context.Context, s objectlog.Shard, from metadata.Seq, send func(agent.Signal) error) error {
	if f.stream == nil {
		return errNotAsked
	}
	return f.stream(ctx, s, from, send)
}

func (f *fake) TakeOver(ctx context.Context, s objectlog.Shard, holder objectlog.UUID, epoch objectlog.Epoch) error {
	if f.takeOver == nil {
		return errNotAsked
	}
	return f.takeOver(ctx, s, holder, epoch)
}

func (f *fake) HeartbeatHere(ctx context.Context, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error) {
	if f.beat == nil {
		return groups.Assignment{}, errNotAsked
	}
	return f.beat(ctx, h, wait)
}

func (f *fake) Block(ctx context.Context, segment objectlog.SegmentName, extent objectlog.Extent) ([]byte, error) {
	if f.block == nil {
		return nil, errNotAsked
	}
	return f.block(ctx, segment, extent)
}

func uuid(n byte) objectlog.UUID { return objectlog.UUID{6: 0x40, 8: 0x80, 15: n} }

// identity is that of boot n of the tests' cluster.
func identity(n byte) agent.Identity {
	return agent.Identity{Cluster: uuid(100), FormatLevel: 1, Secret: "the secret of cluster 100", Boot: uuid(n)}
}

const (
	callerBoot = 1
	calledBoot = 2
)

// listen opens a listener on loopback that serve is called with; serve ends when it is closed.
func listen(t testing.TB, serve func(net.Listener)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(l)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// start serves the engine and answers its address.
func start(t testing.TB, engine Engine) string {
	return run(t, NewServer(Config{}, engine))
}

func run(t testing.TB, s *http.Server) string {
	t.Helper()
	address := listen(t, func(l net.Listener) {
		if s.TLSConfig != nil {
			_ = s.ServeTLS(l, "", "")
		} else {
			_ = s.Serve(l)
		}
	})
	t.Cleanup(func() { _ = s.Close() })
	return address
}

func connected(t testing.TB, own agent.Identity) *Client {
	c := NewClient(Config{}, own)
	t.Cleanup(c.Close)
	return c
}

// called is the agent at the address, as a caller knows it.
func called(address string) agent.AgentInfo {
	return agent.AgentInfo{Boot: uuid(calledBoot).String(), PeerAddress: address}
}

func greetingOf(n byte) agent.Greeting {
	return agent.Greeting{Agent: agent.AgentInfo{Boot: uuid(n).String()}}
}

// everyCall makes each call once, and answers its error.
func everyCall(ctx context.Context, c *Client, to agent.AgentInfo) map[string]error {
	errs := map[string]error{}
	_, errs["Ping"] = c.Ping(ctx, to.PeerAddress, greetingOf(callerBoot))
	_, errs["Propose"] = c.Propose(ctx, to, 0, []metadata.Command{{Kind: 1, Body: []byte("x")}})
	errs["Follow"] = c.Follow(ctx, to, 0, 0, func(agent.Signal) error { return nil })
	errs["HandOff"] = c.HandOff(ctx, to, 0, 1)
	_, errs["Heartbeat"] = c.Heartbeat(ctx, to, groups.Heartbeat{Group: "g", Member: groups.Member{ID: "m"}}, 0)
	_, errs["ReadBlock"] = c.ReadBlock(ctx, to, objectlog.SegmentName{Boot: uuid(9), Counter: 1}, objectlog.Extent{Next: 4})
	return errs
}

// soon is a context for what is over at once, unless something is wrong.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}
