package client_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
)

func TestChangeWithoutAConnectionIsADefiniteFailure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // now nobody listens there
	c, err := client.New(client.Config{Addresses: []string{l.Addr().String()}, RequestTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.CreateTopic(context.Background(), client.Topic{Name: "goals"})
	if err == nil || errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("got %v, want a definite failure: nothing was sent", err)
	}
}
