package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/s3"
)

// fleet is a cluster of some agents, and a client at each of them.
type fleet struct {
	*onStores
	keys    objectlog.Keys
	agents  []*process
	clients []*client.Client
}

// settleFor is how long shards take to come to the agents where they belong.
const settleFor = 15 * time.Second

// muster makes a cluster of this name and starts an agent in each of the zones.
func (s *onStores) muster(name, flushRate string, zones ...string) (*fleet, error) {
	f := &fleet{onStores: s}
	if err := s.cluster(name); err != nil {
		return f, err
	}
	for _, zone := range zones {
		args := []string{"agent", "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--stop-delay", "0s", "--flush-rate", flushRate, "--zone", zone}
		p, err := startProcess(s.binary, append(args, s.stores...)...)
		if err != nil {
			return f, err
		}
		f.agents = append(f.agents, p)
		c, err := client.New(client.Config{Addresses: []string{p.address}})
		if err != nil {
			return f, err
		}
		f.clients = append(f.clients, c)
	}
	cluster, err := f.clients[0].Cluster(context.Background())
	if err != nil {
		return f, err
	}
	id, err := objectlog.ParseUUID(cluster.ID)
	f.keys = objectlog.Keys{Prefix: name, Cluster: id}
	<-time.After(settleFor)
	return f, err
}

// dismiss stops the agents.
func (f *fleet) dismiss() (err error) {
	for _, c := range f.clients {
		c.Close()
	}
	for _, p := range f.agents {
		err = errors.Join(err, p.stop())
	}
	f.agents, f.clients = nil, nil
	return err
}

func (f *fleet) topic(name string, partitions int32) error {
	_, err := f.clients[0].CreateTopic(context.Background(), client.Topic{Name: name, Partitions: partitions})
	return err
}

// send runs as many senders as streams, each with its part of the rate, at one agent after the other, and adds up what they say.
func (f *fleet) send(streams int, rate float64, duration time.Duration, flags ...string) (sum moved, err error) {
	var (
		all sync.WaitGroup
		mu  sync.Mutex
	)
	for i := range streams {
		all.Go(func() {
			var one moved
			args := append([]string{"--rate", strconv.FormatFloat(rate/float64(streams), 'f', -1, 64)}, flags...)
			failed := f.verbAt(f.agents[i%len(f.agents)].address, duration, &one, "produce", args...)
			mu.Lock()
			defer mu.Unlock()
			err = errors.Join(err, failed)
			sum.Records, sum.Bytes = sum.Records+one.Records, sum.Bytes+one.Bytes
			sum.Ack.P99 = max(sum.Ack.P99, one.Ack.P99)
		})
	}
	all.Wait()
	return sum, err
}

// fullBytes is what a segment has that was sealed on size: agents seal at about 8 MiB, as they expect batches to be stored.
const fullBytes = 6 << 20

// account is what agents have used and asked for until a moment.
type account struct {
	cpu      time.Duration
	counted  time.Duration // by one agent: how long it has been counting
	entries  int64         // of all shard logs
	segments int64         // in the bucket
	full     int64         // of them, sealed on size and not on time
	asked    []client.StoreRequests
	each     map[string][]client.StoreRequests // by zone
}

// look asks every agent.
func (f *fleet) look() (account, error) {
	ctx := context.Background()
	a := account{each: make(map[string][]client.StoreRequests)}
	applied := make(map[int32]int64)
	for i, c := range f.clients {
		used, err := f.agents[i].cpu()
		if err != nil {
			return a, err
		}
		a.cpu += used
		cluster, err := c.Cluster(ctx)
		if err != nil {
			return a, err
		}
		for _, s := range cluster.Shards { // its leader knows best
			applied[s.Shard] = max(applied[s.Shard], s.AppliedSeq)
		}
		usage, err := c.AgentUsage(ctx)
		if err != nil {
			return a, err
		}
		a.counted = usage.CountedFor
		a.asked = append(a.asked, usage.Requests...)
		for _, agent := range cluster.Agents {
			if agent.Boot == usage.Boot {
				a.each[agent.Zone] = append(a.each[agent.Zone], usage.Requests...)
			}
		}
	}
	for _, n := range applied {
		a.entries += n
	}
	all, err := f.segments()
	for _, s := range all {
		if a.segments++; s.bytes >= fullBytes {
			a.full++
		}
	}
	return a, err
}

// requests counts those to a store: of this kind, or of all where it is empty.
func requests(all []client.StoreRequests, store, kind, cause string) (n int64) {
	for _, r := range all {
		if r.Store == store && (kind == "" || r.Kind == kind) && r.Cause == cause {
			n += r.Requests
		}
	}
	return n
}

// stored is one segment in the bucket.
type stored struct {
	name  objectlog.SegmentName
	bytes int64
}

// segments lists what the cluster has stored.
func (f *fleet) segments() (all []stored, err error) {
	bucket, err := s3.Open(s3.Config{Bucket: "splashdam", Endpoint: f.servers[0].Endpoint, PathStyle: true})
	if err != nil {
		return nil, err
	}
	const some = 1000
	prefix, _, _ := strings.Cut(f.keys.Mark(), "cluster")
	for after := ""; ; {
		page, err := bucket.List(context.Background(), prefix, after, some)
		if err != nil {
			return nil, fmt.Errorf("list segments: %w", err)
		}
		for _, o := range page {
			after = o.Key
			if name, ok := f.keys.ParseSegment(o.Key); ok {
				all = append(all, stored{name, o.Bytes})
			}
		}
		if len(page) < some {
			return all, nil
		}
	}
}
