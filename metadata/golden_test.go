package metadata

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// everyCommand is one command of each kind, for state with partition 0 of topic 1.
func everyCommand() []Command {
	commit := commitOf(1, 1, runOf(1, 0, plain(3), produced(70, 2, 0, 5)), runOf(2, 4, expecting(plain(1), 9)))
	s := NewState(Config{})
	if _, err := s.Apply(Position{}, AddPartitions{Topic: id(1), To: 1}.Command()); err != nil {
		panic(err)
	}
	rows, err := s.Prepare(commitOf(1, 2, runOf(1, 0, plain(3), produced(70, 2, 5, 5), expecting(plain(1), 9)), runOf(2, 4, plain(1))))
	if err != nil {
		panic(err)
	}
	return []Command{
		CreateTopic{ID: id(1), Name: "matches", Partitions: 3, Settings: Settings{"retention.ms": "-1", "compression.type": "zstd"}}.Command(),
		AlterTopic{ID: id(1), Version: 1, Settings: Settings{"max.message.bytes": "1000"}}.Command(),
		GrowTopic{ID: id(1), Partitions: 5}.Command(),
		ActivateTopic{ID: id(1), Partitions: 5}.Command(),
		AddPartitions{Topic: id(1), From: 1, To: 5}.Command(),
		commit,
		rows,
		Fence{Ordinal: 1, Below: 300}.Command(),
		RetireBoots{Below: 1}.Command(),
		Trim{Topic: id(1), Partition: 0, LogStart: 2}.Command(),
		ExpireProducers{Before: 1_006}.Command(),
		DropTopic{Topic: id(1)}.Command(),
		DeleteTopic{ID: id(1), Version: 4}.Command(),
		ForgetTopic{ID: id(1)}.Command(),
	}
}

// golden compares with the file, or writes it. Changing such a file makes entries or snapshots in use unreadable.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stored, got) {
		t.Errorf("%s differs:\n got %s\nwant %s", path, got, stored)
	}
}

func TestCommandsAreWrittenAsEver(t *testing.T) {
	var b strings.Builder
	for _, c := range everyCommand() {
		fmt.Fprintf(&b, "%d %x %x\n", c.Kind, c.Body, c.Footer)
	}
	golden(t, "commands.golden", []byte(b.String()))
}

// The states are those after each command, so that old entries keep their meaning.
func TestStoredCommandsStillApply(t *testing.T) {
	stored, err := os.ReadFile("testdata/commands.golden")
	if err != nil {
		t.Fatal(err)
	}
	s := withPartitions(t, Config{}, 1, 1)
	var states strings.Builder
	for line := range strings.Lines(string(stored)) {
		var c Command
		fields := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if _, err := fmt.Sscan(fields[0], &c.Kind); err != nil {
			t.Fatal(err)
		}
		if c.Body, err = hex.DecodeString(fields[1]); err == nil {
			c.Footer, err = hex.DecodeString(fields[2])
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(s.position(), c); err != nil {
			t.Errorf("stored command of kind %d: %v", c.Kind, err)
		}
		fmt.Fprintf(&states, "%d %x\n", c.Kind, s.encoded())
	}
	golden(t, "states.golden", []byte(states.String()))
}

// settled is a state with something of everything.
func settled(t testing.TB) *shard {
	s := withPartitions(t, Config{}, 3, 3)
	s.do(CreateTopic{ID: id(1), Name: "matches", Partitions: 3, Settings: Settings{"retention.ms": "-1", "compression.type": "zstd"}}.Command())
	s.do(CreateTopic{ID: id(2), Name: "goals", Partitions: 3}.Command())
	s.do(ActivateTopic{ID: id(2), Partitions: 3}.Command())
	s.do(CreateTopic{ID: id(3), Name: "gone", Partitions: 3}.Command())
	s.do(DeleteTopic{ID: id(3)}.Command())
	s.commit(1, runOf(1, 0, plain(3), produced(70, 2, 0, 5)), runOf(2, 1, produced(70, 0, 4, 2), produced(9, 0, 0, 1)))
	s.commit(4, runOf(1, 0, produced(70, 2, 5, 5), produced(70, 2, 5, 5), produced(70, 2, 11, 5)), runOf(3, 2, plain(1)))
	s.do(commitOf(2, 1, runOf(2, 1, expecting(plain(2), 3), expecting(plain(2), 4))))
	s.do(Fence{Ordinal: 2, Below: 1000}.Command())
	s.do(Fence{Ordinal: 7, Below: 1}.Command())
	s.do(Trim{Topic: id(1), Partition: 0, LogStart: 4}.Command())
	s.do(DropTopic{Topic: id(3)}.Command())
	return s
}

func TestSnapshotIsWrittenAsEver(t *testing.T) {
	golden(t, "state.golden", []byte(hex.EncodeToString(settled(t).encoded())+"\n"))
}

// state-1.golden is of a program that did not remember what it had dropped.
func TestStoredSnapshotStillRestores(t *testing.T) {
	for _, name := range []string{"testdata/state.golden", "testdata/state-1.golden"} {
		stored, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(strings.TrimSpace(string(stored)))
		if err != nil {
			t.Fatal(err)
		}
		s := NewState(Config{})
		if err := s.Restore(b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s.View().Encode(nil), b) {
			t.Errorf("%s: the restored state encodes differently", name)
		}
	}
}
