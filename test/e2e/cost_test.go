package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/test/faultproxy"
)

// costTolerance is how far splashdam cost may be from what the stores were asked for.
const costTolerance = 0.02

// TestCostAgreesWithWhatTheStoresWereAskedFor loses some answers, so that requests are sent again: those are charged too.
func TestCostAgreesWithWhatTheStoresWereAskedFor(t *testing.T) {
	s, bucket, table := frontedStack(t)
	lost := faultproxy.Rule{Match: faultproxy.Match{Every: 20}, Action: faultproxy.Action{Do: faultproxy.DropReply}}
	proxies := map[string]*faultproxy.Proxy{"bucket": bucket, "table": table}
	atStart := map[string]float64{}
	for name, p := range proxies {
		if err := p.SetRules(lost); err != nil {
			t.Fatal(err)
		}
		atStart[name] = forwarded(p)
	}
	b := s.start(t, "")
	for i := range 60 {
		b.mustRun(strings.NewReader(fmt.Sprintf("record %d\n", i)), "produce", "orders")
	}
	b.mustRun(nil, "consume", "orders")

	before := map[string]float64{}
	for name, p := range proxies {
		before[name] = forwarded(p) - atStart[name]
	}
	var report struct {
		Agents []struct {
			Seconds float64 `json:"counted_seconds"`
		}
		Stores []struct {
			Store    string
			Requests float64 `json:"requests_per_hour"`
		}
		Dollars float64 `json:"dollars_per_hour"`
	}
	if err := json.Unmarshal([]byte(b.mustRun(nil, "cost", "-o", "json")), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Agents) != 1 || report.Dollars <= 0 {
		t.Fatalf("%+v, want one agent and a price", report)
	}
	counted := map[string]float64{}
	for _, line := range report.Stores {
		counted[line.Store] += line.Requests * report.Agents[0].Seconds / 3600
	}
	for name, p := range proxies {
		after := forwarded(p) - atStart[name] // leases were renewed meanwhile
		if got := counted[name]; got < before[name]*(1-costTolerance) || got > after*(1+costTolerance) {
			t.Errorf("%s: cost counts %.1f requests, the store was asked for %.0f to %.0f", name, got, before[name], after)
		}
		if before[name] < 60 {
			t.Errorf("%s: only %.0f requests, too few to tell 2 %% from nothing", name, before[name])
		}
	}
}

// forwarded is how many requests have reached the store.
func forwarded(p *faultproxy.Proxy) float64 {
	sum := 0
	for _, c := range p.Counts() {
		sum += int(c.Forwarded)
	}
	return float64(sum)
}
