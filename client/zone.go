package client

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

const (
	// nearMax is how many agents of its zone a client knows; the addresses of the configuration come behind them.
	nearMax = 3
	// lookTimeout bounds the look for them, which a request waits for.
	lookTimeout = 2 * time.Second
	// lookAgain is when a client that found no answer, or left an agent of its zone, looks again.
	lookAgain = 30 * time.Second
)

// lookAround asks whoever is at the address which agents are in the client's zone, puts those that can be reached from here before
// all other addresses, and answers the one to use. Where nobody answers, what was known before is kept.
func (t *transport) lookAround(ctx context.Context, set *connections, address string) string {
	ctx, cancel := context.WithTimeout(ctx, min(lookTimeout, t.cfg.DialTimeout))
	defer cancel()
	cluster, _, err := t.clusterAt(ctx, set, address)
	var near []string
	if err == nil { // one that is not ready may still know who is
		near = t.reachable(ctx, set, cluster)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		set.hasten(time.Now())
		return t.addresses[t.current]
	}
	given := t.addresses[t.near:]
	if t.near > 0 || len(near) > 0 {
		t.current = 0
	}
	t.addresses, t.near = slices.Concat(near, given), len(near)
	return t.addresses[t.current]
}

// reachable answers the addresses of agents in the zone at which these very agents answer that they are ready, in a random order: an advertised address may be that of a
// load balancer, or lead elsewhere from here, even to another cluster.
func (t *transport) reachable(ctx context.Context, set *connections, cluster *splashdamv1.GetClusterResponse) []string {
	boots := make(map[string]string) // by address
	for _, a := range cluster.GetAgents() {
		address := a.GetClientAddress()
		switch _, shared := boots[address]; {
		case shared:
			boots[address] = "" // no agent's own
		case a.GetZone() == t.cfg.Zone && a.GetProblem() == "" && !a.GetDraining():
			boots[address] = a.GetBootId()
		default:
			boots[address] = ""
		}
	}
	var candidates []string
	for address, boot := range boots {
		if boot != "" && address != "" && !slices.Contains(t.cfg.Addresses, address) {
			candidates = append(candidates, address)
		}
	}
	candidates = shuffled(candidates)
	candidates = candidates[:min(nearMax, len(candidates))]
	found := make([]bool, len(candidates))
	var all sync.WaitGroup
	for i, address := range candidates {
		all.Go(func() {
			there, ready, err := t.clusterAt(ctx, set, address)
			found[i] = err == nil && ready && there.GetClusterId() == cluster.GetClusterId() && there.GetAnsweredBy() == boots[address]
		})
	}
	all.Wait()
	var near []string
	for i, address := range candidates {
		if found[i] {
			near = append(near, address)
		}
	}
	return near
}

// clusterAt asks for the cluster at one address, and whether whoever answers there is ready.
func (t *transport) clusterAt(ctx context.Context, set *connections, address string) (cluster *splashdamv1.GetClusterResponse, ready bool, err error) {
	ctx, call := connect.NewClientContext(ctx)
	there := &http.Client{Transport: at{t, set, address}, CheckRedirect: noRedirect}
	cluster, err = splashdamv1connect.NewClusterServiceClient(there, t.base(), connect.WithReadMaxBytes(clusterBytesMax)).GetCluster(ctx, &splashdamv1.GetClusterRequest{})
	return cluster, err == nil && !saysUnready(call.ResponseHeader()), err
}

// clusterBytesMax bounds a description of a cluster: a thousand agents, a thousand shards.
const clusterBytesMax = 16 << 20

// at sends requests to one address, whichever is the current one.
type at struct {
	t       *transport
	set     *connections
	address string
}

// RoundTrip implements http.RoundTripper.
func (a at) RoundTrip(r *http.Request) (*http.Response, error) { return a.t.send(a.set, a.address, r) }
