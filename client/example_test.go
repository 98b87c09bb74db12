package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/splashdam/splashdam/client"
)

// exampleClient is a client of a broker in memory with the topic "matches"; outside of these examples it is
// client.New(client.Config{Addresses: []string{"splashdam.example:4510"}}).
func exampleClient() (c *client.Client, end func()) {
	f := startFake()
	f.addTopic("matches", 3)
	c, err := client.New(client.Config{Addresses: []string{f.address()}})
	if err != nil {
		log.Fatal(err)
	}
	return c, func() { c.Close(); f.close() }
}

func ExampleProducer_Produce() {
	c, end := exampleClient()
	defer end()
	p, err := c.NewProducer(client.ProducerConfig{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	for _, goal := range []string{"Messi 23'", "Neymar 41'"} {
		p.Produce(ctx, client.Record{Topic: "matches", Key: []byte("bra-arg"), Value: []byte(goal)}, func(r client.Result) {
			switch {
			case errors.Is(r.Err, client.ErrUnknownOutcome):
				fmt.Println("it may be in the log:", r.Err)
			case r.Err != nil:
				fmt.Println("it is not in the log:", r.Err)
			default:
				fmt.Println(goal, "is at offset", r.Offset)
			}
		})
	}
	if err := p.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// Messi 23' is at offset 0
	// Neymar 41' is at offset 1
}

func ExampleConsumer_Run() {
	c, end := exampleClient()
	defer end()
	p, err := c.NewProducer(client.ProducerConfig{})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := p.ProduceSync(ctx, client.Record{Topic: "matches", Value: []byte("kick-off")}); err != nil {
		log.Fatal(err)
	}
	if err := p.Close(ctx); err != nil {
		log.Fatal(err)
	}
	consumer, err := c.NewConsumer(client.ConsumerConfig{Topics: []string{"matches"}})
	if err != nil {
		log.Fatal(err)
	}
	defer consumer.Close()
	err = consumer.Run(ctx, func(_ context.Context, r client.Record) error {
		fmt.Printf("offset %d: %s\n", r.Offset, r.Value)
		cancel()
		return nil
	})
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// offset 0: kick-off
	// true
}

// Consumers with the same Group share the partitions of a topic. What the handler has processed is committed every few seconds, when a
// partition goes to another member, and on Close; after a crash the records since then come again.
func ExampleConsumer_Run_group() {
	c, end := exampleClient()
	defer end()
	ctx := context.Background()
	exampleOrders(c)
	for _, instance := range []string{"email-1", "email-2"} { // one after the other
		consumer, err := c.NewConsumer(client.ConsumerConfig{
			Topics: []string{"matches"}, Group: "email",
			OnAssigned: func(_ context.Context, assigned []client.TopicPartitions) {
				fmt.Println(instance, "has", assigned[0].Topic, assigned[0].Partitions)
			},
		})
		if err != nil {
			log.Fatal(err)
		}
		ctx, enough := context.WithCancel(ctx)
		err = consumer.Run(ctx, func(_ context.Context, r client.Record) error {
			fmt.Printf("%s sends an e-mail about %s\n", instance, r.Value)
			enough()
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			log.Fatal(err)
		}
		consumer.Close()
	}
	// Output:
	// email-1 has matches [0 1 2]
	// email-1 sends an e-mail about order 1
	// email-2 has matches [0 1 2]
	// email-2 sends an e-mail about order 2
}

// exampleOrders produces two orders of one customer.
func exampleOrders(c *client.Client) {
	p, err := c.NewProducer(client.ProducerConfig{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	for _, order := range []string{"order 1", "order 2"} {
		if _, err := p.ProduceSync(ctx, client.Record{Topic: "matches", Key: []byte("customer 7"), Value: []byte(order)}); err != nil {
			log.Fatal(err)
		}
	}
	if err := p.Close(ctx); err != nil {
		log.Fatal(err)
	}
}

// A loop that works on many records together, and says itself when they are done.
func ExampleConsumer_Commit() {
	c, end := exampleClient()
	defer end()
	exampleOrders(c)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	consumer, err := c.NewConsumer(client.ConsumerConfig{Topics: []string{"matches"}, Group: "analytics", Commit: client.CommitManual})
	if err != nil {
		log.Fatal(err)
	}
	defer consumer.Close()
	for orders := 0; orders < 2; {
		records, err := consumer.Poll(ctx, 100)
		if err != nil {
			log.Fatal(err)
		}
		orders += len(records) // the work
		switch err := consumer.Commit(ctx); {
		case errors.Is(err, client.ErrStaleGeneration):
			fmt.Println("another member works on them again:", err)
		case err != nil:
			log.Fatal(err)
		}
	}
	offsets, err := c.GroupOffsets(ctx, "analytics", "matches")
	if err != nil {
		log.Fatal(err)
	}
	for _, o := range offsets {
		if o.Offset > 0 {
			fmt.Println("the group goes on at", o.Offset)
		}
	}
	// Output: the group goes on at 2
}

func ExampleClient_AppendAt() {
	c, end := exampleClient()
	defer end()
	ctx := context.Background()
	for _, player := range []string{"first", "second"} {
		_, err := c.AppendAt(ctx, "matches", 0, 0, client.Record{Value: []byte(player)})
		var e *client.Error
		switch {
		case errors.Is(err, client.ErrOffsetMismatch) && errors.As(err, &e):
			fmt.Println(player, "is late: the log goes on at", e.Metadata["actual"])
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Println(player, "has it")
		}
	}
	// Output:
	// first has it
	// second is late: the log goes on at 1
}

func ExampleSalted() {
	hot := map[string]bool{"world-cup-final": true}
	partitioner := client.Salted(3, func(key []byte) bool { return hot[string(key)] })
	r := &client.Record{Key: []byte("world-cup-final")}
	for range 4 {
		fmt.Print(partitioner(r, 10), " ")
	}
	fmt.Println(client.SaltedPartitions(r.Key, 3, 10))
	// Output: 8 9 0 8 [8 9 0]
}

func ExampleCompoundKey() {
	fmt.Printf("%q\n", client.CompoundKey([]byte("customer 7"), []byte("order 12")))
	// Output: "\ncustomer 7\border 12"
}

func ExampleClient_CreateTopic() {
	c, end := exampleClient()
	defer end()
	_, err := c.CreateTopic(context.Background(), client.Topic{
		Name: "goals", Partitions: 12, Settings: map[string]string{"retention.ms": "604800000"},
	})
	fmt.Println(err)
	// Output: <nil>
}

// Any number of consumers work on the records of a queue one by one, several together. What the handler answers says what becomes of the record.
func ExampleClient_NewQueue() {
	c, end := exampleClient()
	defer end()
	exampleOrders(c)
	queue, err := c.NewQueue(client.QueueConfig{Group: "parcels", Topic: "matches", MaxDeliveries: 3, Handlers: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer queue.Close()
	ctx, enough := context.WithTimeout(context.Background(), 10*time.Second)
	defer enough()
	err = queue.Run(ctx, func(_ context.Context, r *client.QueuedRecord) error {
		fmt.Printf("delivery %d of %s\n", r.Deliveries, r.Value)
		switch {
		case string(r.Value) == "order 2" && r.Deliveries == 1:
			return errors.New("the printer is out of paper") // it comes again
		case string(r.Value) == "order 2":
			enough()
			return client.Rejected(errors.New("it has no address")) // it goes to matches-dlq
		}
		return nil // it never comes again
	})
	fmt.Println(err)
	// Output:
	// delivery 1 of order 1
	// delivery 1 of order 2
	// delivery 2 of order 2
	// <nil>
}

// A loop that says itself what becomes of the records.
func ExampleQueue_Pull() {
	c, end := exampleClient()
	defer end()
	exampleOrders(c)
	queue, err := c.NewQueue(client.QueueConfig{Group: "parcels", Topic: "matches"})
	if err != nil {
		log.Fatal(err)
	}
	defer queue.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	records, err := queue.Pull(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(records), "records are locked")
	switch err := queue.Accept(ctx, records...); {
	case errors.Is(err, client.ErrNotLocked):
		fmt.Println("another consumer works on some of them again:", err)
	case errors.Is(err, client.ErrUnknownOutcome):
		fmt.Println("some of them may come again:", err)
	case err != nil:
		log.Fatal(err)
	}
	// Output: 2 records are locked
}

// With a RetryPolicy a record that can't be processed does not stop the partition: behind the last attempt it becomes a dead letter.
func ExampleConsumer_Run_retry() {
	c, end := exampleClient()
	defer end()
	exampleOrders(c)
	consumer, err := c.NewConsumer(client.ConsumerConfig{
		Topics: []string{"matches"}, Group: "email",
		Retry: &client.RetryPolicy{Attempts: 2, Backoff: time.Millisecond},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer consumer.Close()
	ctx, enough := context.WithTimeout(context.Background(), 10*time.Second)
	defer enough()
	err = consumer.Run(ctx, func(_ context.Context, r client.Record) error {
		fmt.Println(string(r.Value))
		if string(r.Value) == "order 1" {
			return errors.New("no such e-mail address")
		}
		enough()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
	counts, err := c.DeadLetterCounts(context.Background(), "matches-dlq")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(counts[0].DeadLetters, "dead letter")
	// Output:
	// order 1
	// order 1
	// order 2
	// 1 dead letter
}

// Dead letters are looked at, mended and sent on their way again.
func ExampleClient_Redrive() {
	c, end := exampleClient()
	defer end()
	exampleOrders(c)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	queue, err := c.NewQueue(client.QueueConfig{Group: "parcels", Topic: "matches"})
	if err != nil {
		log.Fatal(err)
	}
	defer queue.Close()
	records, err := queue.Pull(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := queue.Reject(ctx, "it has no address", records...); err != nil {
		log.Fatal(err)
	}
	page, err := c.DeadLetters(ctx, client.DeadLetterQuery{Topic: "matches-dlq", Limit: 1})
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range page.DeadLetters {
		fmt.Printf("%s from %s: %s\n", d.Value, d.SourceTopic, d.Error)
		done, err := c.Redrive(ctx, client.RedriveRequest{
			Topic: d.Topic, Only: []client.DeadLetterPosition{{Partition: d.Partition, Offset: d.Offset}},
			Edited: true, EditedValue: append(d.Value, " to customer 7"...),
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(done.Redriven, "redriven")
	}
	if records, err = queue.Pull(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", records[0].Value)
	// Output:
	// order 1 from matches: it has no address
	// 1 redriven
	// order 1 to customer 7
}
