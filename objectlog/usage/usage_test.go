package usage_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/splashdam/splashdam/objectlog/usage"
)

func TestCounterAddsUpByKindAndCause(t *testing.T) {
	var c usage.Counter
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			c.Add("put", usage.Flush, 1, 100)
			c.Add("get", usage.Read, 1, 7)
			c.Add("put", usage.Snapshot, 2, 5)
		})
	}
	all.Wait()
	want := []usage.Line{
		{Kind: "get", Cause: usage.Read, Requests: 10, Units: 10, Bytes: 70},
		{Kind: "put", Cause: usage.Flush, Requests: 10, Units: 10, Bytes: 1000},
		{Kind: "put", Cause: usage.Snapshot, Requests: 10, Units: 20, Bytes: 50},
	}
	if got := c.Lines(); !slices.Equal(got, want) {
		t.Errorf("lines %+v, want %+v", got, want)
	}
}

func TestNilCounterCountsNothing(t *testing.T) {
	var c *usage.Counter
	c.Add("put", usage.Flush, 1, 1)
	if lines := c.Lines(); lines != nil {
		t.Errorf("lines %+v, want none", lines)
	}
}
