package client_test

import (
	"errors"
	"testing"

	"github.com/splashdam/splashdam/client"
)

func TestUnknownTopicIsCreatedOnlyWhereTheAgentsWould(t *testing.T) {
	b := newBench(t, 1)
	p := b.producer(t, client.ProducerConfig{})
	defer p.Close(within(t))
	record := client.Record{Topic: "corners", Partition: client.AnyPartition, Value: []byte("left")}
	if _, err := p.ProduceSync(within(t), record); !errors.Is(err, client.ErrUnknownTopic) {
		t.Fatalf("created where it is off: %v", err)
	}
	b.fake.autoMake = 4
	if _, err := p.ProduceSync(within(t), record); err != nil {
		t.Fatal(err)
	}
	if topic, partitions, err := b.client.Topic(within(t), "corners"); err != nil || len(partitions) != 4 {
		t.Errorf("%+v %+v %v", topic, partitions, err)
	}
}
