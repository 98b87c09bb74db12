package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/test/faultproxy"
)

// hangTimeout is above what an agent waits for its stores before it gives up.
const hangTimeout = 80 * time.Second

func blackhole(keyContains string) faultproxy.Rule {
	return faultproxy.Rule{Match: faultproxy.Match{KeyContains: keyContains}, Action: faultproxy.Action{Do: faultproxy.Blackhole}}
}

func TestStoreThatHangsFromTheBeginningEndsTheStart(t *testing.T) {
	t.Parallel()
	for _, hanging := range []string{"bucket", "table"} {
		t.Run(hanging, func(t *testing.T) {
			t.Parallel()
			s, bucket, table := frontedStack(t)
			p := map[string]*faultproxy.Proxy{"bucket": bucket, "table": table}[hanging]
			p.SetRules(blackhole(""))
			b := s.launch(t, "")
			if err := b.wait(hangTimeout); err == nil || err.Error() != "exit status 1" {
				t.Errorf("got %v, want exit status 1", err)
			}
			said := b.stderr.String()
			if strings.Count(said, "\n") != 1 {
				t.Errorf("want one line, got %q", said)
			}
			says(t, said, "splashdam: ", strings.TrimPrefix(p.Endpoint, "http://"), "check the network between here and")
			t.Log(strings.TrimSpace(said))
		})
	}
}

func TestStartThatWaitsForTheTableSaysSoAndGoesOn(t *testing.T) {
	t.Parallel()
	for _, keys := range []string{"shard#", "ring#"} {
		t.Run(keys, func(t *testing.T) {
			t.Parallel()
			s, _, table := frontedStack(t)
			table.SetRules(blackhole(keys))
			b := s.launch(t, freeAddress(t))
			_, reason := b.awaitReadyz(noticeTimeout, false, "shard 0")
			t.Log(reason)
			b.awaitLog("no answer in time")
			table.SetRules()
			took, _ := b.awaitReadyz(afterKill, true)
			t.Logf("ready %s after the table answered again", took.Round(time.Millisecond))
			if g := <-b.greeted; g.err != nil { // a stop before that is an interrupted start
				t.Fatal(g.err)
			}
			b.stop()
		})
	}
}

// awaitLog waits until the broker's log has a text.
func (b *broker) awaitLog(text string) {
	b.t.Helper()
	tick, late := time.NewTicker(20*time.Millisecond), time.After(hangTimeout)
	defer tick.Stop()
	for !strings.Contains(b.stderr.String(), text) {
		select {
		case <-tick.C:
		case <-late:
			b.t.Fatalf("its log does not say %q: %s", text, b.stderr)
		}
	}
}
