// Nemesis plays the matrix of faults with several real agents: processes on a real object store and a real table server, each agent behind
// proxies of its own to both stores, to its clients and to the other agents. Clients write, read and administer meanwhile; what they were
// told and what they read is judged at the end, and a table of what was found is printed. It exits with 1 if there was any anomaly.
//
//	go run ./test/nemesis                                        each fault once, two minutes each
//	go run ./test/nemesis -histories 100 -parallel 4             each about three times
//	go run ./test/nemesis -duration 20s -histories 1000 -within 6m   as many short ones as the time allows
//	go run ./test/nemesis -fault 'F02 kill -9 of a leader' -seed 7 -keep
//	go run ./test/nemesis -workload register -histories 2000     many short histories of one partition each, decided by porcupine
//	go run ./test/nemesis -check folder/history.jsonl            judge a kept history again
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/test/history"
)

// settings are the flags.
type settings struct {
	seed      uint64
	histories int
	duration  time.Duration
	agents    int
	engine    string
	parallel  int
	within    time.Duration
	fault     string
	workload  string
	binary    string
	out       string
	keep      bool
	check     string
}

func main() {
	var s settings
	flag.Uint64Var(&s.seed, "seed", 1, "of the first history; the next ones count up")
	flag.IntVar(&s.histories, "histories", 0, "how many, going round the faults; 0: one of each")
	flag.DurationVar(&s.duration, "duration", 2*time.Minute, "of the faults of one history")
	flag.IntVar(&s.agents, "agents", 3, "of each history")
	flag.StringVar(&s.engine, "table", string(localstack.Ministack), "the table server: ministack, dynalite or dynoxide")
	flag.IntVar(&s.parallel, "parallel", 4, "histories at once")
	flag.DurationVar(&s.within, "within", 0, "no history begins later than that; 0: all are played")
	flag.StringVar(&s.fault, "fault", "all", "those whose name begins so, several with ; between, or all")
	flag.StringVar(&s.workload, "workload", "log", "log, or register: short histories of one partition each under random faults")
	flag.StringVar(&s.binary, "binary", "", "the splashdam to play with; empty: build it")
	flag.StringVar(&s.out, "out", "", "folder for logs; empty: a temporary one")
	flag.BoolVar(&s.keep, "keep", false, "keep logs of histories without anomaly too")
	flag.StringVar(&s.check, "check", "", "judge the history in this file instead of playing any")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := s.run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nemesis:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func (s settings) run(ctx context.Context) (ok bool, err error) {
	if s.check != "" {
		return judge(s.check)
	}
	chosen := s.chosen()
	if len(chosen) == 0 {
		return false, fmt.Errorf("no fault's name begins with %q", s.fault)
	}
	if s.out == "" {
		if s.out, err = os.MkdirTemp("", "nemesis-"); err != nil {
			return false, err
		}
		defer os.Remove(s.out) // if nothing was kept in it
	}
	stores, err := startStores(ctx, s.engine, s.binary)
	if err != nil {
		return false, err
	}
	defer stores.close()
	if s.workload == "register" {
		return s.registers(ctx, stores, os.Stdout)
	}
	results := s.play(ctx, stores, chosen, os.Stdout)
	fmt.Print("\n", table(results))
	ok = ctx.Err() == nil
	for _, r := range results {
		ok = ok && r.ok()
	}
	return ok, ctx.Err()
}

func (s settings) chosen() (some []fault) {
	for _, f := range faults() {
		for _, name := range strings.Split(s.fault, ";") {
			if name == "all" || strings.HasPrefix(f.name, name) {
				some = append(some, f)
				break
			}
		}
	}
	return some
}

func judge(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	events, err := history.ReadEvents(f)
	if err != nil {
		return false, err
	}
	findings := history.Check(events)
	fmt.Printf("%d events, anomalies: %s\n%s", len(events), findings.Names(), findings)
	return len(findings) == 0, nil
}
