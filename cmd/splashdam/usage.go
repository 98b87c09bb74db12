package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/splashdam/splashdam/client"
)

// agentUsage is what one agent has counted, and where it was asked.
type agentUsage struct {
	address string
	client.AgentUsage
}

// notAsked is an agent whose counts are missing.
type notAsked struct {
	Boot    string `json:"boot"`
	Address string `json:"address"`
	Cause   string `json:"cause"`
}

// usageOfAgents asks every agent of the cluster at the address that it advertises. Those that cannot be reached so, and the only agent
// of a cluster, are asked at the addresses of --server. Agents count each for themselves; answers are told apart by their boots.
func (env *environment) usageOfAgents(ctx context.Context, c *client.Client) ([]agentUsage, []notAsked, error) {
	cluster, err := c.Cluster(ctx)
	if err != nil {
		return nil, nil, err
	}
	servers := strings.Split(env.config.Server, ",")
	var addresses []string
	for _, a := range cluster.Agents {
		if len(cluster.Agents) > 1 && a.Address != "" {
			addresses = append(addresses, a.Address)
		}
	}
	found, failed := env.askAgents(ctx, addresses)
	if len(found) < max(1, len(cluster.Agents)) {
		servers = slices.DeleteFunc(servers, func(s string) bool { return slices.Contains(addresses, s) })
		more, moreFailed := env.askAgents(ctx, servers)
		maps.Copy(more, found) // an agent's own address is the better one to ask again
		maps.Copy(failed, moreFailed)
		found = more
	}
	var missing []notAsked
	for _, a := range cluster.Agents {
		if _, ok := found[a.Boot]; ok {
			continue
		}
		cause := "another agent answered in its place"
		if err := failed[a.Address]; err != nil {
			cause = err.Error()
		} else if a.Address == "" {
			cause = "it advertises no address"
		}
		missing = append(missing, notAsked{a.Boot, a.Address, cause})
	}
	all := make([]agentUsage, 0, len(found))
	for _, u := range found {
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b agentUsage) int { return cmp.Compare(a.Boot, b.Boot) })
	return all, missing, nil
}

// askAgentsMax bounds the agents asked at a time.
const askAgentsMax = 32

// askAgents answers by boot what is answered at the addresses, and by address what went wrong.
func (env *environment) askAgents(ctx context.Context, addresses []string) (found map[string]agentUsage, failed map[string]error) {
	found, failed = make(map[string]agentUsage), make(map[string]error)
	var (
		mu    sync.Mutex
		all   sync.WaitGroup
		turns = make(chan struct{}, askAgentsMax)
	)
	for _, address := range addresses {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			u, err := env.askAgent(ctx, address)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[address] = err
				return
			}
			found[u.Boot] = agentUsage{address, u}
		})
	}
	all.Wait()
	return found, failed
}

func (env *environment) askAgent(ctx context.Context, address string) (client.AgentUsage, error) {
	c, err := env.dial("", []string{address})
	if err != nil {
		return client.AgentUsage{}, err
	}
	defer c.Close()
	return c.AgentUsage(ctx)
}

// usageSince asks the same agents again and answers what each did since. One that restarted, or cannot be told from others behind a
// load balancer, is missing.
func (env *environment) usageSince(ctx context.Context, before []agentUsage) (since []agentUsage, missing []notAsked) {
	var addresses []string
	for _, b := range before {
		if !slices.Contains(addresses, b.address) {
			addresses = append(addresses, b.address)
		}
	}
	found, failed := env.askAgents(ctx, addresses)
	for _, b := range before {
		after, ok := found[b.Boot]
		switch err := failed[b.address]; {
		case ok:
			since = append(since, agentUsage{b.address, difference(b.AgentUsage, after.AgentUsage)})
		case err != nil:
			missing = append(missing, notAsked{b.Boot, b.address, err.Error()})
		default:
			missing = append(missing, notAsked{b.Boot, b.address, "another agent answered there the second time: it was restarted, or is behind a load balancer"})
		}
	}
	return since, missing
}

// difference is what an agent counted between two answers.
func difference(before, after client.AgentUsage) client.AgentUsage {
	d := client.AgentUsage{Boot: after.Boot, CountedFor: after.CountedFor - before.CountedFor}
	for _, r := range after.Requests {
		for _, was := range before.Requests {
			if was.Store == r.Store && was.Kind == r.Kind && was.Cause == r.Cause {
				r.Requests, r.Units, r.Bytes = r.Requests-was.Requests, r.Units-was.Units, r.Bytes-was.Bytes
			}
		}
		if r.Requests > 0 {
			d.Requests = append(d.Requests, r)
		}
	}
	d.Topics = topicsSince(before.Topics, after.Topics)
	return d
}

// topicsSince is the difference of two lists that each name the largest topics. What a topic had while it was not named is not known, so
// that of topics named in one list only goes to the rest; all together is exact.
func topicsSince(before, after []client.TopicBytes) []client.TopicBytes {
	named := make(map[string]client.TopicBytes)
	rest := client.TopicBytes{}
	for _, t := range before {
		named[t.Topic] = t
		rest.Produced, rest.Fetched = rest.Produced-t.Produced, rest.Fetched-t.Fetched
	}
	_, hadRest := named[""]
	var since []client.TopicBytes
	for _, t := range after {
		rest.Produced, rest.Fetched = rest.Produced+t.Produced, rest.Fetched+t.Fetched
		was, known := named[t.Topic]
		if t.Topic == "" || !known && hadRest {
			continue
		}
		t.Produced, t.Fetched = t.Produced-was.Produced, t.Fetched-was.Fetched
		since = append(since, t)
		rest.Produced, rest.Fetched = rest.Produced-t.Produced, rest.Fetched-t.Fetched
	}
	if rest != (client.TopicBytes{}) {
		since = append(since, rest)
	}
	return since
}

// causeOrder is the order in which causes are shown: first what grows with the traffic.
func causeOrder(cause string) int {
	causes := []string{"flush", "commit", "read", "snapshot", "lease", "cluster"}
	if i := slices.Index(causes, cause); i >= 0 {
		return i
	}
	return len(causes)
}
