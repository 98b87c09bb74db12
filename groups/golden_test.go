package groups

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
)

var update = flag.Bool("update", false, "write the golden files")

// everyCommand is commands of each kind, in an order in which most of them do something.
func everyCommand() []metadata.Command {
	full := Member{ID: "b1", Instance: "i", Client: "mail", Host: "10.0.0.1:70", Subscribed: Subscription{Topics: []string{"x", "y"}, Pattern: "z.*"},
		Session: 10 * time.Second, Rebalance: 5 * time.Minute}
	second := full
	second.ID = "b2"
	offsets := commit("a", 1, 5, at(1, 0), at(1, 2), at(2, 0))
	offsets.Offsets[1].Metadata, offsets.Offsets[1].Epoch = "half way", 3
	tool := commit("", 0, 300, at(2, 0))
	tool.Force = true
	elsewhere := commit("", 0, 1<<40, at(3, 99_999))
	elsewhere.Group = "h"
	fenced := commit("b1", 2, 1, at(1, 1))
	fenced.Instance = "i"
	return []metadata.Command{
		join(member("a", "x")),
		Assign{Group: "g", Version: 1, Targets: []Target{{topic(1), []int32{0, 0, 0}}, {topic(2), []int32{0}}}}.Command(),
		offsets.Command(),
		join(full),
		Assign{Group: "g", Version: 2, Targets: []Target{{topic(1), []int32{0, 1, 1}}, {topic(2), []int32{-1}}}}.Command(),
		Release{Group: "g", Member: "a", Generation: 2, Partitions: []TopicPartition{at(1, 1), at(2, 0)}}.Command(),
		join(second),
		fenced.Command(),
		tool.Command(),
		elsewhere.Command(),
		Join{Group: "left", Member: member("a", "x")}.Command(),
		Leave{Group: "left", Member: "a"}.Command(),
		DropTopic{Topic: topic(2)}.Command(),
		Expire{Before: -1}.Command(),
		DeleteGroup{Group: "left"}.Command(),
	}
}

// settled is a state with something of everything.
func settled(t testing.TB) *log {
	l := newLog(t)
	for _, c := range everyCommand() {
		l.do(c)
	}
	return l
}

// golden compares with the file, or writes it. Changing such a file makes entries, snapshots or answers in use unreadable.
func golden(t *testing.T, name string, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(stored) != got {
		t.Errorf("%s differs:\n got %s\nwant %s", path, got, stored)
	}
}

func TestCommandsAreWrittenAsEver(t *testing.T) {
	var b strings.Builder
	kinds := map[metadata.Kind]bool{}
	for _, c := range everyCommand() {
		kinds[c.Kind] = true
		fmt.Fprintf(&b, "%d %x\n", c.Kind, c.Body)
	}
	golden(t, "commands.golden", b.String())
	for k := From; k < To; k++ {
		if _, ok := operationOf(k); ok != kinds[k] {
			t.Errorf("kind %d: known %v, in the file %v", k, ok, kinds[k])
		}
	}
}

// The file has the result of each command and the state behind it, so that old entries keep their meaning.
func TestStoredCommandsStillApply(t *testing.T) {
	stored, err := os.ReadFile("testdata/commands.golden")
	if err != nil {
		t.Fatal(err)
	}
	l := newLog(t)
	var states strings.Builder
	for line := range strings.Lines(string(stored)) {
		var c metadata.Command
		var body string
		if _, err := fmt.Sscan(line, &c.Kind, &body); err != nil {
			t.Fatal(err)
		}
		if c.Body, err = hex.DecodeString(body); err != nil {
			t.Fatal(err)
		}
		result := l.do(c)
		fmt.Fprintf(&states, "%d %x %x\n", c.Kind, EncodeResult(result), l.encoded())
	}
	golden(t, "states.golden", states.String())
}

func TestStoredSnapshotStillRestores(t *testing.T) {
	stored, err := os.ReadFile("testdata/states.golden")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(stored)) {
		b, err := hex.DecodeString(strings.Fields(line)[2])
		if err != nil {
			t.Fatal(err)
		}
		s := NewState()
		if err := s.Restore(b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s.View().Encode(nil), b) {
			t.Errorf("the restored state encodes differently")
		}
	}
}

func someResults() []Result {
	results := []Result{{}, {Generation: 1 << 40, Refused: []Refusal{{0, ReasonStaleGeneration}, {9_999, ReasonStaleGeneration}}}}
	for r := ReasonNone; r <= ReasonStaleVersion; r++ {
		results = append(results, Result{Reason: r, Generation: 7})
	}
	return results
}

func TestResultsAreWrittenAsEverAndRead(t *testing.T) {
	var b strings.Builder
	for _, r := range someResults() {
		encoded := EncodeResult(r)
		fmt.Fprintf(&b, "%x\n", encoded)
		decoded, err := DecodeResult(encoded)
		if err != nil || !reflect.DeepEqual(decoded, r) || !IsResult(encoded) {
			t.Errorf("%+v was read as %+v: %v", r, decoded, err)
		}
		for n := range encoded {
			if _, err := DecodeResult(encoded[:n]); err == nil {
				t.Errorf("%x cut to %d bytes was read", encoded, n)
			}
		}
	}
	golden(t, "results.golden", b.String())
	if IsResult(nil) || IsResult([]byte{1}) {
		t.Error("took others' results for its own")
	}
	if _, err := DecodeResult([]byte{1, 0, 0, 0}); err == nil {
		t.Error("read another's result")
	}
}

func TestSnapshotOfALaterFormatIsRefused(t *testing.T) {
	l := settled(t)
	b := l.encoded()
	before := bytes.Clone(b)
	b[0] = snapshotVersion + 1
	if err := l.Restore(b); err == nil || !strings.Contains(err.Error(), "version 2, this program knows 1") {
		t.Fatalf("error %v", err)
	}
	if !bytes.Equal(l.encoded(), before) {
		t.Fatal("the state changed")
	}
}

func TestEveryCutOfASnapshotIsNoticed(t *testing.T) {
	l := settled(t)
	b := l.encoded()
	for n := range b {
		if NewState().Restore(b[:n]) == nil {
			t.Errorf("%d of %d bytes restored", n, len(b))
		}
	}
	if NewState().Restore(append(b, 0)) == nil {
		t.Error("a byte too many restored")
	}
}
