package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splashdam/splashdam/client"
)

const (
	crewMembers    = 100
	crewPartitions = 1000
	crewTopic      = "crew"
	crewPatience   = time.Minute
)

// crew is a consumer group whose members are in this process, but for one that can be killed.
type crew struct {
	address, name string
	session       time.Duration

	members []*crewMember
	all     sync.WaitGroup
	stop    context.CancelFunc
	changed chan struct{} // holds a value when something was assigned or taken away
	stops   atomic.Int64  // partitions that were taken from members
}

// crewMember is one of them.
type crewMember struct {
	client   *client.Client
	consumer *client.Consumer
	mu       sync.Mutex
	has      map[client.Partition]time.Time // since when
}

func (b *bench) crewTopic() error {
	c, err := client.New(client.Config{Addresses: []string{b.address}})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.CreateTopic(context.Background(), client.Topic{Name: crewTopic, Partitions: crewPartitions})
	return err
}

// rebalance has a hundred members join at once, one of them die, and prints how long partitions stood still. It does so for both sessions.
func (b *bench) rebalance() error {
	if err := b.crewTopic(); err != nil {
		return err
	}
	for _, session := range []time.Duration{3 * time.Second, 10 * time.Second} {
		if err := b.rebalanceWith(session); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) rebalanceWith(session time.Duration) (err error) {
	c := &crew{address: b.address, name: fmt.Sprintf("crew-%s", session), session: session, changed: make(chan struct{}, 1)}
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	defer c.end()
	begun := time.Now()
	mortal := exec.Command(b.binary, "consume", crewTopic, "--group", c.name, "--session-timeout", session.String(), "--server", b.address)
	if err := mortal.Start(); err != nil {
		return err
	}
	gone := func() { _ = mortal.Process.Kill(); _ = mortal.Wait() }
	defer gone()
	for range crewMembers - 1 {
		if err := c.join(ctx); err != nil {
			return err
		}
	}
	each := crewPartitions / crewMembers
	if err := c.await(func() bool { return c.owned() == crewPartitions-each }); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	took := time.Since(begun)
	report(fmt.Sprintf("%d members join at once, %d partitions", crewMembers, crewPartitions), fmt.Sprintf("everybody has what it is to have after %.2f s", took.Seconds()), "< 3 s", took < 3*time.Second)

	<-time.After(2 * time.Second)
	stops := c.stops.Load()
	killed := time.Now()
	gone()
	if err := c.await(func() bool { return c.owned() == crewPartitions }); err != nil {
		return fmt.Errorf("after kill -9: %w", err)
	}
	last := c.last().Sub(killed)
	report(fmt.Sprintf("kill -9 of one of %d members, session %s", crewMembers, session), fmt.Sprintf("its %d partitions are others' %.2f s after it; of the others %d stopped", each, last.Seconds(), c.stops.Load()-stops),
		"< session + 1 s, 0", last < session+time.Second && c.stops.Load() == stops)
	return nil
}

func (c *crew) join(ctx context.Context) error {
	cl, err := client.New(client.Config{Addresses: []string{c.address}})
	if err != nil {
		return err
	}
	m := &crewMember{client: cl, has: map[client.Partition]time.Time{}}
	gone := func(_ context.Context, all []client.TopicPartitions) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, t := range all {
			for _, p := range t.Partitions {
				delete(m.has, p)
				c.stops.Add(1)
			}
		}
		c.wake()
	}
	m.consumer, err = cl.NewConsumer(client.ConsumerConfig{Topics: []string{crewTopic}, Group: c.name, SessionTimeout: c.session, PrefetchBytes: 1 << 20, OnRevoked: gone, OnLost: gone,
		OnAssigned: func(_ context.Context, all []client.TopicPartitions) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, t := range all {
				for _, p := range t.Partitions {
					m.has[p] = time.Now()
				}
			}
			c.wake()
		}})
	if err != nil {
		return err
	}
	c.members = append(c.members, m)
	c.all.Go(func() {
		for ctx.Err() == nil {
			_, _ = m.consumer.Poll(ctx, 1000) // there is nothing to read
		}
		m.consumer.Close()
		cl.Close()
	})
	return nil
}

func (c *crew) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// await waits until something is so.
func (c *crew) await(so func() bool) error {
	patience := time.NewTimer(crewPatience)
	defer patience.Stop()
	for !so() {
		select {
		case <-c.changed:
		case <-patience.C:
			return fmt.Errorf("only %d partitions are somebody's after %s", c.owned(), crewPatience)
		}
	}
	return nil
}

func (c *crew) owned() (n int) {
	for _, m := range c.members {
		m.mu.Lock()
		n += len(m.has)
		m.mu.Unlock()
	}
	return n
}

// last is when a partition came to a member for the last time.
func (c *crew) last() (last time.Time) {
	for _, m := range c.members {
		m.mu.Lock()
		for _, since := range m.has {
			if since.After(last) {
				last = since
			}
		}
		m.mu.Unlock()
	}
	return last
}

func (c *crew) end() {
	c.stop()
	c.all.Wait()
}

const (
	committers     = 1000 // groups
	commitsOf      = 16   // positions of each
	commitInterval = 5 * time.Second
)

// pacedCommits has many groups commit at their interval, and holds the log entries against the flushes that there may be.
func (s *onStores) pacedCommits() (err error) {
	f, err := s.muster("commits", "4", "")
	defer func() { err = errors.Join(err, f.dismiss()) }()
	if err != nil {
		return err
	}
	if err := f.topic("positions", commitsOf); err != nil {
		return err
	}
	commit := committing(f.clients[0], "positions")
	if err := each(committers, 64, commit); err != nil { // groups are made
		return err
	}
	before, err := f.look()
	if err != nil {
		return err
	}
	begun := time.Now()
	rounds := max(2, int(s.duration/commitInterval))
	if err := paced(committers*rounds, commitInterval/committers, func(i int) error { return commit(i % committers) }); err != nil {
		return err
	}
	took := time.Since(begun).Seconds()
	after, err := f.look()
	if err != nil {
		return err
	}
	shards := 4.0
	entries, puts := after.entries-before.entries, requests(after.asked, "table", "put_item", "")+requests(after.asked, "table", "put_item", "commit")-requests(before.asked, "table", "put_item", "")-requests(before.asked, "table", "put_item", "commit")
	bound := shards * (4*took + 4)
	report(fmt.Sprintf("%d groups commit %d positions every %s", committers, commitsOf, commitInterval),
		fmt.Sprintf("%.1f log entries/s of all shards, %.1f table puts/s, leader CPU %.0f ms/s", float64(entries)/took, float64(puts)/took, float64((after.cpu-before.cpu).Milliseconds())/took),
		"<= 4 per shard and s", float64(entries) <= bound)
	return nil
}

// flatCommits has groups commit as fast as they can.
func (b *bench) flatCommits() error {
	c, err := client.New(client.Config{Addresses: []string{b.address}})
	if err != nil {
		return err
	}
	defer c.Close()
	const partitions, groups = 100, 64
	if _, err := c.CreateTopic(context.Background(), client.Topic{Name: "positions", Partitions: partitions}); err != nil {
		return err
	}
	var positions []client.GroupPosition
	for p := range partitions {
		positions = append(positions, client.GroupPosition{Topic: "positions", Partition: client.Partition(p)})
	}
	before, err := b.cpu()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), b.duration)
	defer cancel()
	var done atomic.Int64
	begun := time.Now()
	err = each(groups, groups, func(i int) error {
		for ctx.Err() == nil {
			if err := c.CommitOffsets(context.Background(), fmt.Sprintf("flat-%d", i), positions...); err != nil {
				return err
			}
			done.Add(partitions)
		}
		return nil
	})
	if err != nil {
		return err
	}
	took := time.Since(begun).Seconds()
	after, err := b.cpu()
	if err != nil {
		return err
	}
	rate := float64(done.Load()) / took
	report(fmt.Sprintf("%d groups commit %d positions flat out", groups, partitions), fmt.Sprintf("%.0f commits/s, broker CPU %.2f s/s", rate, (after-before).Seconds()/took), ">= 100,000", rate >= 100_000)
	return nil
}

// committing commits all positions of the group with a number.
func committing(c *client.Client, topic string) func(i int) error {
	var positions []client.GroupPosition
	for p := range commitsOf {
		positions = append(positions, client.GroupPosition{Topic: topic, Partition: client.Partition(p), Metadata: strings.Repeat("m", 8)})
	}
	return func(i int) error {
		return c.CommitOffsets(context.Background(), fmt.Sprintf("group-%04d", i), positions...)
	}
}

// each does n things, so many at a time.
func each(n, parallel int, do func(i int) error) error {
	var (
		next atomic.Int64
		all  sync.WaitGroup
		mu   sync.Mutex
		errs error
	)
	for range parallel {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := do(int(i)); err != nil {
					mu.Lock()
					errs = errors.Join(errs, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	all.Wait()
	return errs
}

// paced begins n things, one after each interval, whatever the others take.
func paced(n int, interval time.Duration, do func(i int) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	return each(n, 256, func(i int) error {
		<-tick.C
		return do(i)
	})
}
