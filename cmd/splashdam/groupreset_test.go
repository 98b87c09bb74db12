package main

import (
	"strings"
	"testing"
	"time"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// resets runs group reset for orders and answers what was asked of the agent.
func (f *fakeGroups) resets(t *testing.T, at string, flags ...string) *splashdamv1.ResetOffsetsRequest {
	t.Helper()
	code, _, stderr, _ := runFor(t, nil, append([]string{"group", "reset", "email", "--topic", "orders", "--server", at}, flags...)...)
	f.mu.Lock()
	defer f.mu.Unlock()
	if code != exitDone || f.reset.GetGroup() != "email" || f.reset.GetTopic() != "orders" {
		t.Errorf("%s: exit %d, %s, asked %v", strings.Join(flags, " "), code, stderr, f.reset)
	}
	return f.reset
}

func TestResetAsksForThePlaceOfItsFlag(t *testing.T) {
	f := mailers()
	at := f.serve(t)
	if r := f.resets(t, at, "--to-earliest"); r.GetStart().GetPoint() != splashdamv1.StartPoint_START_POINT_EARLIEST || r.GetValidateOnly() || r.GetForce() || len(r.GetPartitions()) != 0 {
		t.Errorf("--to-earliest: asked %v", r)
	}
	if r := f.resets(t, at, "--to-latest", "--partition", "0,4-6"); r.GetStart().GetPoint() != splashdamv1.StartPoint_START_POINT_LATEST || len(r.GetPartitions()) != 4 || r.GetPartitions()[3] != 6 {
		t.Errorf("--to-latest --partition 0,4-6: asked %v", r)
	}
	if r := f.resets(t, at, "--to-offset", "0", "--force"); r.GetStart() == nil || r.GetStart().GetAt() == nil || r.GetStart().GetOffset() != 0 || !r.GetForce() {
		t.Errorf("--to-offset 0 --force: asked %v", r)
	}
	if r := f.resets(t, at, "--to-time", "2026-06-11T20:00:00Z"); r.GetStart().GetTimestamp().GetSeconds() != 1781208000 {
		t.Errorf("--to-time: asked %v", r)
	}
	if r := f.resets(t, at, "--by-duration", "90m", "--dry-run"); r.GetByDuration().AsDuration() != 90*time.Minute || !r.GetValidateOnly() {
		t.Errorf("--by-duration 90m --dry-run: asked %v", r)
	}
	if r := f.resets(t, at, "--shift-by", "-100"); r.GetShift() != -100 {
		t.Errorf("--shift-by -100: asked %v", r)
	}
}

func TestResetShowsWhatWasMovedAndWhatWouldBe(t *testing.T) {
	f := mailers()
	f.moved = []*splashdamv1.ResetOffsetsResponse_Offset{{Partition: new(int32(0)), From: new(int64(12)), To: new(int64(0))}, {Partition: new(int32(1)), To: new(int64(0))}}
	at := f.serve(t)
	args := []string{"group", "reset", "email", "--topic", "orders", "--to-earliest", "--server", at}
	const table = "PARTITION  FROM  TO\n0          12    0\n1          -     0\n"
	prints(t, table+"moved 2 positions of group email in orders\n", args...)
	prints(t, table+"nothing was moved: without --dry-run, 2 positions of group email in orders would be\n", append(args, "--dry-run")...)
	prints(t, `{"group":"email","topic":"orders","dry_run":true,"offsets":[{"partition":0,"from":12,"to":0},{"partition":1,"from":null,"to":0}]}`+"\n", append(args, "--dry-run", "-o", "json")...)
}

func TestResetWithoutOneClearPlaceIsRefusedBeforeAnythingIsAsked(t *testing.T) {
	for _, c := range []struct {
		flags string
		want  string
	}{
		{"--topic orders", "0 places ()"},
		{"--topic orders --to-earliest --to-latest", "2 places (--to-earliest --to-latest)"},
		{"--to-earliest", "--topic is missing"},
		{"--topic orders --to-offset -5", "--shift-by -5"},
		{"--topic orders --to-offset x", "--to-offset"},
		{"--topic orders --to-time yesterday", "such as 2026-06-11T19:00:00Z"},
		{"--topic orders --by-duration -1h", "want more than 0"},
		{"--topic orders --by-duration 7d", "--by-duration"},
		{"--topic orders --shift-by 0", "want a number of records"},
		{"--topic orders --to-latest --partition x", "want partitions such as 0,4-7"},
	} {
		args := append([]string{"group", "reset", "email", "--server", "127.0.0.1:1"}, strings.Fields(c.flags)...)
		code, stdout, stderr, _ := runFor(t, nil, args...)
		if code != exitUsage || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d, output %q, error %q; want %q", c.flags, code, stdout, stderr, c.want)
		}
	}
}
