package localstack

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports gives out addresses on loopback for programs that are stopped and started again: none twice, and none of the ports that systems
// give to outgoing connections, since one of those would be lost to another process while its program is down. The zero value is ready.
type Ports struct {
	mu   sync.Mutex
	next int
}

// The range lies below what Linux and macOS give to outgoing connections.
const portLow, portNext = 10_000, 32_000

// Address answers a free address.
func (p *Ports) Address() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == 0 {
		p.next = portLow + rand.IntN(portNext-portLow) // other processes take from the same range
	}
	var last error
	for range portNext - portLow {
		address := fmt.Sprintf("127.0.0.1:%d", p.next)
		if p.next++; p.next == portNext {
			p.next = portLow
		}
		l, err := net.Listen("tcp", address)
		if err == nil {
			return address, l.Close()
		}
		last = err
	}
	return "", fmt.Errorf("find a free port: %w", last)
}
