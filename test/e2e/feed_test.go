package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
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

// appendError is why a record was not appended.
type appendError struct {
	at           string // the topic and partition
	code, reason string // empty where no answer came
	actual       string // the next offset of the partition, after OFFSET_MISMATCH
	cause        string
}

func (e *appendError) Error() string {
	return fmt.Sprintf("append to %s: %s %s %s", e.at, e.code, e.reason, e.cause)
}

// unknown says whether the record may be in the log in spite of the error.
func (e *appendError) unknown() bool {
	return e.code == "" || e.code == "deadline_exceeded" || e.code == "canceled"
}

// appendOver sends one record over HTTP, to be appended exactly at its place in the ledger.
func (b *broker) appendOver(topic string, partition int, key, line string, expected int) *appendError {
	return b.appendWithin(time.Minute, topic, partition, key, line, expected)
}

// appendWithin is appendOver with the deadline that the agent is told.
func (b *broker) appendWithin(timeout time.Duration, topic string, partition int, key, line string, expected int) *appendError {
	at := fmt.Sprintf("%s/%d at %d", topic, partition, expected)
	text, err := json.Marshal(line)
	if err != nil {
		return &appendError{at: at, cause: err.Error()}
	}
	_, answer, err := b.callWithin(timeout, "LogService/Produce", fmt.Sprintf(
		`{"batches":[{"topic":%q,"partition":%d,"expectedNextOffset":"%d","records":{"records":[{"key":{"text":%q},"value":{"text":%s}}]}}]}`,
		topic, partition, expected, key, text))
	if err != nil {
		return &appendError{at: at, cause: err.Error()}
	}
	failure := answer // of the whole request
	if results, _ := answer["results"].([]any); len(results) == 1 {
		result := results[0].(map[string]any)
		positions, _ := result["positions"].([]any)
		if len(positions) == 1 && positions[0].(map[string]any)["offset"] == fmt.Sprint(expected) {
			return nil
		}
		failure, _ = result["error"].(map[string]any)
	}
	e := &appendError{at: at, cause: fmt.Sprint(answer)}
	e.code, _ = failure["code"].(string)
	e.reason, _ = failure["reason"].(string)
	metadata, _ := failure["metadata"].(map[string]any)
	e.actual, _ = metadata["actual"].(string)
	return e
}

func TestFeedIsReadBackRecordByRecord(t *testing.T) {
	onEachStack(t, feedIsReadBack)
}

func feedIsReadBack(t *testing.T, s stack) {
	b := s.start(t, "")
	b.mustRun(nil, "topic", "create", "matches", "--partitions", fmt.Sprint(feedPartitions))
	l := newLedger(1)
	byHTTP := 200
	first := (*records - byHTTP) / 2
	b.mustRun(l.lines(first), "produce", "matches", "--key-field", "match")
	for range byHTTP {
		p, key, line := l.draw()
		at := len(l.partitions[p]) - 1
		if err := b.appendOver("matches", p, key, line, at); err != nil {
			t.Fatal(err)
		}
		// The same call again finds the place taken, and says where the log has got to.
		if err := b.appendOver("matches", p, key, line, at); err == nil || err.actual != fmt.Sprint(at+1) {
			t.Fatalf("the same append again: %v; want a mismatch at %d", err, at+1)
		}
	}
	b.mustRun(l.lines(*records-byHTTP-first), "produce", "matches", "--key-field", "match", "--compression", "zstd")
	l.check(t, b, "matches")

	address := b.address
	b.stop()
	b = s.start(t, address)
	l.check(t, b, "matches")
}
