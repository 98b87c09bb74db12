package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
)

const several = 3

// startSeveral starts agents of a cluster, and a load balancer before them, which is spoken to like a broker.
func (s stack) startSeveral(t *testing.T) (agents []*broker, balancer *broker) {
	t.Helper()
	localstacktest.Installed(t, localstack.HAProxy)
	var addresses []string
	for range several {
		agents = append(agents, s.another(t).start(t, ""))
		addresses = append(addresses, agents[len(agents)-1].address)
	}
	return agents, balance(t, addresses)
}

// another is the stack for one more agent, which other agents reach at an address of its own and a load balancer has time to leave.
func (s stack) another(t *testing.T) stack {
	t.Helper()
	s.settings = append(slices.Clone(s.settings), "--peer-listen", freeAddress(t), "--stop-delay", "1s")
	return s
}

func balance(t *testing.T, addresses []string) *broker {
	t.Helper()
	before := localstacktest.Start(t, localstack.Config{Engine: localstack.HAProxy, Folder: t.TempDir(), Agents: addresses})
	b := &broker{t: t, address: strings.TrimPrefix(before.Endpoint, "http://")}
	b.awaitReadyz(startTimeout, true)
	return b
}

func TestQuickStartLosesNothingWhenAnyAgentIsKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := runBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 2 {
		t.Fatalf("README.md has %d blocks marked to be run, want those with curl and with the command line", len(blocks))
	}
	for victim := range several {
		t.Run(fmt.Sprintf("agent %d", victim), func(t *testing.T) {
			t.Parallel()
			agents, balancer := realStack(t).startSeveral(t)
			// The agent dies when the records are written and before they are read, in the first block; it is away in the second.
			before, after, ok := strings.Cut(blocks[0][1], "LogService/Fetch")
			cut := strings.LastIndex(before, "\n") + 1
			if !ok || cut == 0 {
				t.Fatalf("the block does not write and then read:\n%s", blocks[0][1])
			}
			// It is gone when its process is: until then it may take a call, and never answer.
			kill := fmt.Sprintf("kill -9 %[1]d\nwhile kill -0 %[1]d 2>/dev/null; do :; done\n", agents[victim].cmd.Process.Pid)
			folder := t.TempDir()
			for _, block := range []string{before[:cut] + kill + before[cut:] + "LogService/Fetch" + after, blocks[1][1]} {
				out := runShell(t, balancer, folder, block)
				for _, scorer := range []string{"Messi", "Kane", "Mbappé"} {
					if !strings.Contains(out, scorer) {
						t.Errorf("the block\n%s\nprinted no %s:\n%s", block, scorer, out)
					}
				}
				if strings.Contains(out, `"error"`) || strings.Contains(out, `"code"`) {
					t.Errorf("the block\n%s\nprinted an error:\n%s", block, out)
				}
			}
			if err := agents[victim].wait(time.Second); err == nil {
				t.Error("the agent was not killed")
			}
			for i, a := range agents {
				if i == victim {
					continue
				}
				for _, topic := range []string{"matches", "goals"} {
					if got := offsetsOf(t, a, topic); fmt.Sprint(got) != "[1 1 1]" {
						t.Errorf("through agent %d, next offsets of %s are %v, want a record on each of three partitions", i, topic, got)
					}
				}
			}
		})
	}
}

func TestRollingRestartUnderLoadFailsNoCall(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	agents, balancer := s.startSeveral(t)
	l := startLoad(t, balancer, 1_000)
	balancer.mustRun(nil, "topic", "create", "strict", "--partitions", "128") // both shards
	var calls atomic.Int64
	stopped := make(chan struct{})
	var callers sync.WaitGroup
	for _, partition := range []int{0, 100} {
		callers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stopped:
					return
				case <-time.After(10 * time.Millisecond):
				}
				status, answer, err := balancer.call("LogService/Produce", fmt.Sprintf(
					`{"batches":[{"topic":"strict","partition":%d,"expectedNextOffset":"%d","records":{"records":[{"value":{"text":"x"}}]}}]}`, partition, n))
				if text, _ := json.Marshal(answer); err != nil || status != 200 || strings.Contains(string(text), `"error"`) {
					t.Errorf("call %d to partition %d: status %d, %s, %v", n, partition, status, text, err)
					return
				}
				calls.Add(1)
			}
		})
	}
	for i, a := range agents {
		a.stop()
		agents[i] = a.stack.start(t, a.address)
		balancer.awaitAgents(several)
	}
	close(stopped)
	callers.Wait()
	t.Logf("%d calls and %d appends during %d restarts", calls.Load(), l.acks.Load(), several)
	l.finish(balancer)
	for _, a := range agents {
		l.check(a)
	}
}

// agentsShown is what is looked at of cluster status.
type agentsShown struct {
	Agents   []struct{ State string }
	Problems []struct{ What, Do string }
}

func (b *broker) clusterStatus() (shown agentsShown) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.mustRun(nil, "cluster", "status", "-o", "json")), &shown); err != nil {
		b.t.Fatal(err)
	}
	return shown
}

// awaitStatus asks for the cluster's status until it is as wanted.
func (b *broker) awaitStatus(within time.Duration, want string, is func(agentsShown) bool) agentsShown {
	b.t.Helper()
	tick, late := time.NewTicker(100*time.Millisecond), time.After(within)
	defer tick.Stop()
	for {
		shown := b.clusterStatus()
		if is(shown) {
			return shown
		}
		select {
		case <-tick.C:
		case <-late:
			b.t.Fatalf("after %s: %+v, want %s", within, shown, want)
		}
	}
}

// awaitAgents waits until so many agents are ready and every shard has a leader.
func (b *broker) awaitAgents(n int) {
	b.t.Helper()
	b.awaitStatus(startTimeout, fmt.Sprintf("%d agents ready and no problem", n), func(shown agentsShown) bool {
		ready := 0
		for _, a := range shown.Agents {
			if a.State == "ready" {
				ready++
			}
		}
		return ready == n && len(shown.Problems) == 0
	})
}

func TestSecondAgentOfOnePeerAddressIsRefused(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	peer := freeAddress(t)
	first := s.start(t, "", "--peer-listen", peer)
	r := runBinary(t, nil, append(s.another(t).command(), "--advertise-peer", peer)...)
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	if said := lines[len(lines)-1]; r.code != 1 || !strings.HasPrefix(said, "splashdam: ") {
		t.Errorf("exit %d, want 1 and a line that says why: %s", r.code, r.stderr)
	} else {
		says(t, said, "advertised peer address "+peer, "answers there", "give each agent an --advertise-peer of its own")
	}
	// What was refused has spoilt nothing.
	first.mustRun(strings.NewReader("hello\n"), "produce", "greetings")
	if got := first.mustRun(nil, "consume", "greetings"); got != "hello\n" {
		t.Errorf("consumed %q", got)
	}
	first.stop()
}

// spoilt stands in front of an agent's address for other agents, and turns bad when it is told to.
type spoilt struct {
	net.Listener
	target string
	manner atomic.Pointer[string] // nil: it does its work

	mu    sync.Mutex
	conns []net.Conn // under mu
}

// The manners, and how many records are written to an agent that has them.
const (
	garbage     = "garbage"
	halfMessage = "half a message"
	silence     = "silence"
	orders      = 20
)

func newSpoilt(t *testing.T, target string) *spoilt {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &spoilt{Listener: l, target: target}
	t.Cleanup(func() { l.Close(); p.drop() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.keep(c)
			go p.serve(c)
		}
	}()
	return p
}

func (p *spoilt) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
}

// drop ends all connections.
func (p *spoilt) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// turn makes it bad, for connections that exist and for new ones. One that falls silent leaves those that exist open.
func (p *spoilt) turn(manner string) {
	p.manner.Store(&manner)
	if manner != silence {
		p.drop()
	}
}

func (p *spoilt) serve(c net.Conn) {
	if manner := p.manner.Load(); manner != nil && *manner == garbage {
		c.Write([]byte(strings.Repeat("\x00\xffgarbage\r\n", 100)))
		c.Close()
		return
	}
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		c.Close()
		return
	}
	p.keep(up)
	go p.pass(up, c, false)
	p.pass(c, up, true)
}

// pass passes on what comes, as its manner is; answers are what it spoils.
func (p *spoilt) pass(to, from net.Conn, answers bool) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		manner := p.manner.Load()
		switch {
		case manner != nil && *manner == silence:
			n = 0
		case manner != nil && answers && n > 60: // the frames that begin a connection are shorter
			to.Write(buffer[:n/2])
			return
		}
		if _, wrong := to.Write(buffer[:n]); err != nil || wrong != nil {
			return
		}
	}
}

// afterTurn is how long a write may take: agents wait two leases before they say that they are not ready, and machines are busy.
const afterTurn = 30 * time.Second

// appendUntilDone appends where the log must end. What no agent decides soon is asked for again: a mismatch that shows the next offset means
// that the record is in.
func (b *broker) appendUntilDone(topic string, partition int, line string, at int, within time.Duration) error {
	for unknown, late := false, time.Now().Add(within); ; {
		err := b.appendWithin(auditTimeout, topic, partition, "", line, at)
		if err == nil || unknown && err.actual == fmt.Sprint(at+1) {
			return nil
		}
		if unknown = unknown || err.unknown(); err.actual != "" || time.Now().After(late) {
			return fmt.Errorf("%w (outcome of earlier attempts unknown: %t)", err, unknown)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestAgentThatAnswersOthersBadlyDoesNotStopTheCluster(t *testing.T) {
	t.Parallel()
	for _, manner := range []string{garbage, halfMessage, silence} {
		t.Run(manner, func(t *testing.T) {
			t.Parallel()
			localstacktest.Installed(t, localstack.HAProxy)
			s := realStack(t)
			peer := freeAddress(t)
			proxy := newSpoilt(t, peer)
			bad := s.another(t).start(t, "", "--peer-listen", peer, "--advertise-peer", proxy.Addr().String()) // leads everything
			addresses, good := []string{bad.address}, []*broker{}
			for range several - 1 {
				good = append(good, s.another(t).start(t, ""))
				addresses = append(addresses, good[len(good)-1].address)
			}
			balancer := balance(t, addresses)
			balancer.awaitAgents(several)
			balancer.mustRun(nil, "topic", "create", "orders", "--partitions", "128") // both shards
			proxy.turn(manner)
			turned := time.Now()
			for n := range orders {
				began := time.Now()
				if err := balancer.appendUntilDone("orders", n%2*100, fmt.Sprintf("order %d", n), n/2, afterTurn); err != nil {
					t.Errorf("order %d, %s after the turn: %v", n, time.Since(turned).Round(time.Millisecond), err)
				} else if took := time.Since(began); took > time.Second {
					t.Logf("order %d was written after %s", n, took.Round(time.Millisecond))
				}
			}
			shown := balancer.awaitStatus(startTimeout, "a sentence about "+proxy.Addr().String(), func(shown agentsShown) bool {
				for _, one := range shown.Problems {
					if (strings.Contains(one.What, proxy.Addr().String()) || strings.Contains(one.What, "can't be reached")) && one.Do != "" {
						return true
					}
				}
				return false
			})
			t.Logf("after %s: %+v", time.Since(turned).Round(time.Millisecond), shown.Problems)
			out := balancer.mustRun(nil, "consume", "orders", "--from", "earliest")
			for n := range orders {
				if times := strings.Count("\n"+out, fmt.Sprintf("\norder %d\n", n)); times != 1 {
					t.Errorf("order %d is there %d times", n, times)
				}
			}
		})
	}
}
