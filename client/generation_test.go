package client_test

import (
	"context"
	"testing"

	"github.com/splashdam/splashdam/client"
)

func TestGenerationIsOneInWhichThePartitionIsTheMembers(t *testing.T) {
	b, d := newBench(t, 1), newDiary()
	b.fillAll(1, 3)
	cfg := grouped()
	var c *client.Consumer
	note := func(what string) func(context.Context, []client.TopicPartitions) {
		return func(context.Context, []client.TopicPartitions) { d.write("%s %d", what, c.Generation("matches", 0)) }
	}
	cfg.OnAssigned, cfg.OnRevoked, cfg.OnLost = note("assigned"), note("revoked"), note("lost")
	c = b.consumer(t, cfg)
	if got := c.Generation("matches", 0); got != 0 {
		t.Errorf("before anything is assigned: got %d, want 0", got)
	}
	poll := func() {
		records, err := c.Poll(within(t), 1)
		if err != nil {
			t.Fatal(err)
		}
		d.write("read %d", c.Generation("matches", records[0].Partition))
	}
	poll()
	b.expel("readers")
	for count(d.until(t, func([]string) bool { return true }), "assigned ") < 2 {
		poll()
	}
	c.Close()
	lines := d.until(t, func(lines []string) bool { return count(lines, "revoked ") == 1 })
	if lines[0] != "assigned 1" || lines[1] != "read 1" || count(lines, "lost 0") != 1 || count(lines, "assigned 0") != 0 || count(lines, "revoked 0") != 0 {
		t.Errorf("got %v", lines)
	}
	if got := c.Generation("matches", 0); got != 0 {
		t.Errorf("after the end: got %d, want 0", got)
	}
	if got := b.consumer(t, client.ConsumerConfig{Topics: []string{"matches"}}).Generation("matches", 0); got != 0 {
		t.Errorf("without a group: got %d, want 0", got)
	}
}
