// Package faults is the matrix of faults with real processes: agents on a real object store and a real table server, each behind a proxy
// that loses, repeats, delays and refuses requests, while clients write and read. What clients were told and what they read is compared,
// and a table of what was found is printed at the end.
//
//	go test ./test/faults -v                     each fault for a few seconds
//	go test ./test/faults -v -faults.time 5m     longer
//	go test ./test/faults -v -seed 7             other luck
//	go test ./test/faults -v -table dynalite     another table server
package faults

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
	"github.com/splashdam/splashdam/test/history"
)

var (
	faultTime   = flag.Duration("faults.time", 2*time.Second, "how long each fault lasts")
	seed        = flag.Uint64("seed", 1, "of what is left to chance")
	tableEngine = flag.String("table", string(localstack.Ministack), "the table server: ministack, dynalite or dynoxide")
)

// binary is the built program.
var binary string

// parallelTests may run at once, though they are more than the processors: they wait most of the time.
const parallelTests = 5

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) { // nobody asked for another number
		flag.Set("test.parallel", fmt.Sprint(parallelTests))
	}
	dir, err := os.MkdirTemp("", "splashdam-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := 1
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		slog.SetDefault(slog.New(slog.DiscardHandler)) // agents in this process complain of their death, each for seconds
		code = localstacktest.Tests{M: m}.Run()
	}
	os.RemoveAll(dir)
	if testing.Verbose() {
		fmt.Print(results.table())
	}
	os.Exit(code)
}

func build(dir string) error {
	binary = filepath.Join(dir, "splashdam")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/splashdam")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	return nil
}

// row is what one history showed.
type row struct {
	fault string
	seed  uint64
	history.Tally
	found    history.Findings
	recovery time.Duration // until every partition took records again; below 0: not measured
	played   int           // faults, as the proxies count them
}

// results of all histories of this run.
var results resultTable

type resultTable struct {
	mu   sync.Mutex
	rows []row // guarded by mu
}

func (r *resultTable) add(one row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, one)
}

// table is in Markdown.
func (r *resultTable) table() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rows) == 0 {
		return ""
	}
	slices.SortFunc(r.rows, func(a, b row) int { return strings.Compare(a.fault, b.fault) })
	var text strings.Builder
	text.WriteString("| fault | seed | acknowledged | unknown | failed | lost | duplicated | other anomalies | all partitions again | faults played |\n" +
		"|---|---|---|---|---|---|---|---|---|---|\n")
	var sum row
	for _, one := range r.rows {
		again := "-"
		if one.recovery >= 0 {
			again = fmt.Sprintf("%.2f s", one.recovery.Seconds())
		}
		fmt.Fprintf(&text, "| %s | %d | %d | %d | %d | %d | %d | %s | %s | %d |\n", one.fault, one.seed, one.Acked, one.Unknown, one.Failed,
			one.found.Count("lost-write"), one.found.Count("duplicate"), one.found.Names("lost-write", "duplicate"), again, one.played)
		sum.Acked, sum.Unknown, sum.Failed, sum.played = sum.Acked+one.Acked, sum.Unknown+one.Unknown, sum.Failed+one.Failed, sum.played+one.played
	}
	fmt.Fprintf(&text, "| %d histories | | %d | %d | %d | | | | | %d |\n", len(r.rows), sum.Acked, sum.Unknown, sum.Failed, sum.played)
	return text.String()
}
