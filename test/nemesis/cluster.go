package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/test/faultproxy"
)

const (
	bucketName = "splashdam-nemesis"
	shards     = 3
	// slotsFew are the fewest: the logs of a short history go round their rings.
	slotsFew  = 64
	slotsMany = 4096
	// flushRate bounds the requests, since histories share the stores, and all of them the processors.
	flushRate = "10"
	// lease is the one of the agents.
	lease       = 3 * time.Second
	initTimeout = time.Minute
	// startTimeout is for a busy machine.
	startTimeout = 90 * time.Second
)

// cluster is one of a history: agents on the shared stores, each behind proxies and links of its own.
type cluster struct {
	name   string // of the table, and the prefix in the bucket
	folder string // of logs
	stores *stores
	agents []*agent
	front  *localstack.Server // the load balancer before them; nil: it is not installed, and clients go on by themselves
	stop   context.CancelFunc
	files  []io.Closer
}

// newCluster makes a cluster and starts its agents; on an error nothing of it is left.
func newCluster(ctx context.Context, s *stores, name, folder string, agents, slots int, seed uint64) (_ *cluster, err error) {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &cluster{name: name, folder: folder, stores: s, stop: stop}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	if err := c.init(ctx, slots); err != nil {
		return nil, err
	}
	for i := range agents {
		a, err := c.newAgent(i, seed)
		if err != nil {
			return nil, fmt.Errorf("start agent %d: %w", i, err)
		}
		c.agents = append(c.agents, a)
		a.running.Go(func() { a.supervise(running) })
		a.up()
	}
	if c.front, err = localstack.Start(ctx, localstack.Config{Engine: localstack.HAProxy, Agents: c.links()}); errors.Is(err, localstack.ErrMissing) {
		c.front = nil
	} else if err != nil {
		return nil, err
	}
	if !until(ctx, startTimeout, c.allReady) {
		return nil, fmt.Errorf("start cluster: not every agent is ready: %w", c.agents[0].readyz())
	}
	return c, nil
}

// allReady says whether everybody serves that can, through the balancer too.
func (c *cluster) allReady() bool {
	for _, address := range c.balanced() {
		if readyz(address) != nil {
			return false
		}
	}
	for _, a := range c.agents {
		if a.readyz() != nil {
			return false
		}
	}
	return true
}

// init makes the cluster in the stores, past the proxies.
func (c *cluster) init(ctx context.Context, slots int) error {
	ctx, cancel := context.WithTimeout(ctx, initTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.stores.binary, "cluster", "init", "--create-bucket", "--shards", fmt.Sprint(shards), "--slots", fmt.Sprint(slots),
		"--bucket", c.bucketAddress(c.stores.objects.Endpoint), "--table", c.tableAddress(c.stores.table.Endpoint))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("splashdam cluster init: %w: %s", err, out)
	}
	return nil
}

func (c *cluster) bucketAddress(endpoint string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s", bucketName, c.name, endpoint)
}

func (c *cluster) tableAddress(endpoint string) string {
	return fmt.Sprintf("dynamodb://%s?endpoint=%s&region=%s", c.name, endpoint, localstack.Region)
}

func (c *cluster) create(name string) (*os.File, error) {
	f, err := os.Create(filepath.Join(c.folder, name))
	if err == nil {
		c.files = append(c.files, f)
	}
	return f, err
}

// newAgent makes an agent, its proxies and links. It does not run yet.
func (c *cluster) newAgent(i int, seed uint64) (*agent, error) {
	a := &agent{index: i, changed: make(chan struct{})}
	var errs [6]error
	a.log, errs[0] = c.create(fmt.Sprintf("agent-%d.log", i))
	proxied := func(kind, target string) (*faultproxy.Proxy, error) {
		log, err := c.create(fmt.Sprintf("%s-%d.log", kind, i))
		if err != nil {
			return nil, err
		}
		p, err := faultproxy.Start(faultproxy.Config{Target: target, Seed: seed + uint64(i), Log: log})
		if err == nil {
			c.files = append(c.files, p)
		}
		return p, err
	}
	a.bucket, errs[1] = proxied("bucket", c.stores.objects.Endpoint)
	a.table, errs[2] = proxied("table", c.stores.table.Endpoint)
	a.address, errs[3] = c.stores.ports.Address()
	a.clients, errs[4] = newLink(a.address, nil)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	args := []string{"agent", "-o", "json", "--listen", a.address, "--advertise-client", a.address, "--flush-rate", flushRate, "--stop-timeout", stopTimeout.String(),
		"--bucket", c.bucketAddress(a.bucket.Endpoint), "--table", c.tableAddress(a.table.Endpoint)}
	var err error
	if a.peerAddress, err = c.stores.ports.Address(); err != nil {
		return nil, err
	}
	if a.peers, err = newLink(a.peerAddress, c.callerAt); err != nil {
		return nil, err
	}
	args = append(args, "--peer-listen", a.peerAddress, "--advertise-peer", a.peers.Address)
	a.program = localstack.Program{Name: fmt.Sprintf("agent %d", i), Path: c.stores.binary, Args: args, Endpoint: "http://" + a.address, Output: a.log,
		Ready: func(context.Context, string) error { return nil }, StopTimeout: stopTimeout + 5*time.Second}
	return a, nil
}

// callerAt is the agent that has the other end of a connection.
func (c *cluster) callerAt(address net.Addr) int {
	pids := make([]int, len(c.agents))
	for i, a := range c.agents {
		pids[i] = a.pid()
	}
	return ownerOf(address, pids)
}

// heal ends every fault: everybody runs, reaches everybody, and what was held lands.
func (c *cluster) heal() {
	for _, a := range c.agents {
		a.bucket.SetRules()
		a.table.SetRules()
		a.bucket.Mend()
		a.table.Mend()
		a.clients.heal()
		a.peers.heal()
		a.thaw()
		a.up()
	}
	c.release()
}

// release lets land what is held, and answers how much that was.
func (c *cluster) release() (n int) {
	for _, a := range c.agents {
		n += len(a.bucket.ReleaseAll()) + len(a.table.ReleaseAll())
	}
	return n
}

// played counts what the proxies did so far.
func (c *cluster) played() (n int) {
	for _, a := range c.agents {
		n += len(a.bucket.Faults()) + len(a.table.Faults())
	}
	return n
}

// balanced is the one address of the load balancer, where there is one, else those of all agents.
func (c *cluster) balanced() []string {
	if c.front == nil {
		return c.links()
	}
	return []string{strings.TrimPrefix(c.front.Endpoint, "http://")}
}

// links are the addresses at which clients reach the agents by themselves.
func (c *cluster) links() []string {
	all := make([]string, len(c.agents))
	for i, a := range c.agents {
		all[i] = a.clients.Address
	}
	return all
}

// described is the cluster as the first agent says that answers; false: none does.
func (c *cluster) described(ctx context.Context) (info client.Cluster, ok bool) {
	for _, a := range c.agents {
		if info, ok = a.describe(ctx); ok {
			break
		}
	}
	return info, ok
}

// leader is the agent that leads a shard, as somebody says who answers; nil: nobody does, or nobody leads.
func (c *cluster) leader(ctx context.Context, shard int) *agent {
	info, ok := c.described(ctx)
	if !ok || shard >= len(info.Shards) {
		return nil
	}
	for _, known := range info.Agents {
		for _, a := range c.agents {
			if known.Boot == info.Shards[shard].Leader && known.Address == a.address {
				return a
			}
		}
	}
	return nil
}

// close ends everything of the cluster.
func (c *cluster) close() {
	for _, a := range c.agents {
		a.thaw()
	}
	c.stop()
	if c.front != nil {
		c.front.Kill() // it waits for connections that nobody ends
	}
	for _, a := range c.agents {
		a.running.Wait()
		a.clients.close()
		a.peers.close()
	}
	for i := len(c.files) - 1; i >= 0; i-- { // proxies before their logs
		c.files[i].Close()
	}
}
