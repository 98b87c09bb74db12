package metered_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/metadata/metadatatest"
	"github.com/splashdam/splashdam/metadata/metered"
)

func TestTablePassesTheAcceptanceSuite(t *testing.T) {
	metadatatest.Run(t, func(*testing.T) metadata.Table { return metered.New(new(mem.Table), time.Now) })
}

func TestEveryOutcomeHasItsSeries(t *testing.T) {
	ctx := context.Background()
	fault := mem.None
	now := time.Unix(0, 0)
	table := metered.New(&mem.Table{Fault: func(mem.Request) mem.Fault { return fault }}, func() time.Time {
		now = now.Add(time.Millisecond)
		return now
	})
	k := metadata.Key{PK: "p", SK: "1"}
	item := metadata.Item{Key: k, Rev: 1, Value: make([]byte, 10)}
	all := []metadata.Item{{Key: metadata.Key{PK: "q", SK: "1"}, Value: make([]byte, 3)}, {Key: metadata.Key{PK: "q", SK: "2"}, Value: make([]byte, 4)}}
	table.Get(ctx, k)
	table.Put(ctx, item, metadata.If{})
	table.Put(ctx, item, metadata.If{})
	table.Get(ctx, k)
	table.CreateAll(ctx, all)
	table.Query(ctx, "q", "", 10)
	table.Delete(ctx, k, metadata.RevIs(2))
	fault = mem.Throttle
	table.Get(ctx, k)
	table.Query(ctx, "q", "", 10)
	table.Put(ctx, item, metadata.If{})
	table.Delete(ctx, k, metadata.RevIs(1))
	table.CreateAll(ctx, all)
	fault = mem.None
	table.Delete(ctx, k, metadata.RevIs(1))
	var got []string
	for _, s := range table.Snapshot() {
		got = append(got, fmt.Sprintf("%s %s: %d, %d bytes, %s", s.Op, s.Outcome, s.Requests, s.Bytes, s.Time))
	}
	want := []string{
		"create_all applied: 1, 7 bytes, 1ms",
		"create_all refused: 0, 0 bytes, 0s",
		"create_all unknown: 1, 7 bytes, 1ms",
		"delete applied: 1, 0 bytes, 1ms",
		"delete refused: 1, 0 bytes, 1ms",
		"delete unknown: 1, 0 bytes, 1ms",
		"get absent: 1, 0 bytes, 1ms",
		"get error: 1, 0 bytes, 1ms",
		"get ok: 1, 10 bytes, 1ms",
		"put applied: 1, 10 bytes, 1ms",
		"put refused: 1, 10 bytes, 1ms",
		"put unknown: 1, 10 bytes, 1ms",
		"query error: 1, 0 bytes, 1ms",
		"query ok: 1, 7 bytes, 1ms",
	}
	if !slices.Equal(got, want) {
		t.Errorf("series:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
