package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

const (
	tailers = 1000
	// tailRate and tailSize make segments of more than one block at tailFlushRate, and no more wake-ups than two cores can answer.
	tailRate      = 300 // records a second
	tailSize      = "8KiB"
	tailFlushRate = "0.5"
	blockBytes    = 1 << 20 // what agents read of a segment at least
)

// tailing has many consumers wait at all agents for what is produced at all agents, and counts what the bucket is asked for in each zone.
func (s *onStores) tailing(zones ...string) (err error) {
	f, err := s.muster("tailing-"+strings.Join(zones, ""), tailFlushRate, zones...)
	defer func() { err = errors.Join(err, f.dismiss()) }()
	if err != nil {
		return err
	}
	if err := f.topic("tail", partitions); err != nil {
		return err
	}
	before, err := f.look()
	if err != nil {
		return err
	}
	follow := newFollowers(f)
	sent, err := f.send(streams, tailRate, 2*s.duration, "--topic", "tail", "--size", "8192", "--incompressible")
	if err != nil {
		follow.end()
		return err
	}
	ends, err := f.ends("tail")
	if err != nil {
		follow.end()
		return err
	}
	missing, err := follow.catchUp(ends)
	if err != nil {
		return err
	}
	after, err := f.look()
	if err != nil {
		return err
	}
	all, err := f.segments()
	if err != nil {
		return err
	}
	report(fmt.Sprintf("%d tailing consumers, zones %s", tailers, strings.Join(zones, " ")), fmt.Sprintf("%d records of %s, %d consumers missed some; %d fetches, %d told to come back", sent.Records, tailSize, missing, follow.fetches.Load(), follow.refused.Load()),
		"none missed", missing == 0)
	return f.compareReads(before, after, all)
}

// compareReads prints the GETs of each zone beside the blocks that there are, and beside those that none of its agents wrote.
func (f *fleet) compareReads(before, after account, all []stored) error {
	cluster, err := f.clients[0].Cluster(context.Background())
	if err != nil {
		return err
	}
	zoneOf := make(map[string]string)
	for _, a := range cluster.Agents {
		zoneOf[a.Boot] = a.Zone
	}
	var blocks int64
	foreign := make(map[string]int64)
	for _, s := range all {
		n := (s.bytes + blockBytes - 1) / blockBytes
		blocks += n
		for zone := range after.each {
			if zoneOf[s.name.Boot.String()] != zone {
				foreign[zone] += n
			}
		}
	}
	for zone, asked := range after.each {
		count := func(kind string) int64 {
			return requests(asked, "bucket", kind, "read") - requests(before.each[zone], "bucket", kind, "read")
		}
		gets, heads := count("get"), count("")-count("get")
		report("  zone "+zone, fmt.Sprintf("%d GET, %d HEAD for %d blocks of %d segments, %d of other zones: %.2f GET per block, %.2f per block of others",
			gets, heads, blocks, len(all), foreign[zone], float64(gets)/float64(blocks), float64(gets)/float64(max(1, foreign[zone]))),
			"<= 1.1 per block", float64(gets) <= 1.1*float64(blocks))
	}
	return nil
}

// ends answers the partitions' high watermarks.
func (f *fleet) ends(topic string) ([]int64, error) {
	_, found, err := f.clients[0].Topic(context.Background(), topic)
	if err != nil {
		return nil, err
	}
	ends := make([]int64, partitions)
	for _, p := range found {
		ends[p.Partition] = int64(p.HighWatermark)
	}
	return ends, nil
}

// followers are consumers that wait for news, each of one partition at one agent, over few connections.
type followers struct {
	http    *http.Transport
	next    []atomic.Int64 // the offset behind what it has, by consumer
	fetches atomic.Int64
	refused atomic.Int64 // of them, for want of memory
	stop    context.CancelFunc
	all     sync.WaitGroup
	failed  atomic.Pointer[error]
}

func newFollowers(f *fleet) *followers {
	ctx, stop := context.WithCancel(context.Background())
	w := &followers{http: &http.Transport{Protocols: new(http.Protocols)}, next: make([]atomic.Int64, tailers), stop: stop}
	w.http.Protocols.SetUnencryptedHTTP2(true)
	for i := range tailers {
		c := splashdamv1connect.NewLogServiceClient(&http.Client{Transport: w.http}, "http://"+f.agents[i%len(f.agents)].address)
		w.all.Go(func() {
			if err := w.follow(ctx, c, i); ctx.Err() == nil {
				err = fmt.Errorf("consumer %d: %w", i, err)
				w.failed.Store(&err)
			}
		})
	}
	return w
}

// follow reads until ctx ends, or with another error.
func (w *followers) follow(ctx context.Context, c splashdamv1connect.LogServiceClient, i int) error {
	partition := int32(i % partitions)
	for {
		start := &splashdamv1.Start{At: &splashdamv1.Start_Offset{Offset: w.next[i].Load()}}
		res, err := c.Fetch(ctx, &splashdamv1.FetchRequest{MaxWait: durationpb.New(10 * time.Second), MaxBytes: 64 << 10, Encoded: true,
			Partitions: []*splashdamv1.FetchRequest_Partition{{Topic: "tail", Partition: &partition, Start: start}}})
		w.fetches.Add(1)
		if connect.CodeOf(err) == connect.CodeResourceExhausted { // all came at once
			w.refused.Add(1)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		if err != nil {
			return err
		}
		got := res.Partitions[0]
		if e := got.Error; e != nil {
			return errors.New(e.Message)
		}
		w.next[i].Store(got.GetNextOffset())
	}
}

// catchUp waits until all consumers have come to the ends, ends them, and answers how many have not in time.
func (w *followers) catchUp(ends []int64) (missing int, err error) {
	defer w.end()
	for range 100 {
		missing = 0
		for i := range w.next {
			if w.next[i].Load() < ends[i%partitions] {
				missing++
			}
		}
		if missing == 0 {
			break
		}
		<-time.After(100 * time.Millisecond)
	}
	if err := w.failed.Load(); err != nil {
		return missing, *err
	}
	return missing, nil
}

func (w *followers) end() {
	w.stop()
	w.all.Wait()
	w.http.CloseIdleConnections()
}
