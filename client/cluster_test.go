package client_test

import (
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/splashdam/splashdam/client"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

func TestClusterTellsWhatWasNeverHeardFromWhatIsZero(t *testing.T) {
	b := newBench(t, 1)
	zero, three := int32(0), int64(3)
	b.fake.cluster = &splashdamv1.GetClusterResponse{
		ClusterId: "c", AnsweredBy: "one",
		Agents: []*splashdamv1.GetClusterResponse_Agent{
			{BootId: "one", ClientAddress: "h:1", PeerAddress: "h:2", Host: "h", HeardAgo: durationpb.New(0), Draining: true, Problem: "p", AppliedSeqs: []int64{3}},
			{BootId: "two"},
		},
		Shards: []*splashdamv1.GetClusterResponse_Shard{
			{Shard: &zero, Leader: "one", Epoch: 2, AppliedSeq: &three, RingSlots: 64, RingUsed: 4, SnapshotSeq: &three, SnapshotAge: durationpb.New(time.Second)},
			{Fault: "f"},
		},
	}
	got, err := b.client.Cluster(within(t))
	want := client.Cluster{
		ID: "c", AnsweredBy: "one",
		Agents: []client.AgentInfo{
			{Boot: "one", Address: "h:1", PeerAddress: "h:2", Host: "h", Draining: true, Problem: "p", Applied: []int64{3}},
			{Boot: "two", HeardAgo: -1},
		},
		Shards: []client.ShardInfo{
			{Leader: "one", Epoch: 2, AppliedSeq: 3, RingSlots: 64, RingUsed: 4, SnapshotSeq: 3, SnapshotAge: time.Second},
			{Fault: "f", SnapshotAge: -1},
		},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}
