package e2e

import (
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/splashdam/splashdam/test/faultproxy"
)

var lossy = flag.Duration("lossy", 5*time.Second, "how long stores lose, repeat, delay and refuse what they are sent")

// lossyTurns is how often an agent is killed meanwhile.
const lossyTurns = 3

// lossyRules hit one request in ten: answers are lost, requests land late or twice, succeed and are answered with an error, or are slow.
// The luck of a rule depends on its place in the list, so each turn has another order.
func lossyRules(turn int, late string, refusals ...string) []faultproxy.Rule {
	some := func(p float64, kind string, a faultproxy.Action) faultproxy.Rule {
		return faultproxy.Rule{Match: faultproxy.Match{Kind: kind, Probability: p}, Action: a}
	}
	rules := []faultproxy.Rule{
		some(0.03, late, faultproxy.Action{Do: faultproxy.Hold}),
		some(0.02, "", faultproxy.Action{Do: faultproxy.DropReply}),
		some(0.01, "", faultproxy.Action{Do: faultproxy.DropBefore}),
		some(0.02, "", faultproxy.Action{Do: faultproxy.Twice}),
		some(0.01, "", faultproxy.Action{Do: faultproxy.Status, Status: 500, Forwarded: true}),
		some(0.02, "", faultproxy.Action{DelayMillis: 20, JitterMillis: 180}),
		some(0.01, "", faultproxy.Action{Do: faultproxy.HTML}),
		some(0.01, "", faultproxy.Action{Do: faultproxy.Truncate}),
	}
	for _, code := range refusals {
		rules = append(rules, some(0.01, "", faultproxy.Action{Do: faultproxy.Status, Error: code}))
	}
	return slices.Concat(rules[turn:], rules[:turn])
}

func TestStoresThatLoseAndRepeatRequestsLoseAndRepeatNoRecord(t *testing.T) {
	t.Parallel()
	s, bucket, table := frontedStack(t)
	address := freeAddress(t)
	b := s.start(t, address)
	l := startLoad(t, b, 2_000)
	for turn := range lossyTurns {
		if err := bucket.SetRules(lossyRules(turn, "put", "SlowDown", "ConditionalRequestConflict")...); err != nil {
			t.Fatal(err)
		}
		if err := table.SetRules(lossyRules(turn+lossyTurns, "PutItem", "ThrottlingException", "ProvisionedThroughputExceededException")...); err != nil {
			t.Fatal(err)
		}
		<-time.After(*lossy / lossyTurns)
		// An agent dies with requests under way, which land when its successor has begun. The tests that a start makes of its stores have a
		// quiet moment.
		b.kill()
		bucket.SetRules()
		table.SetRules()
		b = s.start(t, address)
		t.Logf("%d puts of objects and %d of items land behind the successor's start", len(bucket.ReleaseAll()), len(table.ReleaseAll()))
		t.Logf("first acknowledgement after %s", l.awaitAck(afterKill).Round(time.Millisecond))
	}
	b.awaitReadyz(afterKill, true)
	t.Logf("%d faults at the bucket, %d at the table, %d appends by HTTP", len(bucket.Faults()), len(table.Faults()), l.acks.Load())
	l.finish(b)
}
