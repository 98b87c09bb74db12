package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// quality is what a link does to the connections through it.
type quality struct {
	cut            bool // they are reset, and so are new ones
	deaf, mute     bool // nothing arrives at the target, or nothing comes back, until that ends: the network keeps what it took
	delay, jitter  time.Duration
	bytesPerSecond int     // each way, of each connection; 0: unlimited
	loss           float64 // of pieces, which then come late by a retransmission, and hold up what is behind them
}

// anyone stands for every caller that has no quality of its own.
const anyone = -1

const (
	pieceBytes  = 16 << 10
	piecesMax   = 64 // on their way in one direction
	dialTimeout = 2 * time.Second
)

// retransmission is how late a lost piece comes.
const retransmission = 300 * time.Millisecond

// link is a TCP proxy in front of one listener. It knows which agent calls, where the system can tell, so that two agents can be parted
// while others still reach both.
type link struct {
	Address  string
	target   string
	listener net.Listener
	caller   func(net.Addr) int // the agent at the other end of a connection; nil, or an answer of anyone: not known
	running  sync.WaitGroup

	mu        sync.Mutex // all below
	qualities map[int]quality
	changed   chan struct{} // closed whenever a quality changes
	conns     map[net.Conn]int
	closed    bool
}

func newLink(target string, caller func(net.Addr) int) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("link to %s: %w", target, err)
	}
	l := &link{Address: listener.Addr().String(), target: target, listener: listener, caller: caller, qualities: map[int]quality{},
		changed: make(chan struct{}), conns: map[net.Conn]int{}}
	l.running.Go(l.accept)
	return l, nil
}

// set gives connections of a caller a quality, those that are open too.
func (l *link) set(caller int, q quality) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.qualities[caller] = q
	close(l.changed)
	l.changed = make(chan struct{})
	for conn, c := range l.conns {
		if l.of(c).cut {
			reset(conn)
		}
	}
}

// heal ends everything that set began.
func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.qualities)
	close(l.changed)
	l.changed = make(chan struct{})
}

// of is the quality for a caller; l.mu is held.
func (l *link) of(caller int) quality {
	if q, ok := l.qualities[caller]; ok {
		return q
	}
	return l.qualities[anyone]
}

func (l *link) quality(caller int) (quality, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(caller), l.changed
}

// close resets every connection and returns when nothing of the link runs.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.listener.Close()
	for conn := range l.conns {
		reset(conn)
	}
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	l.running.Wait()
}

func (l *link) accept() {
	for {
		conn, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			l.running.Go(func() { l.serve(conn) })
		}
	}
}

// admit adds a connection to those that set and close know, or resets it.
func (l *link) admit(conn net.Conn, caller int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.of(caller).cut {
		reset(conn)
		return false
	}
	l.conns[conn] = caller
	return true
}

func (l *link) forget(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
	conn.Close()
}

func (l *link) serve(conn net.Conn) {
	caller := anyone
	if l.caller != nil {
		caller = l.caller(conn.RemoteAddr())
	}
	if !l.admit(conn, caller) {
		return
	}
	defer l.forget(conn)
	target, err := net.DialTimeout("tcp", l.target, dialTimeout)
	if err != nil {
		reset(conn) // the nearest to a refusal that a connection can get which was accepted
		return
	}
	if !l.admit(target, caller) {
		return
	}
	defer l.forget(target)
	var both sync.WaitGroup
	both.Go(func() { l.carry(target, conn, caller, func(q quality) bool { return q.deaf }) })
	both.Go(func() { l.carry(conn, target, caller, func(q quality) bool { return q.mute }) })
	both.Wait()
}

// piece is on its way.
type piece struct {
	data []byte
	due  time.Time
}

// carry copies one direction until one of its ends fails; then both do.
func (l *link) carry(to, from net.Conn, caller int, stalled func(quality) bool) {
	pieces := make(chan piece, piecesMax)
	gone := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		defer close(gone)
		l.deliver(to, pieces, caller, stalled)
	})
	for {
		buffer := make([]byte, pieceBytes)
		n, err := from.Read(buffer)
		if n > 0 {
			q, _ := l.quality(caller)
			p := piece{buffer[:n], time.Now().Add(q.delay)}
			if q.jitter > 0 {
				p.due = p.due.Add(rand.N(q.jitter))
			}
			if q.loss > 0 && rand.Float64() < q.loss {
				p.due = p.due.Add(retransmission)
			}
			select {
			case pieces <- p:
			case <-gone:
				err = net.ErrClosed
			}
		}
		if err != nil {
			break
		}
	}
	close(pieces)
	writing.Wait()
	to.(*net.TCPConn).CloseWrite()
}

// deliver writes what arrives, in order, as soon as it may.
func (l *link) deliver(to net.Conn, pieces <-chan piece, caller int, stalled func(quality) bool) {
	for p := range pieces {
		for {
			q, changed := l.quality(caller)
			l.mu.Lock()
			closed := l.closed
			_, open := l.conns[to]
			l.mu.Unlock()
			if closed || !open {
				return
			}
			if !stalled(q) {
				if q.bytesPerSecond > 0 {
					p.due = p.due.Add(time.Duration(len(p.data)) * time.Second / time.Duration(q.bytesPerSecond))
				}
				break
			}
			<-changed
		}
		if late := time.Until(p.due); late > 0 {
			wait := time.NewTimer(late)
			<-wait.C
		}
		if _, err := to.Write(p.data); err != nil {
			return
		}
	}
}

// reset closes a connection so that the other end notices at once.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// ownerOf answers which of the processes has the connection whose other end, seen from here, is that address; anyone: none, or the
// system does not tell.
func ownerOf(address net.Addr, pids []int) int {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return anyone
	}
	inode := inodeOf(tcp.Port)
	if inode == "" {
		return anyone
	}
	want := "socket:[" + inode + "]"
	for i, pid := range pids {
		folder := fmt.Sprintf("/proc/%d/fd", pid)
		files, err := os.ReadDir(folder)
		if err != nil {
			continue
		}
		for _, f := range files {
			if name, err := os.Readlink(folder + "/" + f.Name()); err == nil && name == want {
				return i
			}
		}
	}
	return anyone
}

// inodeOf finds the socket of this machine with a local port on loopback that is connected.
func inodeOf(port int) string {
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		return ""
	}
	defer file.Close()
	const established = "01"
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) > 9 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && f[3] == established {
			return f[9]
		}
	}
	return ""
}
