package client_test

import (
	"reflect"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/splashdam/splashdam/client"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

func TestAgentUsageIsWhatTheAgentCounted(t *testing.T) {
	b := newBench(t, 1)
	b.fake.usage = &splashdamv1.GetUsageResponse{
		BootId: "boot", CountedFor: durationpb.New(90 * time.Second),
		Requests: []*splashdamv1.GetUsageResponse_Requests{{Store: "table", Kind: "put_item", Cause: "commit", Requests: 2, Units: 5, Bytes: 4100}},
		Topics:   []*splashdamv1.GetUsageResponse_Topic{{Topic: "goals", ProducedBytes: 7, FetchedBytes: 14}, {ProducedBytes: 1}},
	}
	first := true
	b.fake.refuse = func(string) error { // a read is repeated while that can help
		if !first {
			return nil
		}
		first = false
		return failure(connect.CodeUnavailable, detail("unavailable", "BROKER_NOT_AVAILABLE", 8, true))
	}
	got, err := b.client.AgentUsage(within(t))
	want := client.AgentUsage{
		Boot: "boot", CountedFor: 90 * time.Second,
		Requests: []client.StoreRequests{{Store: "table", Kind: "put_item", Cause: "commit", Requests: 2, Units: 5, Bytes: 4100}},
		Topics:   []client.TopicBytes{{Topic: "goals", Produced: 7, Fetched: 14}, {Produced: 1}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}
