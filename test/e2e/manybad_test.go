package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splashdam/splashdam/test/faultproxy"
)

// beside starts another agent of the stack.
func (s stack) beside(t *testing.T, args ...string) *broker {
	t.Helper()
	return s.start(t, "", append([]string{"--peer-listen", freeAddress(t)}, args...)...)
}

// awaitShown asks for the cluster's status until it shows all of the words, and answers what it says is wrong.
func (b *broker) awaitShown(within time.Duration, words ...string) string {
	b.t.Helper()
	began, tick := time.Now(), time.NewTicker(200*time.Millisecond)
	defer tick.Stop()
	for {
		r := b.run(nil, "cluster", "status")
		shown := r.stdout + r.stderr
		missing := ""
		for _, w := range words {
			if !strings.Contains(shown, w) {
				missing = w
			}
		}
		if missing == "" {
			parts := strings.Split(strings.TrimSpace(shown), "\n\n")
			wrong := parts[len(parts)-1]
			b.t.Logf("after %s the status says:\n%s", time.Since(began).Round(time.Millisecond), wrong)
			return wrong
		}
		if <-tick.C; time.Since(began) > within {
			b.t.Fatalf("for %s the status shows no %q:\n%s", within, missing, shown)
		}
	}
}

// shownTimeout is within which a fault must be in the status: a lease, some pings, and a busy machine.
const shownTimeout = 40 * time.Second

const nothingWrong = "Nothing is wrong."

// bootOf is the agent's own, in the short form of the status.
func (b *broker) bootOf() string {
	b.t.Helper()
	_, answer, err := b.call("ClusterService/GetCluster", "{}")
	if err != nil {
		b.t.Fatal(err)
	}
	boot, _ := answer["answeredBy"].(string)
	return boot[:min(8, len(boot))]
}

// shardShown is what is looked at of a shard.
type shardShown struct {
	Leader string
	Epoch  int64
}

func (b *broker) shards() []shardShown {
	b.t.Helper()
	var shown struct{ Shards []shardShown }
	if err := json.Unmarshal([]byte(b.mustRun(nil, "cluster", "status", "-o", "json")), &shown); err != nil {
		b.t.Fatal(err)
	}
	return shown.Shards
}

func TestAgentThatTookTheAddressOfOneThatIsStartedAgainStops(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	peer := freeAddress(t)
	first := s.beside(t, "--peer-listen", peer)
	l := startLoad(t, s.beside(t), 1_000)
	first.stop()
	wrong := s.launch(t, "", "--peer-listen", freeAddress(t), "--advertise-peer", peer)
	<-wrong.greeted // it can't know better
	first = s.start(t, "", "--peer-listen", peer)
	if err := wrong.wait(startTimeout); err == nil {
		t.Error("it ended without an error")
	}
	lines := strings.Split(strings.TrimSpace(wrong.stderr.String()), "\n")
	t.Log(lines[len(lines)-1])
	says(t, lines[len(lines)-1], "run agent: advertised peer address "+peer, "agent "+first.bootOf(), "answers there", "--advertise-peer of its own")
	l.b.awaitShown(shownTimeout, nothingWrong)
	l.finish(first)
}

func TestTableThatThrottlesForLongMovesNoLeaderAndLosesNothing(t *testing.T) {
	t.Parallel()
	s, _, table := frontedStack(t)
	agents := []*broker{s.beside(t), s.beside(t), s.beside(t)}
	agents[0].awaitShown(startTimeout, nothingWrong)
	l := startLoad(t, agents[0], 500)
	l.awaitAck(startTimeout)
	before := agents[0].shards()
	over := time.After(2 * *throttled)
	if err := table.SetRules(answering("ThrottlingException")); err != nil {
		t.Fatal(err)
	}
	for _, b := range agents {
		_, reason := b.awaitReadyz(noticeTimeout, false, "ThrottlingException")
		t.Log(reason)
		b.awaitShown(shownTimeout, "Agent "+b.bootOf()+" is not ready", "ThrottlingException")
	}
	<-over
	table.SetRules()
	acked := l.awaitAck(startTimeout)
	for _, b := range agents {
		b.awaitReadyz(startTimeout, true)
	}
	after := agents[0].shards()
	t.Logf("first acknowledgement %s behind the end; shards before %v, after %v", acked.Round(time.Millisecond), before, after)
	for i := range before {
		if after[i].Epoch > before[i].Epoch+1 {
			t.Errorf("shard %d: epoch %d before, %d after: leaders changed more than once", i, before[i].Epoch, after[i].Epoch)
		}
	}
	l.finish(agents[1])
}

// detour forwards connections to whatever its target is.
type detour struct {
	net.Listener

	mu     sync.Mutex
	target string              // under mu
	conns  map[net.Conn]string // under mu; with the target of each
}

func newDetour(t *testing.T, target string) *detour {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &detour{Listener: l, target: target, conns: map[net.Conn]string{}}
	t.Cleanup(func() { l.Close(); d.lead("") })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go d.forward(from)
		}
	}()
	return d
}

func (d *detour) address() string { return d.Addr().String() }

// lead changes the target and ends the connections to the one before.
func (d *detour) lead(target string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.target = target
	for c, to := range d.conns {
		if to != target {
			c.Close()
			delete(d.conns, c)
		}
	}
}

func (d *detour) forward(from net.Conn) {
	defer from.Close()
	d.mu.Lock()
	target := d.target
	d.mu.Unlock()
	to, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer to.Close()
	d.mu.Lock()
	if d.target != target {
		d.mu.Unlock()
		return
	}
	d.conns[from], d.conns[to] = target, target
	d.mu.Unlock()
	go func() {
		io.Copy(to, from)
		to.Close()
	}()
	io.Copy(from, to)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, from)
	delete(d.conns, to)
}

// answeringConns is a server that does the same to each connection.
func answeringConns(t *testing.T, do func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				do(c)
			}()
		}
	}()
	return l.Addr().String()
}

func TestAddressThatLeadsElsewhereIsShownWithWhatWasMetThere(t *testing.T) {
	t.Parallel()
	s, other := realStack(t), realStack(t)
	foreign := freeAddress(t)
	other.start(t, "", "--peer-listen", foreign)
	peer := freeAddress(t)
	way := newDetour(t, peer)
	good := s.beside(t)
	bad := s.start(t, "", "--peer-listen", peer, "--advertise-peer", way.address())
	l := startLoad(t, bad, 500) // it reaches the other one
	for _, c := range []struct{ name, target, says string }{
		{"another cluster", foreign, "belongs to cluster"},
		{"garbage", answeringConns(t, func(c net.Conn) {
			io.WriteString(c, strings.Repeat("\xff\x00garbage\r\n", 100))
			io.Copy(io.Discard, c)
		}), "not a Splashdam agent"},
		{"half a message", answeringConns(t, func(c net.Conn) {
			c.Read(make([]byte, 1024))
			c.Write([]byte("\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03")) // settings, cut off
		}), "broke before an answer"},
		{"never an answer", answeringConns(t, func(c net.Conn) { io.Copy(io.Discard, c) }), "no answer in time"},
	} {
		way.lead(c.target)
		t.Log(c.name)
		good.awaitShown(shownTimeout, "Agent "+bad.bootOf()+" at "+way.address(), c.says, "--advertise-peer")
		l.awaitAck(startTimeout)
	}
	way.lead(peer)
	good.awaitShown(shownTimeout, nothingWrong)
	l.finish(good)
}

// doubling stands in front of agents as a balancer does that sends a POST again to another agent: each is sent to both, one after the other or at
// once, and answered as the second one answers. It speaks HTTP/1.1.
func doubling(t *testing.T, agents [2]*broker) (address string, sent *atomic.Int64) {
	t.Helper()
	sent = &atomic.Int64{}
	pass := func(r *http.Request, body []byte, to *broker) (*http.Response, []byte, error) {
		again := r.Clone(context.WithoutCancel(r.Context()))
		again.URL.Scheme, again.URL.Host, again.RequestURI, again.Body = "http", to.address, "", io.NopCloser(bytes.NewReader(body))
		answer, err := http.DefaultTransport.RoundTrip(again)
		if err != nil {
			return nil, nil, err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return answer, text, err
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		n, first := int64(0), make(chan struct{})
		if strings.HasSuffix(r.URL.Path, "/Produce") {
			n = sent.Add(1)
		}
		go func() {
			defer close(first)
			if r.Method == http.MethodPost {
				pass(r, body, agents[n%2])
			}
		}()
		if n%4 < 2 {
			<-first
		}
		answer, text, err := pass(r, body, agents[(n+1)%2])
		if <-first; err != nil {
			panic(http.ErrAbortHandler)
		}
		for name, values := range answer.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.StatusCode)
		w.Write(text)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), sent
}

func TestPostThatABalancerSendsTwiceTakesEffectOnce(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	agents := [2]*broker{s.beside(t), s.beside(t)}
	agents[0].awaitShown(startTimeout, nothingWrong)
	agents[0].mustRun(nil, "topic", "create", "matches", "--partitions", fmt.Sprint(feedPartitions))
	address, sent := doubling(t, agents)
	before := &broker{t: t, address: address}
	l := newLedger(4)
	pr, pw := io.Pipe()
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range 200 {
			<-tick.C
			if _, err := io.Copy(pw, l.lines(20)); err != nil {
				return
			}
		}
		pw.Close()
	}()
	before.mustRun(pr, "produce", "matches", "--key-field", "match")
	if sent.Load() < 20 {
		t.Errorf("only %d requests were sent twice", sent.Load())
	}
	t.Logf("%d requests were sent twice", sent.Load())
	for _, b := range agents {
		l.check(t, b, "matches")
	}
	agents[0].awaitShown(startTimeout, nothingWrong)
}

func TestAgentThatIsCutOffFromAStoreSaysSoAndSoDoOthers(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	bucket, table := proxied(t, objectsEndpoint(t)), proxied(t, tableEndpoint(t))
	whole := s.beside(t)
	part := s.with(objectsEndpoint(t), bucket.Endpoint).with(tableEndpoint(t), table.Endpoint).beside(t)
	whole.awaitShown(startTimeout, nothingWrong)
	l := startLoad(t, part, 500)
	whole.mustRun(nil, "topic", "create", "steady", "--partitions", "128") // both shards
	for i, c := range []struct {
		name  string
		proxy *faultproxy.Proxy
		says  string
	}{{"table", table, "table"}, {"bucket", bucket, "segments cannot be stored"}} {
		t.Log(c.name)
		c.proxy.Cut()
		_, reason := part.awaitReadyz(shownTimeout, false, c.says)
		t.Log("its own readyz: " + reason)
		whole.awaitShown(shownTimeout, "Agent "+part.bootOf()+" is not ready", c.says)
		for _, p := range []int{0, 100} {
			if err := whole.appendOver("steady", p, "k", "v", i); err != nil { // whoever led
				t.Error(err)
			}
		}
		c.proxy.Mend()
		part.awaitReadyz(startTimeout, true)
		whole.awaitShown(startTimeout, nothingWrong)
	}
	l.finish(whole)
}

func TestAgentsThatAreCutOffFromEachOtherSaySo(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	var agents []*broker
	var ways []*detour
	var peers []string
	for range 2 {
		peer := freeAddress(t)
		way := newDetour(t, peer)
		agents = append(agents, s.start(t, "", "--peer-listen", peer, "--advertise-peer", way.address()))
		ways, peers = append(ways, way), append(peers, peer)
	}
	agents[0].awaitShown(startTimeout, nothingWrong)
	l := startLoad(t, agents[0], 500)
	for _, way := range ways {
		way.lead("127.0.0.1:1")
	}
	for i, b := range agents {
		b.awaitShown(shownTimeout, "Agent "+agents[1-i].bootOf()+" at "+ways[1-i].address()+" was last heard", "broke before an answer", "the network between the two")
	}
	for i, b := range agents { // each leads on, and one that has to ask the other one is not ready
		other := agents[1-i].bootOf()
		if slices.ContainsFunc(b.shards(), func(s shardShown) bool { return strings.HasPrefix(s.Leader, other) }) {
			_, reason := b.awaitReadyz(shownTimeout, false, "can't be reached")
			t.Log("its own readyz: " + reason)
		}
	}
	for i, way := range ways {
		way.lead(peers[i])
	}
	agents[0].awaitShown(startTimeout, nothingWrong)
	l.finish(agents[1])
}

func TestBucketThatRefusesOnePutInTwentyFailsNoCall(t *testing.T) {
	t.Parallel()
	s, bucket, _ := frontedStack(t)
	agents := []*broker{s.beside(t), s.beside(t)}
	agents[0].awaitShown(startTimeout, nothingWrong)
	refused := func(place int, code string) faultproxy.Rule {
		return faultproxy.Rule{Match: faultproxy.Match{Kind: "put", Every: place}, Action: faultproxy.Action{Do: faultproxy.Status, Error: code}}
	}
	if err := bucket.SetRules(refused(20, "InternalError"), refused(21, "SlowDown"), refused(22, "AccessDenied")); err != nil {
		t.Fatal(err)
	}
	l := startLoad(t, agents[1], 1_000)
	agents[0].mustRun(nil, "topic", "create", "strict", "--partitions", "128") // both shards
	began := time.Now()
	for n := range 120 {
		if err := agents[n%2].appendOver("strict", n/2%2*100, "k", "v", n/4*2+n%2); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("120 appends took %s", time.Since(began).Round(time.Millisecond))
	l.awaitAck(startTimeout)
	agents[0].awaitShown(shownTimeout, nothingWrong)
	l.finish(agents[0])
}
