package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/splashdam/splashdam/localstack"
)

// stores are the servers and the program that all histories share; each history has a table and a prefix of its own.
type stores struct {
	objects, table *localstack.Server
	binary         string
	folder         string           // of a program that was built
	ports          localstack.Ports // of agents, which are down at times
}

// startStores starts the servers, with their credentials in the environment, and builds the program if none is given.
func startStores(ctx context.Context, engine, binary string) (s *stores, err error) {
	s = &stores{binary: binary}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "SPLASHDAM_") {
			os.Unsetenv(name) // settings of whoever starts this
		}
	}
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": localstack.AccessKey, "AWS_SECRET_ACCESS_KEY": localstack.SecretKey,
		"AWS_REGION": localstack.Region, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": ""} {
		os.Setenv(name, value)
		if value == "" {
			os.Unsetenv(name)
		}
	}
	if binary == "" {
		if err := s.build(ctx); err != nil {
			return s, err
		}
	}
	if s.objects, err = localstack.Start(ctx, localstack.Config{Engine: localstack.MinIO}); err != nil {
		return s, err
	}
	s.table, err = localstack.Start(ctx, localstack.Config{Engine: localstack.Engine(engine)})
	return s, err
}

func (s *stores) build(ctx context.Context) (err error) {
	if s.folder, err = os.MkdirTemp("", "nemesis-build-"); err != nil {
		return err
	}
	s.binary = filepath.Join(s.folder, "splashdam")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", s.binary, "github.com/splashdam/splashdam/cmd/splashdam").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build splashdam: %w: %s", err, out)
	}
	return nil
}

func (s *stores) close() error {
	var errs []error
	for _, server := range []*localstack.Server{s.table, s.objects} {
		if server != nil {
			errs = append(errs, server.Stop())
		}
	}
	if s.folder != "" {
		errs = append(errs, os.RemoveAll(s.folder))
	}
	return errors.Join(errs...)
}

// late says whether it is too late to begin another history.
func (s settings) late(began time.Time) bool { return s.within > 0 && time.Since(began) > s.within }

// play plays all histories, some at once, and says of each how it went.
func (s settings) play(ctx context.Context, stores *stores, chosen []fault, out io.Writer) (results []result) {
	n := s.histories
	if n == 0 {
		n = len(chosen)
	}
	plans := make(chan plan)
	var playing sync.WaitGroup
	var mu sync.Mutex // of results and out
	for range min(s.parallel, n) {
		playing.Go(func() {
			for p := range plans {
				res := p.play(ctx, stores, s.out, s.keep)
				mu.Lock()
				results = append(results, res)
				fmt.Fprintf(out, "%d of %d: %s, seed %d: %d acknowledged, %d read, %d rounds, %d requests disturbed, anomalies: %s\n", len(results), n, p.fault.name, p.seed,
					res.tally.Acked, res.tally.Read, res.played, res.requests, res.findings.Names())
				res.complain(out, s.engine)
				mu.Unlock()
			}
		})
	}
	for began, i := time.Now(), 0; i < n && ctx.Err() == nil && !s.late(began); i++ {
		plans <- plan{fault: chosen[i%len(chosen)], seed: s.seed + uint64(i), duration: s.duration, agents: s.agents, rate: sendEvery}
	}
	close(plans)
	playing.Wait()
	return results
}
