package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

func TestMain(m *testing.M) {
	// The server gives a client half a second to read the answer to a request that it hasn't sent to the end.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// world is an edge over a fake engine behind a real listener.
type world struct {
	t      *testing.T
	fake   *fakeEngine
	url    string
	client *http.Client // h2c
	log    *bytes.Buffer
	edge   *edge
}

func start(t *testing.T, change ...func(*edge)) *world {
	t.Helper()
	return startWith(t, Config{}, change...)
}

func startWith(t *testing.T, cfg Config, change ...func(*edge)) *world {
	t.Helper()
	w := &world{t: t, fake: newFake(), log: new(bytes.Buffer)}
	cfg.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	e := newEdge(cfg, w.fake)
	w.edge = e
	e.heartbeat, e.poll = 50*time.Millisecond, 5*time.Millisecond
	for _, f := range change {
		f(e)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(e.handler())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	w.client = &http.Client{Transport: transport}
	w.url = "http://" + listener.Addr().String()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
		_ = server.Close()
		<-done
		w.wantFree(e.memory.max)
	})
	return w
}

// wantFree waits until so much memory is free. Nothing that ended holds any.
func (w *world) wantFree(want int64) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for {
		w.edge.memory.mu.Lock()
		free := w.edge.memory.free
		w.edge.memory.mu.Unlock()
		if free == want {
			return
		}
		if pause(ctx, time.Millisecond) != nil {
			w.t.Errorf("got %d bytes of memory free, want %d", free, want)
			return
		}
	}
}

// post is curl -d: HTTP/1.1 and JSON.
func (w *world) post(procedure, body string) (status int, answer string) {
	w.t.Helper()
	response, err := http.Post(w.url+"/splashdam.v1."+procedure, "application/json", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	return w.read(response)
}

func (w *world) get(path string) (status int, answer string) {
	w.t.Helper()
	response, err := http.Get(w.url + path)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.read(response)
}

func (w *world) read(response *http.Response) (int, string) {
	w.t.Helper()
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	var compact bytes.Buffer
	if json.Compact(&compact, b) == nil {
		return response.StatusCode, compact.String()
	}
	return response.StatusCode, string(b)
}

// want posts and compares.
func (w *world) want(procedure, body, want string) {
	w.t.Helper()
	if status, got := w.post(procedure, body); status != http.StatusOK || got != want {
		w.t.Errorf("%s %s:\ngot  %d %s\nwant 200 %s", procedure, body, status, got, want)
	}
}

func (w *world) topic(name string, partitions int32) {
	w.t.Helper()
	if _, err := w.fake.CreateTopic(w.t.Context(), name, partitions, nil, false); err != nil {
		w.t.Fatal(err)
	}
}

// logClient speaks to the log service over h2c.
func (w *world) logClient(options ...connect.ClientOption) splashdamv1connect.LogServiceClient {
	return splashdamv1connect.NewLogServiceClient(w.client, w.url, options...)
}

var protocols = map[string][]connect.ClientOption{
	"connect":      nil,
	"connect json": {connect.WithProtoJSON()},
	"grpc":         {connect.WithGRPC()},
	"grpc json":    {connect.WithGRPC(), connect.WithProtoJSON()},
	"grpc-web":     {connect.WithGRPCWeb()},
	"gzip":         {connect.WithSendGzip()},
	"http get":     {connect.WithHTTPGet()},
}

func text(s string) *v1.Payload { return &v1.Payload{Kind: &v1.Payload_Text{Text: s}} }

func textBatch(topic string, partition int32, values ...string) *v1.ProduceRequest_Batch {
	list := &v1.RecordList{}
	for _, v := range values {
		list.Records = append(list.Records, &v1.Record{Value: text(v)})
	}
	return &v1.ProduceRequest_Batch{Topic: topic, Partition: &partition, Content: &v1.ProduceRequest_Batch_Records{Records: list}}
}

// detailOf is the ErrorDetail that err must carry.
func detailOf(t *testing.T, err error) *v1.ErrorDetail {
	t.Helper()
	var failure *connect.Error
	if failure, _ = err.(*connect.Error); failure == nil {
		t.Fatalf("got %v, want a connect error", err)
	}
	for _, d := range failure.Details() {
		if m, err := d.Value(); err == nil {
			if detail, ok := m.(*v1.ErrorDetail); ok {
				if detail.Code != failure.Code().String() || detail.Message != failure.Message() {
					t.Errorf("detail %v differs from its error %v", detail, failure)
				}
				return detail
			}
		}
	}
	t.Fatalf("got %v without ErrorDetail", err)
	return nil
}

func TestShellExamplesOfTheContractWork(t *testing.T) {
	w := start(t)
	w.want("TopicService/CreateTopic", `{"topic":{"name":"matches","partitions":3}}`,
		`{"topic":{"name":"matches","partitions":3,"id":"00000000-0000-0000-0000-000000000001","state":"TOPIC_STATE_ACTIVE","etag":"1","createTime":"2023-11-14T22:13:20Z"}}`)
	w.want("LogService/Produce", `{"batches":[{"topic":"matches","records":{"records":[{"key":{"text":"bra-arg"},"value":{"json":{"goal":"Messi","minute":23}}}]}}]}`,
		`{"results":[{"positions":[{"partition":0,"offset":"0"}]}]}`)
	w.want("LogService/Fetch", `{"partitions":[{"topic":"matches","start":{"point":"EARLIEST"}}],"maxWait":"1s"}`,
		`{"partitions":[`+
			`{"topic":"matches","partition":0,"records":[{"offset":"0","key":{"text":"bra-arg"},"value":{"json":{"goal":"Messi","minute":23}},"timestamp":"2023-11-14T22:13:20Z"}],`+
			`"nextOffset":"1","highWatermark":"1","lastStableOffset":"1","logStartOffset":"0"},`+
			`{"topic":"matches","partition":1,"nextOffset":"0","highWatermark":"0","lastStableOffset":"0","logStartOffset":"0"},`+
			`{"topic":"matches","partition":2,"nextOffset":"0","highWatermark":"0","lastStableOffset":"0","logStartOffset":"0"}]}`)
}

func TestEveryProtocolProducesAndFetches(t *testing.T) {
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			w.topic("a", 1)
			client := w.logClient(options...)
			produced, err := client.Produce(t.Context(), &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, "x", "y"), textBatch("nobody", 0, "z")}})
			if err != nil {
				t.Fatal(err)
			}
			if got := produced.Results[0].Positions[1].GetOffset(); got != 1 || produced.Results[0].Error != nil {
				t.Errorf("got %v, want offset 1", produced.Results[0])
			}
			if got := produced.Results[1].Error; got.GetReason() != "UNKNOWN_TOPIC_OR_PARTITION" || got.GetKafkaCode() != 3 || got.GetCode() != "not_found" {
				t.Errorf("got %v, want unknown topic", got)
			}
			fetched, err := client.Fetch(t.Context(), &v1.FetchRequest{Partitions: []*v1.FetchRequest_Partition{{Topic: "a", Partition: new(int32(0))}}})
			if err != nil {
				t.Fatal(err)
			}
			if got := fetched.Partitions[0]; len(got.Records) != 2 || got.GetNextOffset() != 2 {
				t.Errorf("got %v, want two records", got)
			}
			_, err = client.Fetch(t.Context(), &v1.FetchRequest{})
			if d := detailOf(t, err); d.Reason != "INVALID_REQUEST" || d.Message != "fetch: partitions: want at least one" {
				t.Errorf("got %v, want the empty request refused", d)
			}
		})
	}
}

func TestReadsWorkByGetAndAreNotStored(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	response, err := http.Get(w.url + "/splashdam.v1.TopicService/ListTopics?connect=v1&encoding=json&message=%7B%22pageSize%22:1%7D")
	if err != nil {
		t.Fatal(err)
	}
	if got := response.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("got Cache-Control %q, want no-store", got)
	}
	if status, body := w.read(response); status != http.StatusOK || !strings.Contains(body, `"name":"a"`) {
		t.Errorf("got %d %s, want the topic", status, body)
	}
	if status, _ := w.get("/splashdam.v1.LogService/Produce?connect=v1&encoding=json&message=%7B%7D"); status != http.StatusMethodNotAllowed {
		t.Errorf("got %d for Produce by GET, want it refused", status)
	}
}

func TestFetchIsNotCompressedAndOthersAre(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	for procedure, want := range map[string]string{"LogService/Fetch": "", "LogService/ListOffsets": "gzip"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/splashdam.v1."+procedure, strings.NewReader(`{"partitions":[{"topic":"a"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Accept-Encoding", "gzip")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		w.read(response)
		if got := response.Header.Get("Content-Encoding"); got != want {
			t.Errorf("%s: got encoding %q, want %q", procedure, got, want)
		}
	}
}

func TestUnforeseenErrorsAndPanicsDoNotLeakAndAreLoggedOnce(t *testing.T) {
	w := start(t)
	for _, set := range []func(){
		func() { w.fake.fault = io.ErrNoProgress },
		func() { w.fake.panics = true },
	} {
		w.log.Reset()
		set()
		status, body := w.post("ClusterService/GetCluster", `{}`)
		if status != http.StatusInternalServerError || strings.Contains(body, "secret") || strings.Contains(body, "multiple Read") {
			t.Errorf("got %d %s, want an internal error without its text", status, body)
		}
		var failure struct{ Message string }
		if err := json.Unmarshal([]byte(body), &failure); err != nil {
			t.Fatal(err)
		}
		id := strings.TrimSuffix(strings.TrimPrefix(failure.Message, "internal error "), ": the agent's log has the cause")
		if got := strings.Count(w.log.String(), "level=ERROR"); got != 1 || len(id) != 16 || !strings.Contains(w.log.String(), id) {
			t.Errorf("got %d lines %q, want one with id %q", got, w.log, id)
		}
	}
}

func TestOversizeRequestsAreRefusedWithDetail(t *testing.T) {
	w := startWith(t, Config{RequestBytesMax: 1 << 16})
	w.topic("a", 1)
	big := strings.Repeat("x", 1<<16)
	request := &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, big)}}
	_, err := w.logClient().Produce(t.Context(), request)
	if d := detailOf(t, err); d.Reason != "MESSAGE_TOO_LARGE" || d.KafkaCode != 10 || d.Retriable {
		t.Errorf("got %v, want too large", d)
	}
	for name, options := range map[string][]connect.ClientOption{
		"grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}, "bomb": {connect.WithSendGzip()}, "grpc bomb": {connect.WithSendGzip(), connect.WithGRPC()},
	} {
		_, err := w.logClient(options...).Produce(t.Context(), request)
		if d := detailOf(t, err); d.Code != "invalid_argument" || d.Reason != "MESSAGE_TOO_LARGE" || d.Retriable {
			t.Errorf("%s: got %v, want too large", name, d)
		}
	}
	if w.fake.submitted != 0 {
		t.Errorf("got %d requests at the engine, want none", w.fake.submitted)
	}
}

func TestSlowBodiesAreCutOff(t *testing.T) {
	w := start(t, func(e *edge) { e.cfg.RequestTimeout = 50 * time.Millisecond })
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	const head = "POST /splashdam.v1.LogService/Produce HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || strings.Contains(string(answer), "200 OK") {
		t.Errorf("got %q, %v, want the connection closed after 50 ms", answer, err)
	}
}

func TestBrowsersNeedAnAllowedOrigin(t *testing.T) {
	for _, allowed := range [][]string{nil, {"https://console.test"}} {
		w := startWith(t, Config{AllowedOrigins: allowed})
		for origin, want := range map[string]string{"https://console.test": strings.Join(allowed, ""), "https://other.test": ""} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, w.url+splashdamv1connect.LogServiceFetchProcedure, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Origin", origin)
			request.Header.Set("Access-Control-Request-Method", "POST")
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			w.read(response)
			if got := response.Header.Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("allowed %v, origin %s: got %q, want %q", allowed, origin, got, want)
			}
		}
	}
}

func TestConfigNamesEveryProblem(t *testing.T) {
	err := Config{RequestBytesMax: 1, MemoryBytesMax: -1, TailAge: 1, RequestTimeout: 1, AllowedOrigins: []string{""}}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 4 {
		t.Errorf("got %v, want five problems", err)
	}
}
