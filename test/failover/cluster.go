package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/localstack"
)

const (
	agents = 3
	shards = 4
	// lease is the one of the agents.
	lease = 3 * time.Second
	// slots are fewer than by default: making those takes some table servers long.
	slots       = 1024
	askTimeout  = time.Second
	stopTimeout = 30 * time.Second
)

// cluster is the agents and what they need.
type cluster struct {
	folder   string
	binary   string
	objects  *localstack.Server
	table    *localstack.Server
	balancer *localstack.Server // nil: clients go without
	network  *network           // nil: all on loopback
	agents   []*agent
}

// newCluster starts everything; on an error nothing is left.
func (s settings) newCluster(ctx context.Context) (c *cluster, err error) {
	useCredentials()
	c = &cluster{binary: s.binary}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.folder, err = os.MkdirTemp(s.folder, "failover-"); err != nil {
		return c, fmt.Errorf("start cluster: %w", err)
	}
	if c.binary == "" {
		if err := c.build(ctx); err != nil {
			return c, err
		}
	}
	if *s.rounds[gone] > 0 && s.goneBy == "net" {
		if c.network, err = newNetwork(ctx, agents); err != nil {
			return c, err
		}
	}
	if err := c.startStores(ctx, localstack.Engine(s.engine)); err != nil {
		return c, err
	}
	if err := c.init(ctx); err != nil {
		return c, err
	}
	var behind []string
	for i := range agents {
		a, err := c.newAgent(i, s.flushRate)
		if err != nil {
			return c, fmt.Errorf("start agent %d: %w", i, err)
		}
		c.agents, behind = append(c.agents, a), append(behind, a.address)
		if err := a.start(ctx); err != nil {
			return c, err
		}
	}
	if !s.direct {
		c.balancer, err = localstack.Start(ctx, localstack.Config{Engine: localstack.HAProxy, Folder: filepath.Join(c.folder, "balancer"), Agents: behind})
	}
	return c, err
}

// useCredentials puts the credentials of the local servers where the agents look for them, and takes away the settings of whoever starts this.
func useCredentials() {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "SPLASHDAM_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("AWS_ACCESS_KEY_ID", localstack.AccessKey)
	os.Setenv("AWS_SECRET_ACCESS_KEY", localstack.SecretKey)
	os.Setenv("AWS_REGION", localstack.Region)
	os.Unsetenv("AWS_SESSION_TOKEN")
	os.Unsetenv("AWS_PROFILE")
}

func (c *cluster) build(ctx context.Context) error {
	c.binary = filepath.Join(c.folder, "splashdam")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", c.binary, "github.com/splashdam/splashdam/cmd/splashdam").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build splashdam: %w: %s", err, out)
	}
	return nil
}

// startStores starts both where the agents reach them.
func (c *cluster) startStores(ctx context.Context, engine localstack.Engine) (err error) {
	objects := localstack.Config{Engine: localstack.MinIO, Folder: filepath.Join(c.folder, "objects")}
	table := localstack.Config{Engine: engine, Folder: filepath.Join(c.folder, "table")}
	if engine == localstack.Ministack {
		table.Folder = "" // it keeps everything in memory, and saves it only to go on with
	}
	if c.network != nil {
		var errs [2]error
		objects.Address, errs[0] = freeAddress(host)
		table.Address, errs[1] = freeAddress(host)
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
	}
	if c.objects, err = localstack.Start(ctx, objects); err != nil {
		return err
	}
	c.table, err = localstack.Start(ctx, table)
	return err
}

func (c *cluster) stores() []string {
	return []string{"--bucket", "s3://failover/events?endpoint=" + c.objects.Endpoint,
		"--table", fmt.Sprintf("dynamodb://failover?endpoint=%s&region=%s", c.table.Endpoint, localstack.Region)}
}

func (c *cluster) init(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	args := append([]string{"cluster", "init", "--create-bucket", "--shards", fmt.Sprint(shards), "--slots", fmt.Sprint(slots)}, c.stores()...)
	if out, err := exec.CommandContext(ctx, c.binary, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("splashdam cluster init: %w: %s", err, out)
	}
	return nil
}

// addresses are where clients are to go.
func (c *cluster) addresses() (all []string) {
	if c.balancer != nil {
		return []string{strings.TrimPrefix(c.balancer.Endpoint, "http://")}
	}
	for _, a := range c.agents {
		all = append(all, a.address)
	}
	return all
}

// close ends everything, and removes all but the logs.
func (c *cluster) close() {
	for _, a := range c.agents {
		a.resume()
		if a.server != nil {
			a.server.Kill()
		}
		a.log.Close()
	}
	for _, s := range []*localstack.Server{c.balancer, c.table, c.objects} {
		if s != nil {
			s.Kill()
		}
	}
	if c.network != nil {
		c.network.remove()
	}
	for _, name := range []string{"objects", "table", "balancer", "splashdam"} {
		os.RemoveAll(filepath.Join(c.folder, name))
	}
	os.Remove(c.folder) // if no log is in it
}

// view is the cluster as one agent sees it.
func (c *cluster) view(ctx context.Context, a *agent) (client.Cluster, error) {
	one, err := client.New(client.Config{Addresses: []string{a.address}, RequestTimeout: askTimeout})
	if err != nil {
		return client.Cluster{}, err
	}
	defer one.Close()
	return one.Cluster(ctx)
}

// leaders answers the index of the agent that leads each shard, if all agents say the same, are ready and know each other.
func (c *cluster) leaders(ctx context.Context) ([]int, error) {
	var agreed []int
	for _, a := range c.agents {
		if err := a.readyz(); err != nil {
			return nil, fmt.Errorf("agent %d: %w", a.index, err)
		}
		seen, err := c.view(ctx, a)
		if err != nil {
			return nil, fmt.Errorf("agent %d: %w", a.index, err)
		}
		who, well := map[string]int{}, 0
		for _, known := range seen.Agents {
			for _, b := range c.agents {
				if known.Address == b.address && known.HeardAgo >= 0 && known.HeardAgo < 2*lease && known.Problem == "" && !known.Draining {
					who[known.Boot] = b.index
					well++
				}
			}
		}
		if well != len(c.agents) {
			return nil, fmt.Errorf("agent %d hears %d agents, itself included", a.index, well)
		}
		var lead []int
		for _, s := range seen.Shards {
			i, ok := who[s.Leader]
			if !ok {
				return nil, fmt.Errorf("agent %d knows no leader of shard %d", a.index, s.Shard)
			}
			lead = append(lead, i)
		}
		if agreed != nil && fmt.Sprint(agreed) != fmt.Sprint(lead) || len(lead) != shards {
			return nil, fmt.Errorf("agents see different leaders: %v and %v", agreed, lead)
		}
		agreed = lead
	}
	return agreed, nil
}

func freeAddress(host string) (string, error) {
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// pause waits; false: ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// until asks again and again until the answer is nil; the error is the last answer in time.
func until(ctx context.Context, within time.Duration, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := ask()
		if err == nil || !pause(ctx, 20*time.Millisecond) {
			return err
		}
	}
}
