// Command bench measures the broker against the limit of the machine it runs on, by the verbs of the real binary: the
// minimal pipe and the broker in turn, start, idle memory, CPU per GiB, acknowledgements at a low rate, catch-up reads. With -stores it
// does so on real stores, which it starts, and prints each figure beside its goal; with -many, three agents on such stores; with -work, groups
// and queues.
//
//	go run ./test/bench -folder /disk/to/measure -duration 10s
//	go run ./test/bench -stores minio+dynoxide
//	go run ./test/bench -many -duration 20s
//	go run ./test/bench -work
//	go run ./test/bench -work -stores minio+dynoxide
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

func main() {
	folder := flag.String("folder", ".", "a folder on the disk to be measured")
	duration := flag.Duration("duration", 5*time.Second, "of each measurement")
	engines := flag.String("stores", "", "object store and table server, such as minio+dynoxide, minio+ministack or minio+dynalite; empty: the embedded stores")
	many := flag.Bool("many", false, "measure three agents, on minio+dynoxide unless -stores says otherwise")
	work := flag.Bool("work", false, "measure groups and queues")
	flag.Parse()
	if *many && *engines == "" {
		*engines = "minio+dynoxide"
	}
	if err := run(*folder, *engines, *many, *work, *duration); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(folder, engines string, many, work bool, duration time.Duration) error {
	dir, err := os.MkdirTemp(folder, "splashdam-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, data: filepath.Join(dir, "data"), binary: filepath.Join(dir, "splashdam"), duration: duration}
	if out, err := exec.Command("go", "build", "-o", b.binary, "./cmd/splashdam").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	if engines != "" {
		return runOnStores(b, engines, many, work)
	}
	b.args = []string{"dev", "--data", b.data, "--listen", "127.0.0.1:0"}
	steps := []func() error{b.start, b.idle, b.lowRate, b.flatOut(1), b.flatOut(256), b.stop, b.start, b.catchUp, b.stop}
	if work {
		steps = []func() error{b.start, b.flatCommits, b.rebalance, func() error { return b.desk(20_000) }, b.stop}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return errors.Join(err, b.stop())
		}
	}
	return nil
}
