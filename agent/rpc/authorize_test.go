package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// asks is a request of every procedure that would pass, and what it must ask for.
var asks = map[string]struct{ body, want string }{
	"ClusterService.GetCluster":  {`{}`, "describe the cluster"},
	"ClusterService.GetUsage":    {`{}`, "describe the cluster"},
	"TopicService.CreateTopic":   {`{"topic":{"name":"a"}}`, "create topic a"},
	"TopicService.GetTopic":      {`{"name":"a"}`, "describe topic a"},
	"TopicService.ListTopics":    {`{}`, "describe the cluster"},
	"TopicService.UpdateTopic":   {`{"topic":{"name":"a"}}`, "alter topic a"},
	"TopicService.DeleteTopic":   {`{"name":"a"}`, "delete topic a"},
	"TopicService.AddPartitions": {`{"name":"a","partitions":9}`, "alter topic a"},
	"TopicService.TrimPartition": {`{"name":"a","partition":0,"logStartOffset":"0"}`, "delete topic a"},
	"LogService.Produce":         {`{"batches":[{"topic":"a","records":{"records":[{}]}},{"topic":"b","records":{"records":[{}]}}]}`, "write topic a, write topic b"},
	"LogService.ProduceStream":   {``, "write topic a"},
	"LogService.Fetch":           {`{"partitions":[{"topic":"a"},{"topic":"b"}]}`, "read topic a, read topic b"},
	"LogService.Tail":            {``, "read topic a"},
	"LogService.ListOffsets":     {`{"partitions":[{"topic":"a"}]}`, "describe topic a"},
	"LogService.InitProducer":    {`{}`, "write the cluster"},
	"GroupService.Heartbeat":     {`{"group":"g","member":"m","topics":["a"],"pattern":"b.*"}`, "read group g"},
	"GroupService.CommitOffsets": {`{"group":"g","offsets":[{"topic":"a","partition":0,"offset":"0"}]}`, "read group g"},
	"GroupService.FetchOffsets":  {`{"group":"g","topics":["a"]}`, "describe group g"},
	"GroupService.GetGroup":      {`{"group":"g"}`, "describe group g"},
	"GroupService.ListGroups":    {`{}`, "describe the cluster"},
	"GroupService.ResetOffsets":  {`{"group":"g","topic":"a","start":{"point":"EARLIEST"}}`, "alter group g"},
	"GroupService.DeleteGroup":   {`{"group":"g"}`, "delete group g"},
	"QueueService.Pull":          {`{"group":"g","topic":"a"}`, "read group g"},
	"QueueService.Acknowledge":   {`{"group":"g","topic":"a","items":[{"tokens":["AA=="],"verdict":"ACCEPT"}]}`, "read group g"},
	"QueueService.GetQueue":      {`{"group":"g","topic":"a"}`, "describe group g"},

	"DeadLetterService.SendDeadLetter":     {`{"group":"g","topic":"a","partition":0,"offset":"0","committed":"-1","attempts":1}`, "read group g"},
	"DeadLetterService.CountDeadLetters":   {`{}`, "describe the cluster"},
	"DeadLetterService.ListDeadLetters":    {`{"topic":"a"}`, "read topic a"},
	"DeadLetterService.RedriveDeadLetters": {`{"topic":"a"}`, "read topic a"},
	"DeadLetterService.DiscardDeadLetters": {`{"topic":"a","only":[{"partition":0,"offset":"0"}]}`, "delete topic a"},
}

func TestEveryProcedureAsksForPermissionBeforeTheEngineHearsOfIt(t *testing.T) {
	var asked []string
	answer := errors.New("secret policy")
	w := startWith(t, Config{Authorize: func(_ context.Context, action Action, resource Resource) error {
		asked = append(asked, fmt.Sprintf("%s %s", action, resource))
		return answer
	}})
	procedures := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("splashdam.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				procedures++
				method := service.Methods().Get(j)
				name := string(service.Name() + "." + method.Name())
				ask, ok := asks[name]
				if !ok {
					t.Errorf("%s: no request to test it with", name)
					continue
				}
				asked = nil
				got := w.ask(name, ask.body)
				if strings.Join(asked, ", ") != ask.want {
					t.Errorf("%s: asked for %v, want %s", name, asked, ask.want)
				}
				if !strings.Contains(got, "AUTHORIZATION_FAILED") || strings.Contains(got, "secret") {
					t.Errorf("%s: got %s, want it denied", name, got)
				}
			}
		}
		return true
	})
	if procedures != len(asks) || w.fake.submitted != 0 || len(w.fake.fetches) != 0 || len(w.fake.topics) != 0 || len(w.fake.producers) != 0 || w.fake.groups.touched() || w.fake.queues.touched() || w.fake.queues.looked != 0 {
		t.Errorf("got %d procedures and a touched engine, want %d and none", procedures, len(asks))
	}
	answer = fmt.Errorf("token: %w", ErrUnauthenticated)
	if status, body := w.post("ClusterService/GetCluster", `{}`); status != http.StatusUnauthorized || !strings.Contains(body, "SASL_AUTHENTICATION_FAILED") {
		t.Errorf("got %d %s, want unauthenticated", status, body)
	}
}

// ask calls the procedure and answers what it said.
func (w *world) ask(name, body string) string {
	w.t.Helper()
	switch name {
	case "LogService.ProduceStream":
		stream, err := w.logClient().ProduceStream(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if err := stream.Send(&v1.ProduceStreamRequest{Request: &v1.ProduceRequest{Batches: []*v1.ProduceRequest_Batch{textBatch("a", 0, "x")}}}); err != nil {
			w.t.Fatal(err)
		}
		answer, err := stream.Receive()
		_ = stream.CloseRequest()
		_ = stream.CloseResponse()
		return fmt.Sprint(answer, err)
	case "LogService.Tail":
		stream := w.tailing(&v1.TailRequest{Partitions: from("a", latest)})
		return fmt.Sprint(next(w.t, stream))
	}
	_, answer := w.post(strings.Replace(name, ".", "/", 1), body)
	return answer
}
