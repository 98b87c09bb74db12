package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/test/history"
)

const (
	// registerClients and registerOps keep a history decidable: 6 clients with 16 operations each.
	registerClients = 6
	registerOps     = 16
	// registersAtOnce is how many histories are played together on one cluster.
	registersAtOnce = 32
	// registersPerTopic is how many partitions a topic has, each with one history.
	registersPerTopic = 64
	// callTimeout is when a client gives up: the outcome is unknown then.
	callTimeout   = 10 * time.Second
	decideTimeout = 20 * time.Second
	progressEvery = 100
)

// registerResult counts what became of histories of one partition each.
type registerResult struct {
	linearizable, wrong, undecided atomic.Int64
	ops, unknown, done             atomic.Int64
}

// registers plays short histories of one partition each, many at once, on one cluster with random faults, and has each decided.
func (s settings) registers(ctx context.Context, stores *stores, out io.Writer) (bool, error) {
	n := s.histories
	if n == 0 {
		n = 2000
	}
	folder := filepath.Join(s.out, "register")
	c, err := newCluster(ctx, stores, fmt.Sprintf("nemesis-%x", time.Now().UnixMicro()), folder, s.agents, slotsFew, s.seed)
	if err != nil {
		return false, err
	}
	defer c.close()
	began := time.Now()
	h := history.New() // of what happens to the cluster
	faulting, stop := context.WithCancel(ctx)
	var nemesis sync.WaitGroup
	nemesis.Go(func() { s.disturb(faulting, c, h) })

	var res registerResult
	numbers := make(chan int)
	var playing sync.WaitGroup
	var mu sync.Mutex // of out
	topics := &topicMaker{c: c}
	for range min(n, registersAtOnce) {
		playing.Go(func() {
			for i := range numbers {
				ops, err := s.register(ctx, c, topics, i)
				if err != nil && ctx.Err() == nil {
					err = fmt.Errorf("register %d: %w", i, err)
				}
				verdict, why := history.Linearize(ops, decideTimeout)
				if err != nil {
					verdict = history.Undecided
				}
				if done := res.add(verdict, ops); done%progressEvery == 0 {
					fmt.Fprintf(out, "%d of %d decided after %s\n", done, n, time.Since(began).Round(time.Second))
				}
				if verdict != history.Linearizable {
					mu.Lock()
					fmt.Fprintf(out, "history %d is %s (%v), logs: %s\n%s", i, verdict, err, folder, history.Explain(why))
					mu.Unlock()
					os.WriteFile(filepath.Join(folder, fmt.Sprintf("register-%d.txt", i)), []byte(history.Explain(ops)), 0o644)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil && !s.late(began); i++ {
		numbers <- i
	}
	close(numbers)
	playing.Wait()
	stop()
	nemesis.Wait()
	err = write(filepath.Join(folder, "faults.jsonl"), h)
	fmt.Fprintf(out, "| histories | operations | of unknown outcome | linearizable | not | undecided | time | disturbed requests |\n|---|---|---|---|---|---|---|---|\n"+
		"| %d | %d | %d | %d | %d | %d | %s | %d |\n", res.done.Load(), res.ops.Load(), res.unknown.Load(), res.linearizable.Load(), res.wrong.Load(), res.undecided.Load(),
		time.Since(began).Round(time.Second), c.played())
	ok := res.done.Load() > 0 && res.linearizable.Load() == res.done.Load()
	if ok && !s.keep {
		os.RemoveAll(folder)
	}
	return ok, errors.Join(err, ctx.Err())
}

// add counts a history, and answers how many there are now.
func (r *registerResult) add(v history.Verdict, ops []history.Op) int64 {
	switch v {
	case history.Linearizable:
		r.linearizable.Add(1)
	case history.NotLinearizable:
		r.wrong.Add(1)
	default:
		r.undecided.Add(1)
	}
	r.ops.Add(int64(len(ops)))
	for _, o := range ops {
		if o.Unknown {
			r.unknown.Add(1)
		}
	}
	return r.done.Add(1)
}

// disturb plays random faults until ctx ends, short ones with quiet between, and heals.
func (s settings) disturb(ctx context.Context, c *cluster, h *history.History) {
	chance := rand.New(rand.NewPCG(s.seed, 2))
	chosen := s.chosen()
	const span = 2 * time.Second
	for pause(ctx, span) {
		r := &round{cluster: c, h: h, chance: chance, span: span}
		bounded, cancel := context.WithTimeout(ctx, 4*span) // no fault may keep histories waiting for long
		r.ctx = bounded
		f := chosen[chance.IntN(len(chosen))]
		h.Note("%s", f.name)
		f.play(r)
		cancel()
		c.heal()
		h.Note("healed")
	}
	c.heal()
}

// topicMaker makes the topics whose partitions are the histories' logs.
type topicMaker struct {
	c *cluster

	mu   sync.Mutex // held while one is made: others want the same
	made map[string]bool
}

// place is the topic and partition of a history, which is there.
func (m *topicMaker) place(ctx context.Context, i int) (string, client.Partition, error) {
	name := fmt.Sprintf("register-%d", i/registersPerTopic)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.made[name] {
		return name, client.Partition(i % registersPerTopic), nil
	}
	c, err := client.New(client.Config{Addresses: m.c.balanced()})
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	if !until(ctx, 2*time.Minute, func() bool {
		if _, err = c.CreateTopic(ctx, client.Topic{Name: name, Partitions: registersPerTopic}); err == nil {
			return true
		}
		t, _, failed := c.Topic(ctx, name) // it may be there all the same
		return failed == nil && t.State == "active"
	}) {
		return "", 0, fmt.Errorf("make topic %s: %w", name, err)
	}
	if m.made == nil {
		m.made = map[string]bool{}
	}
	m.made[name] = true
	return name, client.Partition(i % registersPerTopic), nil
}

// register plays the history of one partition.
func (s settings) register(ctx context.Context, c *cluster, topics *topicMaker, i int) ([]history.Op, error) {
	topic, partition, err := topics.place(ctx, i)
	if err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	var lists [registerClients][]history.Op
	var errs [registerClients]error
	began := time.Now()
	for n := range registerClients {
		all.Go(func() {
			addresses := c.balanced()
			if n%2 == 1 { // half of the clients each stay with one agent
				addresses = []string{c.agents[n%len(c.agents)].clients.Address}
			}
			r := &registrar{topic: topic, partition: partition, number: n, began: began, chance: rand.New(rand.NewPCG(s.seed, uint64(i*registerClients+n)))}
			lists[n], errs[n] = r.play(ctx, addresses)
		})
	}
	all.Wait()
	var ops []history.Op
	for _, list := range lists {
		ops = append(ops, list...)
	}
	return ops, errors.Join(errs[:]...)
}
