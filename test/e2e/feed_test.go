package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/test/matches"
)

var records = flag.Int("records", 100_000, "records of the feed that is sent and read back")

const feedPartitions = 3

// ledger is what a topic must hold in the end: per partition, the lines in order.
type ledger struct {
	feed       *matches.Feed
	partitions [feedPartitions][]string
}

func newLedger(seed uint64) *ledger { return &ledger{feed: matches.New(seed, feedPartitions)} }

// draw is the next event of the feed, entered into the ledger.
func (l *ledger) draw() (partition int, key, line string) {
	e := l.feed.Next()
	p := int(objectlog.PartitionFor([]byte(e.Match), feedPartitions))
	line = string(e.Line)
	l.partitions[p] = append(l.partitions[p], line)
	return p, e.Match, line
}

func (l *ledger) lines(n int) io.Reader {
	var b bytes.Buffer
	for range n {
		_, _, line := l.draw()
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return &b
}

// check reads the whole topic back and compares record by record.
func (l *ledger) check(t *testing.T, b *broker, topic string) {
	t.Helper()
	var next [feedPartitions]int
	out := b.mustRun(nil, "consume", topic, "--from", "earliest", "-o", "json")
	lines := bufio.NewScanner(strings.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r struct {
			Partition  int
			Offset     int
			Key, Value string
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("consume printed %.200q: %v", lines.Text(), err)
		}
		want := l.partitions[r.Partition]
		switch at := next[r.Partition]; {
		case r.Offset != at:
			t.Fatalf("%s/%d: offset %d follows %d", topic, r.Partition, r.Offset, at-1)
		case at >= len(want):
			t.Fatalf("%s/%d: offset %d is more than the %d records sent: %s", topic, r.Partition, r.Offset, len(want), r.Value)
		case r.Value != want[at]:
			t.Fatalf("%s/%d: offset %d holds\n%s\nwant\n%s", topic, r.Partition, r.Offset, r.Value, want[at])
		case !strings.Contains(r.Value, `"match":"`+r.Key+`"`):
			t.Fatalf("%s/%d: offset %d has key %q: %s", topic, r.Partition, r.Offset, r.Key, r.Value)
		}
		next[r.Partition]++
	}
	for p, want := range l.partitions {
		if next[p] != len(want) {
			t.Errorf("%s/%d: read %d records, sent %d", topic, p, next[p], len(want))
		}
	}
}

// appendOver sends one record over HTTP, to be appended exactly at its place in the ledger.
func (b *broker) appendOver(topic string, partition int, key, line string, expected int) (actual string, err error) {
	text, err := json.Marshal(line)
	if err != nil {
		return "", err
	}
	status, answer, err := b.call("LogService/Produce", fmt.Sprintf(
		`{"batches":[{"topic":%q,"partition":%d,"expectedNextOffset":"%d","records":{"records":[{"key":{"text":%q},"value":{"text":%s}}]}}]}`,
		topic, partition, expected, key, text))
	if err != nil {
		return "", err
	}
	results, _ := answer["results"].([]any)
	if status != 200 || len(results) != 1 {
		return "", fmt.Errorf("append to %s/%d at %d: status %d: %v", topic, partition, expected, status, answer)
	}
	result := results[0].(map[string]any)
	if failure, ok := result["error"].(map[string]any); ok {
		metadata, _ := failure["metadata"].(map[string]any)
		actual, _ = metadata["actual"].(string)
		return actual, fmt.Errorf("append to %s/%d at %d: %v", topic, partition, expected, failure["reason"])
	}
	positions, _ := result["positions"].([]any)
	if len(positions) != 1 || positions[0].(map[string]any)["offset"] != fmt.Sprint(expected) {
		return "", fmt.Errorf("append to %s/%d at %d: acknowledged at %v", topic, partition, expected, result["positions"])
	}
	return "", nil
}

func TestFeedIsReadBackRecordByRecord(t *testing.T) {
	b := startBroker(t, filepath.Join(t.TempDir(), "data"), "")
	b.mustRun(nil, "topic", "create", "matches", "--partitions", fmt.Sprint(feedPartitions))
	l := newLedger(1)
	byHTTP := 200
	first := (*records - byHTTP) / 2
	b.mustRun(l.lines(first), "produce", "matches", "--key-field", "match")
	for range byHTTP {
		p, key, line := l.draw()
		at := len(l.partitions[p]) - 1
		if _, err := b.appendOver("matches", p, key, line, at); err != nil {
			t.Fatal(err)
		}
		// The same call again finds the place taken, and says where the log has got to.
		if actual, err := b.appendOver("matches", p, key, line, at); err == nil || actual != fmt.Sprint(at+1) {
			t.Fatalf("the same append again: actual %q, %v; want a mismatch at %d", actual, err, at+1)
		}
	}
	b.mustRun(l.lines(*records-byHTTP-first), "produce", "matches", "--key-field", "match", "--compression", "zstd")
	l.check(t, b, "matches")

	folder, address := b.folder, b.address
	b.stop()
	b = startBroker(t, folder, address)
	l.check(t, b, "matches")
}

const kills = 10

func TestAcknowledgedRecordsSurviveTenKills(t *testing.T) {
	folder, address := filepath.Join(t.TempDir(), "data"), freeAddress(t)
	b := startBroker(t, folder, address)
	b.mustRun(nil, "topic", "create", "matches", "--partitions", fmt.Sprint(feedPartitions))
	b.mustRun(nil, "topic", "create", "audit", "--partitions", fmt.Sprint(feedPartitions))

	// One producer process lives through all the kills; a second writer appends over HTTP where it says the log must be.
	killed := make(chan struct{})
	feed, audit := newLedger(2), newLedger(3)
	produced, audited := make(chan ran, 1), make(chan error, 1)
	pr, pw := io.Pipe()
	go func() { produced <- b.run(pr, "produce", "matches", "--key-field", "match") }()
	go feedUntil(pw, feed, killed)
	go func() { audited <- auditUntil(b, audit, killed) }()

	random := rand.New(rand.NewPCG(4, 4))
	for i := range kills {
		<-time.After(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
		b.kill()
		b = startBroker(t, folder, address)
		t.Logf("kill %d: ready again after %s", i+1, b.ready)
	}
	close(killed)
	if r := <-produced; r.code != 0 {
		t.Fatalf("produce: exit %d: %s", r.code, r.stderr)
	}
	if err := <-audited; err != nil {
		t.Fatal(err)
	}
	feed.check(t, b, "matches")
	audit.check(t, b, "audit")
	b.stop()
	b = startBroker(t, folder, address)
	feed.check(t, b, "matches")
	audit.check(t, b, "audit")
}

// feedUntil writes the feed at a pace that outlasts the kills, at least the number of records asked for.
func feedUntil(w *io.PipeWriter, l *ledger, killed <-chan struct{}) {
	const chunk = 500
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n += chunk {
		select {
		case <-killed:
			left := max(0, *records/2-n)
			_, err := io.Copy(w, l.lines(left))
			w.CloseWithError(err)
			return
		case <-tick.C:
			if _, err := io.Copy(w, l.lines(chunk)); err != nil {
				return // the reader is gone; its exit code tells
			}
		}
	}
}

// auditUntil appends one record after the other. An append without answer may have happened: the same append again tells,
// since a mismatch that shows the next offset means that ours is in.
func auditUntil(b *broker, l *ledger, killed <-chan struct{}) error {
	for {
		select {
		case <-killed:
			return nil
		default:
		}
		p, key, line := l.draw()
		at := len(l.partitions[p]) - 1
		for deadline := time.Now().Add(startTimeout); ; {
			actual, err := b.appendOver("audit", p, key, line, at)
			if err == nil || actual == fmt.Sprint(at+1) {
				break
			}
			if actual != "" || time.Now().After(deadline) {
				return fmt.Errorf("audit: %w (actual %s)", err, actual)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
}
