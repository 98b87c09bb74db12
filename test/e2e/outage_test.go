package e2e

import (
	"errors"
	"flag"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/test/faultproxy"
)

var throttled = flag.Duration("throttled", 10*time.Second, "how long the table asks for fewer requests")

// noticeTimeout is within which an agent must say that it is not ready: it gives a store some retries before.
const noticeTimeout = 15 * time.Second

// frontedStack is an agent on the usual servers with a proxy in front of each.
func frontedStack(t *testing.T) (s stack, bucket, table *faultproxy.Proxy) {
	t.Helper()
	bucket, table = proxied(t, objectsEndpoint(t)), proxied(t, tableEndpoint(t))
	return onServers(bucket.Endpoint, table.Endpoint).init(t), bucket, table
}

// readyz asks the agent whether it is ready, and why not.
func (b *broker) readyz() (ready bool, reason string, err error) {
	c := http.Client{Timeout: 2 * time.Second}
	r, err := c.Get("http://" + b.address + "/readyz")
	if err != nil {
		return false, "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return r.StatusCode == http.StatusOK, strings.TrimSpace(string(text)), err
}

// awaitReadyz asks until the agent says what is wanted, with one of the words if there are any. It answers how long that took and what it
// said.
func (b *broker) awaitReadyz(within time.Duration, want bool, words ...string) (took time.Duration, reason string) {
	b.t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ready, reason, err := b.readyz()
		if err == nil && ready == want && (len(words) == 0 || containsAny(reason, words)) {
			return time.Since(began), reason
		}
		if <-tick.C; time.Since(began) > within {
			b.t.Fatalf("after %s: ready %t because %q (%v), want %t and one of %q", within, ready, reason, err, want, words)
		}
	}
}

func containsAny(text string, words []string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// outage is what a store, or both, do for a time.
type outage struct {
	name          string
	bucket, table []faultproxy.Rule
	cut           []string      // of "bucket" and "table"
	lasts         time.Duration // at least; until the agent has noticed, if that takes longer
	says          []string      // one of them is the reason why the agent is not ready; none: nobody waits until it notices
}

func TestAgentOutlivesTheOutageOfAStore(t *testing.T) {
	t.Parallel()
	const short = 5 * time.Second
	answers := func(code string) []faultproxy.Rule { return []faultproxy.Rule{answering(code)} }
	page := []faultproxy.Rule{{Action: faultproxy.Action{Do: faultproxy.HTML}}}
	away := []string{"connection refused", "reset by peer", "EOF"}
	for _, o := range []outage{
		// The request that hangs is given 8 s, and nothing says sooner that it does.
		{name: "bucket hangs", bucket: []faultproxy.Rule{blackhole("")}, lasts: short},
		{name: "table throttles", table: answers("ThrottlingException"), lasts: *throttled, says: []string{"ThrottlingException"}},
		{name: "bucket throttles", bucket: answers("SlowDown"), lasts: short, says: []string{"SlowDown"}},
		{name: "credentials expire", bucket: answers("ExpiredToken"), table: answers("ExpiredTokenException"), lasts: short, says: []string{"ExpiredToken"}},
		{name: "credentials for the bucket expire", bucket: answers("ExpiredToken"), lasts: short, says: []string{"ExpiredToken"}},
		{name: "table is away", cut: []string{"table"}, lasts: short, says: away},
		{name: "bucket is away", cut: []string{"bucket"}, lasts: short, says: away},
		{name: "both are away", cut: []string{"bucket", "table"}, lasts: short, says: away},
		{name: "table hangs", table: []faultproxy.Rule{blackhole("")}, lasts: short, says: []string{"no answer"}},
		{name: "a login page before both", bucket: page, table: page, lasts: short, says: []string{"not DynamoDB's", "not an S3 endpoint"}},
	} {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			o.outlive(t)
		})
	}
}

func (o outage) outlive(t *testing.T) {
	s, bucket, table := frontedStack(t)
	proxies := map[string]*faultproxy.Proxy{"bucket": bucket, "table": table}
	b := s.start(t, freeAddress(t))
	l := startLoad(t, b, 2_000)
	l.awaitAck(startTimeout)

	over := time.After(o.lasts)
	if err := errors.Join(bucket.SetRules(o.bucket...), table.SetRules(o.table...)); err != nil {
		t.Fatal(err)
	}
	for _, name := range o.cut {
		proxies[name].Cut()
	}
	if len(o.says) > 0 {
		took, reason := b.awaitReadyz(noticeTimeout, false, o.says...)
		t.Logf("not ready after %s: %s", took.Round(time.Millisecond), reason)
	}
	<-over
	for _, p := range proxies {
		p.SetRules()
		p.Mend()
	}
	acked := l.awaitAck(afterKill)
	ready, _ := b.awaitReadyz(afterKill, true)
	t.Logf("when it was over: first acknowledgement after %s, ready after %s more", acked.Round(time.Millisecond), ready.Round(time.Millisecond))
	l.finish(b)
}
