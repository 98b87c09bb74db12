package main

import (
	"context"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
	metamem "github.com/splashdam/splashdam/metadata/mem"
	"github.com/splashdam/splashdam/objectlog/mem"
)

// fillTopic makes a topic of two partitions with so many records in each.
func fillTopic(t *testing.T, at, topic string, records int) {
	t.Helper()
	c, err := client.New(client.Config{Addresses: []string{at}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := c.CreateTopic(ctx, client.Topic{Name: topic, Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	p, err := c.NewProducer(client.ProducerConfig{Partitioner: client.Manual})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * records {
		p.Produce(ctx, client.Record{Topic: topic, Partition: client.Partition(i % 2), Value: []byte("x")}, func(r client.Result) {
			if r.Err != nil {
				t.Errorf("produce: %v", r.Err)
			}
		})
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestPositionsOfAGroupAreMovedAndForgottenAtARunningAgent(t *testing.T) {
	one := serveAgent(t, new(mem.Bucket), new(metamem.Table), "")
	one.await(t)
	at := one.address
	fillTopic(t, at, "orders", 10)
	prints(t, "GROUP  STATE  MEMBERS  GENERATION\n", "group", "list", "--server", at)
	reset := func(flags ...string) []string {
		return append([]string{"group", "reset", "email", "--topic", "orders", "--server", at}, flags...)
	}
	const none = "PARTITION  FROM  TO\n0          -     10\n1          -     10\n"
	prints(t, none+"nothing was moved: without --dry-run, 2 positions of group email in orders would be\n", reset("--to-latest", "--dry-run")...)
	prints(t, none+"moved 2 positions of group email in orders\n", reset("--to-latest")...)
	prints(t, "PARTITION  FROM  TO\n1          10    7\nmoved 1 position of group email in orders\n", reset("--shift-by", "-3", "--partition", "1")...)
	prints(t, "PARTITION  FROM  TO\n0          10    0\nmoved 1 position of group email in orders\n", reset("--by-duration", "24h", "--partition", "0")...)
	prints(t, `group email (empty): 0 members, 2 partitions, lag 13
TOPIC   PARTITION  COMMITTED  END  LAG  MEMBER
orders  0          0          10   10   -
orders  1          7          10   3    -
`, "lag", "email", "--server", at)
	prints(t, "GROUP  STATE  MEMBERS  PARTITIONS  LAG\nemail  empty  0        2           13\n", "lag", "--server", at)
	prints(t, "group email is deleted\n", "group", "delete", "email", "--server", at)
	const unknown = `group email: there is no such group (see "splashdam group list"; a group begins with its first member or committed position)`
	fails(t, exitFailed, "delete "+unknown, "group", "delete", "email", "--server", at)
	fails(t, exitFailed, "describe "+unknown, "lag", "email", "--server", at)
	one.stop()
	if err := one.end(t); err != nil {
		t.Error(err)
	}
}
