package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// position is an answered position; a negative committed one is none.
func position(topic string, partition int32, committed, start, end int64, member string) *splashdamv1.FetchOffsetsResponse_Offset {
	o := &splashdamv1.FetchOffsetsResponse_Offset{Topic: topic, Partition: &partition, LogStartOffset: &start, HighWatermark: &end, Member: member}
	from := start
	if committed >= 0 {
		o.Offset, from = &committed, max(start, committed)
		made(&o.CommitTime).Seconds = 1781208000
	}
	if from <= end {
		o.Lag = new(end - from)
	}
	return o
}

// mailersWithLag are mailers, the group email stable, with positions of every kind.
func mailersWithLag() *fakeGroups {
	f := mailers()
	f.groups[1].State = splashdamv1.GroupState_GROUP_STATE_STABLE
	broken := position("orders", 5, -1, 0, 0, "aaaaaaaa-1111")
	broken.HighWatermark, broken.LogStartOffset, broken.Lag = nil, nil, nil
	*made(&broken.Error) = splashdamv1.ErrorDetail{Code: "unavailable", Reason: "NOT_ENOUGH_REPLICAS", Message: "fetch offset of orders/5: no leader"}
	f.offsets = map[string][]*splashdamv1.FetchOffsetsResponse_Offset{
		"analytics": {position("orders", 0, 9, 0, 9, "")},
		"email": {
			position("goals", 0, 5, 0, 5, "aaaaaaaa-1111"),
			position("orders", 0, 5, 0, 9, "aaaaaaaa-1111"),
			position("orders", 1, -1, 2, 9, "bbbbbbbb-2222"),
			position("orders", 2, 12, 0, 9, "aaaaaaaa-1111"),
			position("orders", 3, 3, 2000, 2001, "bbbbbbbb-2222"),
			position("orders", 4, 0, 0, 1000, ""),
			broken,
		},
	}
	return f
}

func TestLagOfAGroupNamesEveryPositionThatIsOutOfOrder(t *testing.T) {
	at := mailersWithLag().serve(t)
	prints(t, `group email (stable): 2 members, 7 partitions, lag 1,012
TOPIC   PARTITION  COMMITTED  END   LAG             MEMBER
goals   0          5          5     0               aaaaaaaa
orders  0          5          9     4               aaaaaaaa
orders  1          -          9     7               mailer-2
orders  2          12         9     beyond the log  aaaaaaaa
orders  3          3          2001  1               mailer-2
orders  4          0          1000  1000            -
orders  5          -          -     -               aaaaaaaa
The position of group email in orders/2 lies beyond the log: nothing is read there until it is moved: splashdam group reset email --topic orders --partition 2 --to-latest, or where it should be
1,997 records of orders/3 expired before group email had processed them: keep records longer (retention.ms, retention.bytes); consumers that stop at this go on after splashdam group reset email --topic orders --partition 3 --to-earliest
No member of group email has orders/4: start members that ask for the topic, if its records are to be processed
The log of orders/5 is not known: fetch offset of orders/5: no leader: see splashdam cluster status
`, "lag", "email", "--server", at)
}

func TestLagInJSONTellsNoneFromZeroAndBeyondFromNoLag(t *testing.T) {
	at := mailersWithLag().serve(t)
	var l groupLag
	printsJSON(t, &l, "lag", "email", "--server", at)
	if l.Group != "email" || l.Lag != 1012 || l.Members != 2 || len(l.Partitions) != 7 || len(l.Problems) != 4 {
		t.Fatalf("got %+v", l)
	}
	none, beyond, zero, unknown := l.Partitions[2], l.Partitions[3], l.Partitions[5], l.Partitions[6]
	if none.Committed != nil || none.CommitTime != nil || *none.Lag != 7 {
		t.Errorf("nothing committed: got %+v", none)
	}
	if *beyond.Committed != 12 || beyond.Lag != nil || !beyond.Beyond || beyond.CommitTime == nil {
		t.Errorf("beyond the log: got %+v", beyond)
	}
	if *zero.Committed != 0 || *zero.Lag != 1000 || zero.Member != "" {
		t.Errorf("committed 0: got %+v", zero)
	}
	if unknown.Lag != nil || unknown.Beyond || unknown.Error == "" {
		t.Errorf("unknown log: got %+v", unknown)
	}
}

func TestLagOfAllGroupsIsALineEach(t *testing.T) {
	f := mailersWithLag()
	f.offsets["email"] = f.offsets["email"][:2]
	at := f.serve(t)
	prints(t, `GROUP      STATE   MEMBERS  PARTITIONS  LAG
analytics  empty   0        1           0
email      stable  2        2           4
`, "lag", "--server", at)
	var all []groupLag
	printsJSON(t, &all, "lag", "--server", at)
	if len(all) != 2 || all[1].Lag != 4 || len(all[1].Partitions) != 2 || all[0].Problems == nil {
		t.Errorf("got %+v", all)
	}
}

func TestGroupThatIsDeletedWhileAllAreAskedIsLeftOut(t *testing.T) {
	f := mailersWithLag()
	f.refuse = map[string][2]string{"FetchOffsets": {"not_found", "GROUP_ID_NOT_FOUND"}}
	prints(t, "[]\n", "lag", "-o", "json", "--server", f.serve(t))
	f.refuse = map[string][2]string{"FetchOffsets": {"internal", "UNKNOWN_SERVER_ERROR"}}
	fails(t, exitFailed, "fetch offsets of group analytics: told", "lag", "--server", f.serve(t))
}

// watches runs a verb until it has written n times, and answers what it wrote.
func watches(t *testing.T, n int, args ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	out := &lines{}
	wrote := 0
	out.wrote = func() {
		if wrote++; wrote == n {
			stop()
		}
	}
	env := &environment{in: strings.NewReader(""), out: out, err: &bytes.Buffer{}, lookup: func() []string { return nil }}
	if code := run(ctx, env, args); code != exitDone {
		t.Errorf("splashdam %s: exit %d", strings.Join(args, " "), code)
	}
	return out.String()
}

func TestWatchedLagIsShownAgainUntilItIsInterrupted(t *testing.T) {
	at := mailersWithLag().serve(t)
	if out := watches(t, 2, "lag", "email", "--watch", "-o", "json", "--server", at); strings.Count(out, `"group":"email"`) != 2 {
		t.Errorf("got %s", out)
	}
	f := mailers()
	f.refuse = map[string][2]string{"GetGroup": {"not_found", "GROUP_ID_NOT_FOUND"}}
	if out := watches(t, 1, "lag", "x", "--watch", "--server", f.serve(t)); !strings.HasPrefix(out, "describe group x: there is no such group") {
		t.Errorf("a group that is not there yet: got %s", out)
	}
}

func TestWatchedLagOfManyPartitionsIsOneScreenOfThoseFurthestBehind(t *testing.T) {
	f := mailersWithLag()
	f.offsets["email"] = nil
	for p := range int32(100) {
		f.offsets["email"] = append(f.offsets["email"], position("orders", p, int64(p), 0, 1000, "aaaaaaaa-1111"))
	}
	out := watches(t, 1+rowsMax, "lag", "email", "--watch", "--server", f.serve(t))
	if !strings.Contains(out, fmt.Sprintf("orders  %d ", rowsMax-1)) || strings.Contains(out, fmt.Sprintf("orders  %d ", rowsMax)) || !strings.Contains(out, "and 84 other partitions") {
		t.Errorf("got\n%s", out)
	}
}
