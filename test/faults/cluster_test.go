package faults

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
	"github.com/splashdam/splashdam/test/faultproxy"
)

const (
	bucketName = "splashdam-faults"
	shards     = 2
	// slots are the fewest: a log of some seconds goes round its ring.
	slots = 64
	// flushRate bounds the requests, since the histories share the table server, and all of them the processors.
	flushRate = "30"
)

// clusters counts those of this run. The servers may have outlived another run.
var clusters atomic.Int64

// cluster is one on the usual servers, with a proxy in front of each.
type cluster struct {
	name          string // of the table, and the prefix in the bucket
	bucket, table *faultproxy.Proxy
	clients       *faultproxy.Proxy // in front of the agent; nil: none
	objects, log  string            // endpoints behind the proxies
}

// newCluster makes a cluster in a new prefix and a new table.
func newCluster(t *testing.T, slots int) *cluster {
	t.Helper()
	c := &cluster{
		name:    fmt.Sprintf("faults-%x-%d", time.Now().UnixMicro(), clusters.Add(1)),
		objects: localstacktest.Shared(t, localstack.MinIO).Endpoint,
		log:     localstacktest.Shared(t, localstack.Engine(*tableEngine)).Endpoint,
	}
	c.bucket, c.table = proxied(t, c.objects), proxied(t, c.log)
	args := slices.Concat([]string{"cluster", "init", "--create-bucket", "--shards", fmt.Sprint(shards), "--slots", fmt.Sprint(slots)}, c.stores())
	if _, err := run(args...); err != nil {
		t.Fatalf("splashdam cluster init: %v", err)
	}
	return c
}

func proxied(t *testing.T, target string) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.Start(faultproxy.Config{Target: target, Seed: *seed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// stores are the arguments that name the proxies.
func (c *cluster) stores() []string {
	return []string{"--bucket", bucketAddress(c.bucket.Endpoint, c.name), "--table", tableAddress(c.table.Endpoint, c.name)}
}

func bucketAddress(endpoint, prefix string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s", bucketName, prefix, endpoint)
}

func tableAddress(endpoint, name string) string {
	return fmt.Sprintf("dynamodb://%s?endpoint=%s&region=%s", name, endpoint, localstack.Region)
}

// setRules sets the rules of both proxies.
func (c *cluster) setRules(t *testing.T, bucket, table []faultproxy.Rule) {
	t.Helper()
	if err := errors.Join(c.bucket.SetRules(bucket...), c.table.SetRules(table...)); err != nil {
		t.Fatal(err)
	}
}

// heal ends every fault. What is held stays held.
func (c *cluster) heal() {
	for _, p := range c.proxies() {
		p.SetRules()
		p.Mend()
	}
}

func (c *cluster) proxies() []*faultproxy.Proxy {
	all := []*faultproxy.Proxy{c.bucket, c.table}
	if c.clients != nil {
		all = append(all, c.clients)
	}
	return all
}

// release lets land what is held, and answers how much that was.
func (c *cluster) release() (n int) {
	for _, p := range c.proxies() {
		n += len(p.ReleaseAll())
	}
	return n
}

// played counts the faults so far.
func (c *cluster) played() (n int) {
	for _, p := range c.proxies() {
		n += len(p.Faults())
	}
	return n
}
