// Failover measures how long clients stand still when an agent dies, vanishes, freezes or stops: three agents on a real object store and a
// real table server behind a real load balancer, idempotent producers that never pause, readers at the end of the log, and plain unary calls
// that nobody repeats. What was acknowledged is read back through each agent at the end. It exits with 1 if a goal is missed, or if anything
// is lost or there twice.
//
//	go run ./test/failover -kill 100       kill -9 of a shard's leader
//	go run ./test/failover -gone 50        its machine is gone: packets are dropped, nothing is refused (Linux, root)
//	go run ./test/failover -handoff 100    SIGTERM
//	go run ./test/failover -pause 3        SIGSTOP for twenty times the lease
//	go run ./test/failover -rolling 5      one agent after the other is restarted
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/splashdam/splashdam/localstack"
)

// settings are the flags.
type settings struct {
	rounds     map[mode]*int
	engine     string
	folder     string
	binary     string
	direct     bool
	goneBy     string
	flushRate  string
	partitions int
	every      time.Duration
	seed       uint64
	output     string
}

func main() {
	s := settings{rounds: map[mode]*int{}}
	for _, m := range modes {
		s.rounds[m] = flag.Int(string(m), 0, "rounds of "+m.meaning())
	}
	flag.StringVar(&s.engine, "table", string(localstack.Dynoxide), "the table server: dynoxide, dynalite or ministack")
	flag.StringVar(&s.folder, "folder", "/dev/shm", "where the stores and the logs are, in a folder of their own")
	flag.StringVar(&s.binary, "binary", "", "the splashdam to measure; empty: build it")
	flag.BoolVar(&s.direct, "direct", false, "clients know the agents and go without the balancer; no plain calls")
	flag.StringVar(&s.goneBy, "gone-by", "net", "net: the agents have networks of their own that are unplugged; stop: SIGSTOP, which leaves a kernel that accepts")
	flag.StringVar(&s.flushRate, "flush-rate", "20", "of the agents")
	flag.IntVar(&s.partitions, "partitions", 32, "written to, of 256; a multiple of the shards, at most 192")
	flag.DurationVar(&s.every, "every", 50*time.Millisecond, "between the records of one partition")
	flag.Uint64Var(&s.seed, "seed", 1, "of the pauses between the rounds")
	flag.StringVar(&s.output, "o", "text", "text or json")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := s.run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func (s settings) validate() error {
	total := 0
	for m, n := range s.rounds {
		if *n < 0 {
			return fmt.Errorf("-%s %d: want 0 or more", m, *n)
		}
		total += *n
	}
	switch {
	case total == 0:
		return fmt.Errorf("nothing to do: want one of -kill, -gone, -handoff, -pause, -rolling")
	case s.partitions < shards || s.partitions%shards != 0 || s.partitions > 48*shards:
		return fmt.Errorf("-partitions %d: want a multiple of %d, %d to %d", s.partitions, shards, shards, 48*shards)
	case s.every < time.Millisecond || s.every > 10*time.Second:
		return fmt.Errorf("-every %v: want 1ms to 10s", s.every)
	case s.goneBy != "net" && s.goneBy != "stop":
		return fmt.Errorf("-gone-by %q: want net or stop", s.goneBy)
	case s.output != "text" && s.output != "json":
		return fmt.Errorf("-o %q: want text or json", s.output)
	}
	return nil
}

// run measures everything that is asked for, on one cluster.
func (s settings) run(ctx context.Context) (ok bool, err error) {
	if err := s.validate(); err != nil {
		return false, err
	}
	var bound time.Duration
	for m, n := range s.rounds {
		bound += time.Duration(*n) * m.bound()
	}
	ctx, cancel := context.WithTimeout(ctx, bound+overhead)
	defer cancel()
	c, err := s.newCluster(ctx)
	if err != nil {
		return false, err
	}
	defer c.close()
	l, err := startLoad(ctx, c, s)
	if err != nil {
		return false, err
	}
	t := trial{settings: s, c: c, l: l, chance: newChance(s.seed)}
	playErr := t.play(ctx)
	t.report.finish(ctx, l, c)
	if err := t.report.print(os.Stdout, s.output); err != nil {
		return false, err
	}
	return playErr == nil && t.report.ok(), playErr
}
