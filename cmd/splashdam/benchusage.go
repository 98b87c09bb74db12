package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/splashdam/splashdam/client"
)

// benchRequests are the requests that the agents sent to their stores during a bench.
type benchRequests struct {
	Requests []requestsPerGiB `json:"store_requests,omitempty"`
	NotAsked []notAsked       `json:"store_requests_not_asked,omitempty"` // agents whose requests are missing
}

// requestsPerGiB counts the requests of one kind and cause; per GiB of keys and values that were acknowledged, or read.
type requestsPerGiB struct {
	Store          string  `json:"store"`
	Kind           string  `json:"kind"`
	Cause          string  `json:"cause"`
	Requests       int64   `json:"requests"`
	RequestsPerGiB float64 `json:"requests_per_gib"`
	UnitsPerGiB    float64 `json:"units_per_gib"`
}

// benchBefore is what was counted when the bench began.
type benchBefore struct {
	agents  []agentUsage
	missing []notAsked
	err     error
}

// beforeBench asks the agents. A bench does not fail for want of counts: whoever may produce need not be allowed to see them.
func (env *environment) beforeBench(ctx context.Context, c *client.Client) (b benchBefore) {
	b.agents, b.missing, b.err = env.usageOfAgents(ctx, c)
	return b
}

// requestsSince is empty where the stores charge nothing.
func (env *environment) requestsSince(ctx context.Context, before benchBefore, bytes int64) (r benchRequests) {
	if before.err != nil || bytes == 0 {
		return r
	}
	agents, missing := env.usageSince(ctx, before.agents)
	gib := float64(bytes) / (1 << 30)
	for _, a := range agents {
		for _, l := range a.Requests {
			i := slices.IndexFunc(r.Requests, func(s requestsPerGiB) bool { return s.Store == l.Store && s.Kind == l.Kind && s.Cause == l.Cause })
			if i < 0 {
				i, r.Requests = len(r.Requests), append(r.Requests, requestsPerGiB{Store: l.Store, Kind: l.Kind, Cause: l.Cause})
			}
			s := &r.Requests[i]
			s.Requests += l.Requests
			s.RequestsPerGiB += float64(l.Requests) / gib
			s.UnitsPerGiB += float64(l.Units) / gib
		}
	}
	if len(r.Requests) > 0 {
		r.NotAsked = slices.Concat(before.missing, missing)
	}
	slices.SortFunc(r.Requests, func(a, b requestsPerGiB) int {
		return cmp.Or(cmp.Compare(a.Store, b.Store), cmp.Compare(causeOrder(a.Cause), causeOrder(b.Cause)), cmp.Compare(a.Kind, b.Kind))
	})
	return r
}

func (r benchRequests) show(out io.Writer) {
	for i, s := range r.Requests {
		if i == 0 {
			fmt.Fprintln(out, "  requests to the stores, per GiB:")
		}
		fmt.Fprintf(out, "    %-6s %s for %s: %s\n", s.Store, s.Kind, s.Cause, humanCount(int64(s.RequestsPerGiB+0.5)))
	}
	for _, m := range r.NotAsked {
		fmt.Fprintf(out, "    without those of agent %s: %s\n", m.Boot, m.Cause)
	}
}
