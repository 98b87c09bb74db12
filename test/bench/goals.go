package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// load is what is sent flat out.
type load struct {
	partitions     int
	incompressible bool
}

func (l load) topic() string {
	if l.incompressible {
		return fmt.Sprintf("noise-%d", l.partitions)
	}
	return fmt.Sprintf("flat-%d", l.partitions)
}

func (l load) String() string {
	kind := "JSON"
	if l.incompressible {
		kind = "incompressible"
	}
	return fmt.Sprintf("flat out, %s, %d partitions", kind, l.partitions)
}

const (
	// producers of one process, flat out: five batches of one producer in one partition would not fill a segment.
	producers = "4"
	// rounds of pipe and broker in turn, of which the best of each count: a machine does other things, too.
	rounds = 2
	// steadyFor is long enough that the burst at the beginning, and snapshots, do not weigh.
	steadyFor  = 60 * time.Second
	recordsMin = 1_000_000
)

// steps are the measurements in their order.
func (s *onStores) steps() []func() error {
	flat := []load{{1, false}, {256, false}, {1, true}, {256, true}}
	steps := []func() error{s.agent("4"), s.steady}
	for _, l := range flat {
		steps = append(steps, func() error { return s.flatOut(l) })
	}
	steps = append(steps, s.spread, s.agent("20"))
	for _, partitions := range []int{1, 16, 256} {
		steps = append(steps, func() error { return s.latency(partitions) })
	}
	return append(steps, s.agent("4"), func() error { return s.catchUp(flat[0]) }, s.agent("4"), func() error { return s.catchUp(flat[3]) },
		s.agent("4"), s.secondConsumer, s.fill, s.restart(true), s.restart(false))
}

// moved is what the verbs of bench say.
type moved struct {
	Records int64   `json:"records"`
	Bytes   int64   `json:"bytes"`
	Rate    float64 `json:"bytes_per_second"`

	Ack, Segment, Table percentile
	EndToEnd            percentile `json:"end_to_end"`
	RawPut              struct {
		Rate float64 `json:"bytes_per_second"`
	} `json:"raw_put"`
	RawGet struct {
		Rate float64 `json:"bytes_per_second"`
	} `json:"raw_get"`
	Requests []struct {
		Store, Kind, Cause string
		Requests           int64
	} `json:"store_requests"`
}

type percentile struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// requests counts those of some causes to a store.
func (m moved) requests(store, kind string, causes ...string) (n int64) {
	for _, r := range m.Requests {
		if r.Store == store && r.Kind == kind && slices.Contains(causes, r.Cause) {
			n += r.Requests
		}
	}
	return n
}

const mib, gib = 1 << 20, 1 << 30

func perGiB(x float64, bytes int64) float64 { return x / float64(bytes) * gib }

// flatOut compares the broker with the minimal pipe on the same stores, in turn.
func (s *onStores) flatOut(l load) error {
	var pipe, broker, cost, rawPut float64
	flags := slices.Clip([]string{"--partitions", strconv.Itoa(l.partitions), "--incompressible=" + strconv.FormatBool(l.incompressible)})
	for range rounds {
		var p, b moved
		// The goal is set against PUTs of 4 MiB; the agent seals at 8 MiB, which costs the store less.
		if err := s.verb(&p, "pipe", append(append(flags, "--segment", "4MiB"), s.stores...)...); err != nil {
			return err
		}
		used, err := s.cost(func() error {
			return s.verb(&b, "produce", append(flags, "--topic", l.topic(), "--producers", producers)...)
		})
		if err != nil {
			return err
		}
		pipe, rawPut, s.rawGet = max(pipe, p.Rate), max(rawPut, p.RawPut.Rate), max(s.rawGet, p.RawGet.Rate)
		s.stored[l.topic()] += b.Records
		if b.Rate > broker {
			broker, cost = b.Rate, perGiB(used.Seconds(), b.Bytes)
		}
	}
	s.best[l] = broker
	report(l.String(), fmt.Sprintf("%.0f MiB/s; pipe %.0f MiB/s; ratio %.2f; raw PUT %.0f MiB/s", broker/mib, pipe/mib, broker/pipe, rawPut/mib), ">= 0.8 of the pipe", broker >= 0.8*pipe)
	report("  agent CPU", fmt.Sprintf("%.2f s/GiB produced", cost), "<= 3 s/GiB", cost <= 3)
	return nil
}

// spread compares 256 partitions with one.
func (s *onStores) spread() error {
	for _, incompressible := range []bool{false, true} {
		one, many := s.best[load{1, incompressible}], s.best[load{256, incompressible}]
		report(load{256, incompressible}.String(), fmt.Sprintf("%.2f of the rate with 1 partition", many/one), ">= 0.85", many >= 0.85*one)
	}
	return nil
}

// steady counts store requests at 1 MiB/s and 4 flushes a second.
func (s *onStores) steady() error {
	var r moved
	if err := s.verb(&r, "produce", "--topic", "steady", "--partitions", "16", "--rate", "1024", "--duration", steadyFor.String()); err != nil {
		return err
	}
	s.stored["steady"] += r.Records
	flushes := perGiB(float64(r.requests("bucket", "put", "flush")), r.Bytes)
	snapshots := perGiB(float64(r.requests("bucket", "put", "snapshot")), r.Bytes)
	commits := perGiB(float64(r.requests("table", "put_item", "commit")), r.Bytes)
	report("1 MiB/s, 4 flushes/s, 16 partitions of one shard", fmt.Sprintf("per GiB %.0f PUT for flushes, %.0f for snapshots, %.0f table writes of commits", flushes, snapshots, commits),
		"<= 4,200 of each", flushes+snapshots <= 4200 && commits <= 4200)
	return nil
}

// latency measures acknowledgements at 1 MiB/s and 20 flushes a second, and beside them what the stores take for as many puts as large.
func (s *onStores) latency(partitions int) error {
	for range rounds {
		var r, stores moved
		beside := make(chan error, 1)
		go func() {
			beside <- s.verb(&stores, "pipe", append(s.stores, "--rate", "20", "--segment", "32KiB")...)
		}()
		err := s.verb(&r, "e2e", "--topic", fmt.Sprintf("low-%d", partitions), "--partitions", strconv.Itoa(partitions), "--rate", "1024", "--duration", (2 * s.duration).String())
		if besides := <-beside; err == nil {
			err = besides
		}
		if err != nil {
			return err
		}
		s.stored[fmt.Sprintf("low-%d", partitions)] += r.Records
		bound := 1.5 * (50 + stores.Segment.P99 + stores.Table.P99)
		report(fmt.Sprintf("20 flushes/s, 1 MiB/s, %d partitions", partitions),
			fmt.Sprintf("acknowledged p50 %.1f, p99 %.1f ms; PUT p99 %.1f, put p99 %.1f ms", r.Ack.P50, r.Ack.P99, stores.Segment.P99, stores.Table.P99),
			fmt.Sprintf("p99 <= %.1f ms", bound), r.Ack.P99 <= bound)
		behind := r.EndToEnd.P99 - r.Ack.P99
		report("  received", fmt.Sprintf("p50 %.1f, p99 %.1f ms: %.1f ms behind", r.EndToEnd.P50, r.EndToEnd.P99, behind), "<= 20 ms behind", behind <= 20)
	}
	return nil
}

// catchUp reads a topic from an agent that has cached nothing of it, and compares the stored bytes it took with plain gets.
func (s *onStores) catchUp(l load) error {
	out, err := exec.Command(s.binary, "topic", "describe", l.topic(), "-o", "json", "--server", s.address).Output()
	if err != nil {
		return fmt.Errorf("describe %s: %w", l.topic(), err)
	}
	var topic struct {
		Partitions []struct {
			Bytes int64 `json:"stored_bytes"`
		} `json:"partition_details"`
	}
	if err := json.Unmarshal(out, &topic); err != nil {
		return err
	}
	var stored int64
	for _, p := range topic.Partitions {
		stored += p.Bytes
	}
	var r moved
	used, err := s.cost(func() error { return s.verb(&r, "consume", "--topic", l.topic()) })
	if err != nil {
		return err
	}
	of := float64(stored) * r.Rate / float64(r.Bytes)
	report(strings.Replace(l.String(), "flat out", "catch-up read", 1),
		fmt.Sprintf("%.0f MiB/s of records, %.0f MiB/s stored; raw GET %.0f MiB/s; ratio %.2f", r.Rate/mib, of/mib, s.rawGet/mib, of/s.rawGet), ">= 0.5 of raw GET", of >= 0.5*s.rawGet)
	cost := perGiB(used.Seconds(), r.Bytes)
	report("  agent CPU", fmt.Sprintf("%.2f s/GiB fetched", cost), "<= 2 s/GiB", cost <= 2)
	return nil
}

// secondConsumer reads a topic that fits into the cache twice.
func (s *onStores) secondConsumer() error {
	var first, second moved
	for _, r := range []*moved{&first, &second} {
		if err := s.verb(r, "consume", "--topic", "steady"); err != nil {
			return err
		}
	}
	a, b := first.requests("bucket", "get", "read"), second.requests("bucket", "get", "read")
	report("second consumer of the same data", fmt.Sprintf("first %d GET, second %d GET", a, b), "no GET", a > 0 && b == 0)
	return nil
}

// fill sends small records until there are enough in all.
func (s *onStores) fill() error {
	for s.records() < recordsMin {
		var r moved
		if err := s.verb(&r, "produce", "--topic", "flat-256", "--size", "64", "--producers", producers); err != nil {
			return err
		}
		s.stored["flat-256"] += r.Records
	}
	return nil
}

// cost is the CPU time that the agent takes for a measurement.
func (s *onStores) cost(measure func() error) (time.Duration, error) {
	before, err := s.cpu()
	if err != nil {
		return 0, err
	}
	if err := measure(); err != nil {
		return 0, err
	}
	after, err := s.cpu()
	return after - before, err
}
