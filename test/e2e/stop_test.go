package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func TestSlowClientDoesNotKeepTheBrokerFromStoppingWell(t *testing.T) {
	onEachStack(t, stopsWellInSpiteOfASlowClient)
}

func stopsWellInSpiteOfASlowClient(t *testing.T, s stack) {
	const timeout = 4 * time.Second
	b := s.start(t, "", "--stop-timeout", timeout.String())
	slow, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := fmt.Fprint(slow, "POST /splashdam.v1.LogService/Produce HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"+
		"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// The broker asks for the body, so the call has begun; only a part of it comes.
	began := make([]byte, 64)
	if n, err := slow.Read(began); err != nil || !strings.HasPrefix(string(began[:n]), "HTTP/1.1 100") {
		t.Fatalf("got %q, %v", began[:n], err)
	}
	if _, err := fmt.Fprint(slow, `{"batches"`); err != nil {
		t.Fatal(err)
	}
	b.stop() // fails where the exit is not 0
}
