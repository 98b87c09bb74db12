package agent

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// transcript collects the requests of both stores in one list. Leases, snapshots and the replay of rings are left out: they go by
// the clock, and the shard log has transcripts of its own.
type transcript struct {
	mu    sync.Mutex
	lines strings.Builder
}

type prefixed struct {
	to     *transcript
	prefix string
}

func (p prefixed) Write(b []byte) (int, error) {
	p.to.mu.Lock()
	defer p.to.mu.Unlock()
	for line := range strings.Lines(string(b)) {
		if line = normal(line); !regexp.MustCompile(`lease|snap/|^get ring`).MatchString(line) {
			p.to.lines.WriteString(p.prefix + line)
		}
	}
	return len(b), nil
}

var _ io.Writer = prefixed{}

func record(s stores) *transcript {
	tr := &transcript{}
	s.bucket.Transcript, s.table.Transcript = prefixed{tr, "bucket: "}, prefixed{tr, "table:  "}
	return tr
}

// take answers what was collected since the last time.
func (tr *transcript) take() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	text := tr.lines.String()
	tr.lines.Reset()
	return text
}

// normal takes what is random out of a line: UUIDs, spread, and which shard's ring and slot it was.
func normal(line string) string {
	for _, r := range []struct{ find, replace string }{
		{`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "<uuid>"},
		{`seg/[0-9a-f]{2}/`, "seg/<spread>/"},
		{`-[0-9a-f]{8}\.seg`, "-<random>.seg"},
		{`ring#<uuid>#\d+ \d{6}`, "ring#<uuid>#<n> <slot>"},
		{`<slot> rev -?\d+ \d+ bytes if rev -?\d+`, "<slot> rev <seq> if rev <seq - slots>"},
	} {
		line = regexp.MustCompile(r.find).ReplaceAllString(line, r.replace)
	}
	return line
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wanted, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(wanted) {
		t.Errorf("%s: requests\n%swant\n%s(go test ./agent -update rewrites the file)", path, got, wanted)
	}
}

// fixedConfig is testConfig with a clock that stands still, so that encoded records have one size.
func fixedConfig(shards int) Config {
	cfg := testConfig()
	cfg.Shards = shards
	cfg.Wall = func() objectlog.Timestamp { return 1_700_000_000_000 }
	return cfg
}

func TestFlushIsOnePutAndOneConditionalPutPerShardTouched(t *testing.T) {
	var got strings.Builder
	for _, partitions := range []int{1, 16, 256, 4096} {
		s := newStores()
		tr := record(s)
		a := start(t, s, fixedConfig(4))
		a.topic(t, "orders", int32(partitions))
		tr.take()
		var r ProduceRequest
		r.Producer.ID = objectlog.NoProducer
		for p := range partitions {
			r.Batches = append(r.Batches, values("orders", objectlog.Partition(p), "a record"))
		}
		for i, result := range a.Submit(t.Context(), r).Wait(t.Context()) {
			if result.Err != nil {
				t.Fatalf("partition %d: %v", i, result.Err)
			}
		}
		fmt.Fprintf(&got, "one record for each of %d partitions\n%s", partitions, tr.take())
		a.stop()
	}
	golden(t, "flush.txt", got.String())
}

func TestRequestsOfStartAndFetch(t *testing.T) {
	s := newStores()
	tr := record(s)
	a := start(t, s, fixedConfig(1))
	got := "first start\n" + tr.take()
	a.topic(t, "orders", 1)
	got += "create a topic\n" + tr.take()
	a.produce(t, values("orders", 0, "one", "two"))
	got += "produce\n" + tr.take()
	a.read(t, "orders", 0, 0, 2)
	got += "fetch what was written here\n" + tr.take()
	a.stop()
	got += "stop\n" + tr.take()
	a = start(t, s, fixedConfig(1))
	got += "restart\n" + tr.take()
	a.read(t, "orders", 0, 0, 2)
	got += "fetch cold\n" + tr.take()
	a.read(t, "orders", 0, 0, 2)
	got += "fetch cached\n" + tr.take()
	golden(t, "start-and-fetch.txt", got)
}
