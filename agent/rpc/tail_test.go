package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/agent"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// tailing is one Tail with a deadline.
func (w *world) tailing(request *v1.TailRequest, options ...connect.ClientOption) *connect.ServerStreamForClient[v1.TailResponse] {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	w.t.Cleanup(cancel)
	stream, err := w.logClient(options...).Tail(ctx, request)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cancel(); _ = stream.Close() })
	return stream
}

// next is the next message that isn't a heartbeat.
func next(t *testing.T, stream *connect.ServerStreamForClient[v1.TailResponse]) *v1.TailResponse {
	t.Helper()
	for stream.Receive() {
		if m := stream.Msg(); len(m.Partitions)+len(m.Resume) > 0 {
			return m
		}
	}
	t.Fatalf("the stream ended: %v", stream.Err())
	return nil
}

func from(topic string, start *v1.Start) []*v1.FetchRequest_Partition {
	return []*v1.FetchRequest_Partition{{Topic: topic, Start: start}}
}

var (
	earliest = &v1.Start{At: &v1.Start_Point{Point: v1.StartPoint_START_POINT_EARLIEST}}
	latest   = &v1.Start{At: &v1.Start_Point{Point: v1.StartPoint_START_POINT_LATEST}}
)

func TestTailFollowsInEveryProtocol(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			w.topic("a", 2)
			w.produce("a", 0, "0", "1")
			stream := w.tailing(&v1.TailRequest{Partitions: from("a", earliest)}, options...)
			if got := next(t, stream); fmt.Sprint(offsets(got.Partitions[0])) != "[0 1]" {
				t.Errorf("got %v, want what was there", got)
			}
			w.produce("a", 1, "x")
			if got := next(t, stream); got.Partitions[0].GetPartition() != 1 || fmt.Sprint(offsets(got.Partitions[0])) != "[0]" {
				t.Errorf("got %v, want the new record", got)
			}
		})
	}
}

func TestTailSendsHeartbeatsFromTheFirstMomentOn(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	stream := w.tailing(&v1.TailRequest{Partitions: from("a", latest)})
	for range 3 {
		if !stream.Receive() || len(stream.Msg().Partitions) != 0 || len(stream.Msg().Resume) != 0 {
			t.Fatalf("got %v, %v, want a heartbeat", stream.Msg(), stream.Err())
		}
	}
}

func TestTailEndsAtItsAgeWithResumeOffsets(t *testing.T) {
	w := startWith(t, Config{}, func(e *edge) { e.cfg.TailAge = 20 * time.Millisecond; e.heartbeat = time.Hour })
	w.topic("a", 2)
	w.produce("a", 0, "0", "1")
	stream := w.tailing(&v1.TailRequest{Partitions: from("a", earliest)})
	wantResume(t, stream, "a/0@2 a/1@0")
}

func TestTailEndsWhenTheAgentDrainsWithResumeOffsets(t *testing.T) {
	w := start(t, func(e *edge) { e.heartbeat = time.Hour })
	w.topic("a", 1)
	w.produce("a", 0, "0")
	stream := w.tailing(&v1.TailRequest{Partitions: from("a", earliest)})
	next(t, stream)
	w.fake.drain()
	wantResume(t, stream, "a/0@1")
}

func wantResume(t *testing.T, stream *connect.ServerStreamForClient[v1.TailResponse], want string) {
	t.Helper()
	var got []string
	for m := next(t, stream); ; m = next(t, stream) {
		for _, r := range m.Resume {
			got = append(got, fmt.Sprintf("%s/%d@%d", r.Topic, r.GetPartition(), r.GetNextOffset()))
		}
		if len(m.Resume) > 0 {
			break
		}
	}
	if strings.Join(got, " ") != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if stream.Receive() || stream.Err() != nil {
		t.Errorf("got %v, %v, want the end", stream.Msg(), stream.Err())
	}
}

func TestTailTakesInPartitionsThatAreAddedLater(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	stream := w.tailing(&v1.TailRequest{Partitions: from("a", latest)})
	w.produce("a", 0, "x")
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	if _, err := w.fake.AddPartitions(t.Context(), "a", 2, false); err != nil {
		t.Fatal(err)
	}
	w.produce("a", 1, "y")
	for {
		if p := next(t, stream).Partitions[0]; p.GetPartition() == 1 {
			if fmt.Sprint(offsets(p)) != "[0]" {
				t.Errorf("got %v, want the new partition from its beginning", p)
			}
			return
		}
	}
}

func TestTailBeginsEachReadWithAnotherPartition(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.topic("b", 1)
	stream := w.tailing(&v1.TailRequest{Partitions: append(from("a", latest), from("b", latest)...)})
	for range 6 {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
	}
	w.fake.mu.Lock()
	defer w.fake.mu.Unlock()
	polls := slices.DeleteFunc(slices.Clone(w.fake.fetches), func(r agent.FetchRequest) bool { return r.Wait == 0 })
	for i, r := range polls[1:] {
		if before := polls[i].Partitions[0].Topic; i > 0 && r.Partitions[0].Topic == before {
			t.Errorf("two reads began with %s", before)
		}
	}
}

func TestTailTellsErrorsAndGoesOnWithTheRest(t *testing.T) {
	w := start(t)
	w.topic("a", 2)
	w.fake.partErr[fakePlace{"a", 1}] = agent.Unavailable
	stream := w.tailing(&v1.TailRequest{Partitions: append(from("a", earliest), from("nobody", earliest)...)})
	got := next(t, stream)
	reasons := []string{got.Partitions[0].GetError().GetReason(), got.Partitions[1].GetError().GetReason()}
	slices.Sort(reasons)
	if fmt.Sprint(reasons) != "[NOT_ENOUGH_REPLICAS UNKNOWN_TOPIC_OR_PARTITION]" {
		t.Errorf("got %v, want both errors", got)
	}
	w.fake.mu.Lock()
	delete(w.fake.partErr, fakePlace{"a", 1})
	w.fake.mu.Unlock()
	w.produce("a", 1, "x")
	for {
		if p := next(t, stream).Partitions[0]; p.Error == nil {
			if p.GetPartition() != 1 || fmt.Sprint(offsets(p)) != "[0]" {
				t.Errorf("got %v, want the record once the partition is back", p)
			}
			return
		}
	}
}

func TestTailEndsWhenNothingIsLeftToFollow(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	stream := w.tailing(&v1.TailRequest{Partitions: append(from("nobody", latest), &v1.FetchRequest_Partition{Topic: "a", Partition: new(int32(-1))})})
	var got []string
	for stream.Receive() {
		for _, p := range stream.Msg().Partitions {
			got = append(got, p.GetError().GetReason())
		}
	}
	if fmt.Sprint(got) != "[INVALID_REQUEST UNKNOWN_TOPIC_OR_PARTITION]" || stream.Err() != nil {
		t.Errorf("got %v, %v, want both errors and the end", got, stream.Err())
	}
}

func TestTailRefusesAPartitionThatIsNamedTwice(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	stream := w.tailing(&v1.TailRequest{Partitions: []*v1.FetchRequest_Partition{{Topic: "a"}, {Topic: "a", Partition: new(int32(0))}}})
	if got := next(t, stream).Partitions[0]; !strings.Contains(got.GetError().GetMessage(), "partitions[1]: topic a: a partition is named twice") {
		t.Errorf("got %v, want it refused", got)
	}
}

func TestASlowReaderBlocksNobodyAndIsCutOff(t *testing.T) {
	w := start(t, func(e *edge) { e.send, e.taken = 100*time.Millisecond, 1<<30 })
	w.topic("a", 1)
	w.topic("b", 1)
	slow := w.tailing(&v1.TailRequest{Partitions: from("a", earliest)})
	big := strings.Repeat("x", 1<<20-100)
	for range 12 { // more than the windows of connection and stream take
		w.produce("a", 0, big)
	}
	w.produce("b", 0, "y") // others go on
	fast := w.tailing(&v1.TailRequest{Partitions: from("b", earliest)})
	next(t, fast)
	if err := pause(t.Context(), 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for slow.Receive() {
	}
	if slow.Err() == nil || errors.Is(slow.Err(), context.DeadlineExceeded) {
		t.Errorf("got %v, want the stream cut off", slow.Err())
	}
}

func (w *world) lines(query string, accept string) (*http.Response, *bufio.Scanner) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/v1/topics/"+query, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cancel(); _ = response.Body.Close() })
	return response, bufio.NewScanner(response.Body)
}

func TestPlainTailWritesOneLinePerRecord(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.produce("a", 0, "0", "1", `{"n":2}`)
	response, lines := w.lines("a/tail?partition=0&from=1&max=2", "*/*")
	if got := response.Header.Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("got %q, want NDJSON", got)
	}
	var got []string
	for lines.Scan() {
		if lines.Text() != "" {
			got = append(got, lines.Text())
		}
	}
	want := []string{
		`{"partition":0,"offset":"1","value":{"text":"1"},"timestamp":"2023-11-14T22:13:20Z"}`,
		`{"partition":0,"offset":"2","value":{"json":{"n":2}},"timestamp":"2023-11-14T22:13:20Z"}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPlainTailWritesServerSentEvents(t *testing.T) {
	w := startWith(t, Config{}, func(e *edge) { e.cfg.TailAge = 30 * time.Millisecond; e.heartbeat = time.Hour })
	w.topic("a", 1)
	w.produce("a", 0, "0")
	_, lines := w.lines("a/tail?from=2020-01-01T00:00:00Z", "text/event-stream")
	var got []string
	for lines.Scan() {
		got = append(got, lines.Text())
	}
	want := `: heartbeat||event: record|data: {"partition":0,"offset":"0","value":{"text":"0"},"timestamp":"2023-11-14T22:13:20Z"}||` +
		`event: resume|data: {"resume":[{"topic":"a","partition":0,"nextOffset":"1"}]}|`
	if strings.Join(got, "|") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
	}
}

func TestPlainTailTellsWhatIsWrong(t *testing.T) {
	w := start(t)
	for path, want := range map[string]string{
		"a/tail?form=1":       `tail: query: unknown parameter`,
		"a/tail?from=soon":    `tail: from: `,
		"a/tail?max=0":        `tail: max: `,
		"a/tail?partition=-x": `tail: partition: `,
	} {
		if status, body := w.get("/v1/topics/" + path); status != http.StatusBadRequest || !strings.Contains(body, want) || !strings.Contains(body, "INVALID_REQUEST") {
			t.Errorf("%s: got %d %s, want %s", path, status, body, want)
		}
	}
	_, lines := w.lines("nobody/tail", "*/*")
	got := ""
	for lines.Scan() {
		got += lines.Text()
	}
	if !strings.Contains(got, `"reason":"UNKNOWN_TOPIC_OR_PARTITION"`) {
		t.Errorf("got %s, want the error", got)
	}
}
