package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

func TestShardLogPrintsEntriesOfATableThatNobodyServes(t *testing.T) {
	dir := t.TempDir()
	bucket, table := "file://"+filepath.Join(dir, "objects"), "bolt://"+filepath.Join(dir, "log")
	if code, _, stderr, _ := runFor(t, nil, "cluster", "init", "--bucket", bucket, "--table", table, "--shards", "2", "--slots", "64"); code != exitDone {
		t.Fatalf("cluster init: exit %d, %s", code, stderr)
	}
	code, stdout, stderr, _ := runFor(t, nil, "shard", "log", "1", "--table", table)
	if code != exitDone || strings.Count(stdout, "\n") != 1 || !strings.HasPrefix(stdout, "SEQ ") {
		t.Errorf("empty log: exit %d, %q %q", code, stdout, stderr)
	}
	makeTopics(t, bucket, table, "goals", "corners")

	code, stdout, stderr, _ = runFor(t, nil, "shard", "log", "0", "--table", table)
	if code != exitDone || !strings.Contains(stdout, "(barrier of a new leader)") || strings.Count(stdout, "create topic (") != 2 || strings.Count(stdout, "activate topic (") != 2 {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
	code, stdout, stderr, _ = runFor(t, nil, "shard", "log", "0", "--table", table, "--from", "1", "--limit", "2", "-o", "json")
	var seqs []int64
	for line := range strings.Lines(stdout) {
		var e entryView
		if err := json.Unmarshal([]byte(line), &e); err != nil || len(e.Commands) == 0 || e.Bytes == 0 || e.Time.Year() < 2020 || e.Epoch != 1 {
			t.Errorf("%v: %s", err, line)
		}
		seqs = append(seqs, e.Seq)
	}
	if code != exitDone || len(seqs) != 2 || seqs[0] != 1 || seqs[1] != 2 {
		t.Errorf("exit %d, seqs %v, %s", code, seqs, stderr)
	}
}

func TestShardLogRefusesWhatIsNoShard(t *testing.T) {
	table := "bolt://" + filepath.Join(t.TempDir(), "log")
	for _, args := range [][]string{{"x", "--table", table}, {"1024", "--table", table}, {"-1", "--table", table}, {"0"}, {"0", "--table", "x"}, {"0", "--table", table, "--from", "-1"}} {
		if code, stdout, stderr, _ := runFor(t, nil, append([]string{"shard", "log"}, args...)...); code != exitUsage || strings.Count(stderr, "\n") != 1 {
			t.Errorf("shard log %v: exit %d, %q %q", args, code, stdout, stderr)
		}
	}
	if code, _, stderr, _ := runFor(t, nil, "shard", "log", "0", "--table", table); code != exitFailed || !strings.Contains(stderr, "read log of shard 0") {
		t.Errorf("a table without a cluster: exit %d, %q", code, stderr)
	}
}
