package faults

import (
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/test/faultproxy"
)

// recoveryMax is within which every partition takes records again once the fault is over (I8).
const recoveryMax = 10 * time.Second

// fault is what happens to the stores of one history.
type fault struct {
	name          string
	bucket, table []faultproxy.Rule
	clients       []faultproxy.Rule // between clients and agent
	cut           []string          // "bucket", "table": no connection at all
	releaseEvery  time.Duration     // what is held lands so late; 0: when the fault is over
	kill          bool              // kill -9 in the middle
}

// all does an action to every request, some to a part of them.
func all(kind, key string, a faultproxy.Action) faultproxy.Rule {
	return faultproxy.Rule{Match: faultproxy.Match{Kind: kind, KeyContains: key}, Action: a}
}

func some(probability float64, kind, key string, a faultproxy.Action) faultproxy.Rule {
	return faultproxy.Rule{Match: faultproxy.Match{Kind: kind, KeyContains: key, Probability: probability}, Action: a}
}

func every(n int, kind, key string, a faultproxy.Action) faultproxy.Rule {
	return faultproxy.Rule{Match: faultproxy.Match{Kind: kind, KeyContains: key, Every: n}, Action: a}
}

func list(rules ...faultproxy.Rule) []faultproxy.Rule { return rules }

func status(code string) faultproxy.Action {
	return faultproxy.Action{Do: faultproxy.Status, Error: code}
}

func landed(code string) faultproxy.Action {
	return faultproxy.Action{Do: faultproxy.Status, Error: code, Forwarded: true}
}

var (
	dropReply  = faultproxy.Action{Do: faultproxy.DropReply}
	dropBefore = faultproxy.Action{Do: faultproxy.DropBefore}
	blackhole  = faultproxy.Action{Do: faultproxy.Blackhole}
	hold       = faultproxy.Action{Do: faultproxy.Hold}
	twice      = faultproxy.Action{Do: faultproxy.Twice}
	html       = faultproxy.Action{Do: faultproxy.HTML}
	truncate   = faultproxy.Action{Do: faultproxy.Truncate}
)

// faults is the matrix, by the numbers of the faults there.
func faults() []fault {
	slow := list(all("", "", faultproxy.Action{BytesPerSecond: 125_000}))
	jitter := list(all("", "", faultproxy.Action{DelayMillis: 50, JitterMillis: 1950}))
	loss := list(some(0.05, "", "", dropBefore), some(0.05, "", "", dropReply))
	return []fault{
		{name: "F01 none"},
		{name: "F02 kill -9", kill: true},
		{name: "F06 table, answers lost", table: list(all("", "", dropReply))},
		{name: "F06 table, answers lost, kill -9", table: list(all("", "", dropReply)), kill: true},
		{name: "F06 table, both ways", cut: []string{"table"}},
		{name: "F06 table, both ways, kill -9", cut: []string{"table"}, kill: true},
		{name: "F06 table, both ways, silent", table: list(all("", "", blackhole))},
		{name: "F07 bucket, answers lost", bucket: list(all("", "", dropReply))},
		{name: "F07 bucket, both ways", cut: []string{"bucket"}},
		{name: "F07 bucket, both ways, kill -9", cut: []string{"bucket"}, kill: true},
		{name: "F07 bucket, both ways, silent", bucket: list(all("", "", blackhole))},
		{name: "F08 clients, answers lost", clients: list(some(0.5, "", "", dropReply))},
		{name: "F08 clients, requests lost", clients: list(some(0.5, "", "", dropBefore))},
		{name: "F08 clients, requests land late", clients: list(some(0.05, "", "Produce", hold)), releaseEvery: 300 * time.Millisecond},
		{name: "F08 clients, answers lost, kill -9", clients: list(some(0.3, "", "", dropReply)), kill: true},
		{name: "F08 clients, a login page", clients: list(some(0.3, "", "", html), some(0.1, "", "", truncate))},
		{name: "F09 both stores, both ways", cut: []string{"bucket", "table"}},
		{name: "F10 one connection in ten is lost", bucket: loss, table: loss},
		{name: "F11 1 Mbit/s", bucket: slow, table: slow},
		{name: "F12 50 ms to 2 s", bucket: jitter, table: jitter},
		{name: "F13 applied, answer lost", bucket: list(every(3, "put", "", dropReply)), table: list(every(3, "PutItem", "", dropReply))},
		{name: "F13 applied, answer lost, kill -9", bucket: list(every(3, "put", "", dropReply)), table: list(every(3, "PutItem", "", dropReply)), kill: true},
		{name: "F14 entries land late, past laps", table: list(some(0.2, "PutItem", "ring#", hold))},
		{name: "F14 entries land late, past a kill -9", table: list(some(0.2, "PutItem", "ring#", hold)), kill: true},
		{name: "F14 entries land soon after the next", table: list(some(0.3, "PutItem", "ring#", hold)), releaseEvery: 100 * time.Millisecond},
		{name: "F14 leases land late", table: list(some(0.5, "PutItem", "shard#", hold)), releaseEvery: 500 * time.Millisecond},
		{name: "F15 delivered twice", bucket: list(every(2, "", "", twice)), table: list(every(2, "", "", twice))},
		{name: "F16 500", bucket: list(some(0.7, "", "", status("InternalError"))), table: list(some(0.7, "", "", status("InternalServerError")))},
		{name: "F16 500, landed", bucket: list(some(0.5, "", "", landed("InternalError"))), table: list(some(0.5, "", "", landed("InternalServerError")))},
		{name: "F16 503", bucket: list(some(0.7, "", "", status("SlowDown"))), table: list(some(0.7, "", "", status("ServiceUnavailable")))},
		{name: "F16 throttling", bucket: list(all("", "", status("SlowDown"))), table: list(some(0.8, "", "", status("ThrottlingException")))},
		{name: "F16 throughput exceeded, kill -9", table: list(some(0.5, "", "", status("ProvisionedThroughputExceededException"))), kill: true},
		{name: "F16 a login page", bucket: list(some(0.5, "", "", html)), table: list(some(0.5, "", "", html))},
		{name: "F17 stored, answer lost", bucket: list(some(0.5, "put", "", dropReply))},
		{name: "F17 stored late", bucket: list(some(0.4, "put", "", hold)), releaseEvery: 300 * time.Millisecond},
		{name: "F17 stored late, past a kill -9", bucket: list(some(0.4, "put", "", hold)), kill: true},
		{name: "F17 409", bucket: list(some(0.5, "put", "", status("ConditionalRequestConflict")))},
		{name: "F17 412 though absent", bucket: list(some(0.5, "put", "", status("PreconditionFailed")))},
		{name: "F17 412 and stored", bucket: list(some(0.5, "put", "", landed("PreconditionFailed")))},
		{name: "F17 condition failed though it holds", table: list(some(0.3, "PutItem", "", status("ConditionalCheckFailedException")))},
		{name: "F18 answers cut short", bucket: list(some(0.5, "", "", truncate)), table: list(some(0.3, "", "", truncate))},
		{name: "F18 one bit of an object is wrong", bucket: list(some(0.5, "get", "", faultproxy.Action{Do: faultproxy.FlipBit})), kill: true},
	}
}

func TestAcknowledgedRecordsSurviveTheFaultsOfStores(t *testing.T) {
	t.Parallel()
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.play(t)
		})
	}
}

func (f fault) play(t *testing.T) {
	c := newCluster(t, slots)
	a := c.newInstance(t)
	a.start()
	a.awaitReady()
	l := f.startLoad(t, c, a)
	l.awaitAcks(100)

	c.setRules(t, f.bucket, f.table)
	proxies := map[string]*faultproxy.Proxy{"bucket": c.bucket, "table": c.table}
	for _, name := range f.cut {
		proxies[name].Cut()
	}
	f.last(c, a)
	played := c.played() + len(f.cut)
	c.heal()
	healed := time.Now()
	late := c.release()
	recovery := l.awaitRecovery(healed, recoveryMax)
	t.Logf("%d faults, %d requests landed at the end", played, late)

	l.finish()
	a.awaitReady()
	l.readAll("the same agent", a.address)
	a.kill()
	a.awaitReady()
	l.readAll("the agent behind a kill -9", a.address)
	l.result(f.name, recovery, played)
}

// startLoad starts the clients, behind a proxy if there is something to do between them and the agent.
func (f fault) startLoad(t *testing.T, c *cluster, a *instance) *load {
	t.Helper()
	if f.clients == nil {
		return startLoad(t, client.HTTPAuto, a.address)
	}
	c.clients = proxied(t, "http://"+a.address)
	l := startLoad(t, client.HTTP1, strings.TrimPrefix(c.clients.Endpoint, "http://"))
	if err := c.clients.SetRules(f.clients...); err != nil {
		t.Fatal(err)
	}
	return l
}

// last lets the fault last, and does meanwhile what it wants.
func (f fault) last(c *cluster, a *instance) {
	over, half := time.After(*faultTime), time.After(*faultTime/2)
	var release <-chan time.Time
	if f.releaseEvery > 0 {
		tick := time.NewTicker(f.releaseEvery)
		defer tick.Stop()
		release = tick.C
	}
	for {
		select {
		case <-over:
			return
		case <-half:
			if f.kill {
				a.kill()
			}
		case <-release:
			c.release()
		}
	}
}
