package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
)

func TestPositionsAreCommittedAndFetched(t *testing.T) {
	w := start(t)
	w.topic("b", 1)
	w.topic("a", 2)
	w.produce("a", 1, "x", "y", "z")
	w.want("GroupService/CommitOffsets", `{"group":"g","offsets":[{"topic":"b","partition":0,"offset":"0"},{"topic":"a","partition":1,"offset":"1","metadata":"half"}]}`,
		`{"results":[{"topic":"b","partition":0},{"topic":"a","partition":1}]}`)
	const (
		a0 = `{"topic":"a","partition":0,"highWatermark":"0","logStartOffset":"0","lag":"0"}`
		a1 = `{"topic":"a","partition":1,"offset":"1","metadata":"half","commitTime":"2023-11-14T22:13:20Z","highWatermark":"3","logStartOffset":"0","lag":"2"}`
		b0 = `{"topic":"b","partition":0,"offset":"0","commitTime":"2023-11-14T22:13:20Z","highWatermark":"0","logStartOffset":"0","lag":"0"}`
	)
	w.want("GroupService/FetchOffsets", `{"group":"g"}`, `{"offsets":[`+a1+`,`+b0+`]}`)
	w.want("GroupService/FetchOffsets", `{"group":"g","topics":["b","a","b"]}`, `{"offsets":[`+a0+`,`+a1+`,`+b0+`]}`)
	if got := w.fake.groups.positions[1]; fmt.Sprint(got) != "[a b]" {
		t.Errorf("the engine was asked for %v, want each once", got)
	}
	if status, answer := w.get("/splashdam.v1.GroupService/FetchOffsets?connect=v1&encoding=json&message=" + url.QueryEscape(`{"group":"g"}`)); status != http.StatusOK || answer != `{"offsets":[`+a1+`,`+b0+`]}` {
		t.Errorf("by GET: got %d %s", status, answer)
	}
	w.want("GroupService/FetchOffsets", `{"group":"new","topics":["b"]}`, `{"offsets":[{"topic":"b","partition":0,"highWatermark":"0","logStartOffset":"0","lag":"0"}]}`)
	if status, answer := w.post("GroupService/FetchOffsets", `{"group":"new"}`); status != http.StatusNotFound || !strings.Contains(answer, "GROUP_ID_NOT_FOUND") {
		t.Errorf("got %d %s, want the group unknown", status, answer)
	}
}

func TestAPositionBeyondTheLogHasNoLag(t *testing.T) {
	var e edge
	for _, c := range []struct {
		o    agent.GroupOffset
		want string
	}{
		{agent.GroupOffset{Topic: "a", Committed: true, Offset: 9, HighWatermark: 3, Time: objectlog.NoTimestamp}, "offset 9 of 0 to 3, lag none"},
		{agent.GroupOffset{Topic: "a", Committed: true, Offset: 0, HighWatermark: 3, LogStart: 1, Time: objectlog.NoTimestamp}, "offset 0 of 1 to 3, lag 2"},
	} {
		o := e.groupOffset(c.o)
		lag := "none"
		if o.Lag != nil {
			lag = fmt.Sprint(o.GetLag())
		}
		if got := fmt.Sprintf("offset %d of %d to %d, lag %s", o.GetOffset(), o.GetLogStartOffset(), o.GetHighWatermark(), lag); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestWhatIsWrongWithOneCommitIsInItsOwnResult(t *testing.T) {
	w := startWith(t, Config{Authorize: func(_ context.Context, _ Action, resource Resource) error {
		if resource.Topic == "secret" {
			return errors.New("no")
		}
		return nil
	}})
	w.topic("a", 4)
	w.topic("secret", 1)
	large := strings.Repeat("x", 100<<10)
	var offsets []string
	cases := []struct{ offset, want string }{
		{`{"topic":"secret","partition":0,"offset":"0"}`, "permission_denied TOPIC_AUTHORIZATION_FAILED 29"},
		{`{"topic":"a","partition":0,"offset":"0"}`, ""},
		{`{"topic":"a","partition":1,"offset":"1"}`, "out_of_range OFFSET_OUT_OF_RANGE 1"},
		{`{"topic":"a","partition":9,"offset":"0"}`, "not_found UNKNOWN_TOPIC_OR_PARTITION 3"},
		{`{"topic":"nobody","partition":0,"offset":"0"}`, "not_found UNKNOWN_TOPIC_OR_PARTITION 3"},
		{`{"topic":"a","partition":1,"offset":"0","metadata":"` + large + `"}`, "invalid_argument OFFSET_METADATA_TOO_LARGE 12"},
		{`{"topic":"a","partition":1}`, "invalid_argument INVALID_REQUEST 42"},
		{`{"topic":"a","offset":"0"}`, "invalid_argument INVALID_REQUEST 42"},
		{`{"topic":"a","partition":-1,"offset":"0"}`, "invalid_argument INVALID_REQUEST 42"},
		{`{"topic":"a","partition":1,"offset":"-1"}`, "invalid_argument INVALID_REQUEST 42"},
		{`{}`, "invalid_argument INVALID_TOPIC_EXCEPTION 17"},
		{`{"topic":"a","partition":2,"offset":"0"}`, ""},
	}
	for _, c := range cases {
		offsets = append(offsets, c.offset)
	}
	status, answer := w.post("GroupService/CommitOffsets", `{"group":"g","offsets":[`+strings.Join(offsets, ",")+`]}`)
	var got struct {
		Results []struct {
			Error *struct {
				Code, Reason string
				KafkaCode    int
			}
		}
	}
	decode(t, answer, &got)
	if status != http.StatusOK || len(got.Results) != len(cases) {
		t.Fatalf("got %d %s, want %d results", status, answer, len(cases))
	}
	for i, c := range cases {
		said := ""
		if e := got.Results[i].Error; e != nil {
			said = fmt.Sprintf("%s %s %d", e.Code, e.Reason, e.KafkaCode)
		}
		if said != c.want {
			t.Errorf("%.100s: got %q, want %q", c.offset, said, c.want)
		}
	}
	if c := w.fake.groups.commits; len(c) != 1 || len(c[0].Positions) != 5 {
		t.Errorf("got %v at the engine, want one commit of five", c)
	}
	if strings.Contains(answer, "xxxx") {
		t.Error("the answer repeats the metadata")
	}
}

func TestCommitsOfStrangersAndOfOldGenerationsAreRefused(t *testing.T) {
	w := start(t)
	w.topic("a", 2)
	if status, answer := w.post("GroupService/Heartbeat", `{"group":"g","member":"m1","topics":["a"]}`); status != http.StatusOK {
		t.Fatalf("got %d %s", status, answer)
	}
	const offsets = `"offsets":[{"topic":"a","partition":0,"offset":"0"}]}`
	for _, c := range []struct{ body, want string }{
		{`{"group":"g","member":"m1","generation":"1",` + offsets, `{"results":[{"topic":"a","partition":0}]}`},
		{`{"group":"g","member":"m1","generation":"0",` + offsets, `"error":{"code":"failed_precondition","reason":"ILLEGAL_GENERATION","message":"use group g: stale generation","kafkaCode":22}`},
		{`{"group":"g","member":"m1","generation":"2",` + offsets, `ILLEGAL_GENERATION`},
		{`{"group":"g","member":"m2","generation":"1",` + offsets, `UNKNOWN_MEMBER_ID`},
		{`{"group":"g",` + offsets, `NON_EMPTY_GROUP`},
		{`{"group":"g2","member":"m1","generation":"1",` + offsets, `UNKNOWN_MEMBER_ID`},
	} {
		if _, answer := w.post("GroupService/CommitOffsets", c.body); !strings.Contains(answer, c.want) {
			t.Errorf("%s: got %s, want %s", c.body, answer, c.want)
		}
	}
}

func TestCommitsThatBreakTheContractAreRefusedAsAWhole(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	const offset = `{"topic":"a","partition":0,"offset":"0"}`
	metadata := `{"topic":"a","partition":0,"offset":"0","metadata":"` + strings.Repeat("x", 4096) + `"}`
	for _, c := range []struct{ body, want string }{
		{`"offsets":[` + offset + `]`, `INVALID_GROUP_ID`},
		{`"group":"g\u007f","offsets":[` + offset + `]`, `INVALID_GROUP_ID`},
		{`"group":"g"`, `commit offsets: offsets: 0 offsets: want 1 to 10000`},
		{`"group":"g","offsets":[` + strings.Repeat(offset+",", 10_000) + offset + `]`, `commit offsets: offsets: 10001 offsets: want 1 to 10000`},
		{`"group":"g","offsets":[` + strings.Repeat(metadata+",", 32) + metadata + `]`, `"reason":"OFFSET_METADATA_TOO_LARGE","message":"commit offsets: offsets: 135168 bytes of metadata in all`},
		{`"group":"g","member":"` + strings.Repeat("m", 65) + `","offsets":[` + offset + `]`, `commit offsets: member: `},
		{`"group":"g","member":"m\t","offsets":[` + offset + `]`, `commit offsets: member: `},
		{`"group":"g","member":"m","instance":"\u0000","offsets":[` + offset + `]`, `commit offsets: instance: `},
		{`"group":"g","member":"m","generation":"-1","offsets":[` + offset + `]`, `commit offsets: generation: `},
		{`"group":"g","generation":"1","offsets":[` + offset + `]`, `commit offsets: member: required with`},
		{`"group":"g","offsets":[{"topic":"a","partition":0,"offset":"0","epoch":1}]`, `unknown field`},
	} {
		status, answer := w.post("GroupService/CommitOffsets", `{`+c.body+`}`)
		if status != http.StatusBadRequest || !strings.Contains(answer, c.want) {
			t.Errorf("%.200s: got %d %.500s, want %s", c.body, status, answer, c.want)
		}
	}
	if w.fake.groups.touched() {
		t.Error("the engine heard of it")
	}
}

func TestFetchedPositionsKeepWhatTheCallerMayNotSee(t *testing.T) {
	hidden := ""
	w := startWith(t, Config{Authorize: func(_ context.Context, _ Action, resource Resource) error {
		if resource.Topic != "" && resource.Topic == hidden {
			return errors.New("no")
		}
		return nil
	}})
	w.topic("a", 1)
	w.topic("b", 1)
	w.post("GroupService/CommitOffsets", `{"group":"g","offsets":[{"topic":"a","partition":0,"offset":"0"},{"topic":"b","partition":0,"offset":"0"}]}`)
	hidden = "a"
	if _, answer := w.post("GroupService/FetchOffsets", `{"group":"g"}`); strings.Contains(answer, `"a"`) || !strings.Contains(answer, `"topic":"b"`) {
		t.Errorf("got %s, want b alone", answer)
	}
	_, answer := w.post("GroupService/FetchOffsets", `{"group":"g","topics":["b","a"]}`)
	if !strings.HasPrefix(answer, `{"offsets":[{"topic":"a","error":{"code":"permission_denied","reason":"TOPIC_AUTHORIZATION_FAILED"`) || !strings.Contains(answer, `{"topic":"b","partition":0,`) {
		t.Errorf("got %s, want a denied", answer)
	}
	hidden = "b"
	n := len(w.fake.groups.positions)
	if _, answer := w.post("GroupService/FetchOffsets", `{"group":"g","topics":["b"]}`); !strings.Contains(answer, "TOPIC_AUTHORIZATION_FAILED") || len(w.fake.groups.positions) != n {
		t.Errorf("got %s, and the engine asked for all", answer)
	}
}

func TestPositionsAreReset(t *testing.T) {
	w := start(t)
	w.topic("a", 2)
	w.produce("a", 0, "x", "y")
	for to, want := range map[string]agent.Reset{
		`"start":{"point":"EARLIEST"}`:                     {To: agent.Start{Kind: agent.StartEarliest}},
		`"start":{"point":"LATEST"},"force":true`:          {To: agent.Start{Kind: agent.StartLatest}, Force: true},
		`"start":{"offset":"0"},"validateOnly":true`:       {To: agent.Start{Kind: agent.StartOffset}, ValidateOnly: true},
		`"start":{"timestamp":"1970-01-01T00:00:01Z"}`:     {To: agent.Start{Kind: agent.StartTime, Time: 1000}},
		`"start":{"tailRecords":"5"},"partitions":[1,0,1]`: {To: agent.Start{Kind: agent.StartTail, Tail: 5}, Partitions: []objectlog.Partition{0, 1}},
		`"shift":"-3"`:                 {Shifts: true, Shift: -3},
		`"byDuration":"315576000000s"`: {To: agent.Start{Kind: agent.StartTime}},
	} {
		want.Group, want.Topic = "g", "a"
		w.want("GroupService/ResetOffsets", `{"group":"g","topic":"a",`+to+`}`, `{"offsets":[{"partition":0,"to":"0"},{"partition":1,"from":"0","to":"2"}]}`)
		if got := w.fake.groups.resets[len(w.fake.groups.resets)-1]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", to, got, want)
		}
	}
	before := time.Now().Add(-time.Hour).UnixMilli()
	w.post("GroupService/ResetOffsets", `{"group":"g","topic":"a","byDuration":"3600s"}`)
	got := w.fake.groups.resets[len(w.fake.groups.resets)-1].To
	if after := time.Now().Add(-time.Hour).UnixMilli(); got.Kind != agent.StartTime || int64(got.Time) < before || int64(got.Time) > after {
		t.Errorf("got %v, want an hour ago", got)
	}
}

func TestResetsThatBreakTheContractAreRefused(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	for _, c := range []struct{ body, want string }{
		{`{"topic":"a","shift":"1"}`, `INVALID_GROUP_ID`},
		{`{"group":"g","shift":"1"}`, `INVALID_TOPIC_EXCEPTION`},
		{`{"group":"g","topic":"a"}`, `reset offsets: to: want start, by_duration or shift`},
		{`{"group":"g","topic":"a","start":{}}`, `reset offsets: start: want offset, timestamp, point or tail_records`},
		{`{"group":"g","topic":"a","start":{"offset":"-1"}}`, `reset offsets: start.offset: -1 is negative`},
		{`{"group":"g","topic":"a","start":{"point":"NEVER"}}`, `INVALID_REQUEST`},
		{`{"group":"g","topic":"a","byDuration":"-1s"}`, `reset offsets: by_duration: `},
		{`{"group":"g","topic":"a","shift":"1","partitions":[0,-2]}`, `reset offsets: partitions[1]: -2 is negative`},
		{`{"group":"g","topic":"a","shift":"1","byDuration":"1s"}`, `INVALID_REQUEST`},
		{`{"group":"g","topic":"a","shift":"1","partitions":[` + strings.Repeat("0,", 10_000) + `0]}`, `reset offsets: partitions: 10001 at once`},
	} {
		status, answer := w.post("GroupService/ResetOffsets", c.body)
		if status != http.StatusBadRequest || !strings.Contains(answer, c.want) {
			t.Errorf("%.200s: got %d %.300s, want %s", c.body, status, answer, c.want)
		}
	}
	if w.fake.groups.touched() {
		t.Error("the engine heard of it")
	}
}

func TestThePartOfAResetThatIsNotAStartPointKeepsItsWords(t *testing.T) {
	for in, want := range map[string]string{
		`{"start":{"point":"LATEST"},"topic":"LATEST"}`:                    `{"start":{"point":"START_POINT_LATEST"},"topic":"LATEST"}`,
		`{"partitions":[{"start":{"point":"LATEST"}}],"group":"EARLIEST"}`: `{"partitions":[{"start":{"point":"LATEST"}}],"group":"EARLIEST"}`,
	} {
		if got := string(lengthenPoints([]byte(in), "start", "point")); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
