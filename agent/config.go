package agent

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// Config is one agent's settings. Zero values are the defaults named here.
type Config struct {
	Version       string // of the program, shown in the cluster's list of agents
	ClientAddress string // advertised to clients, host:port
	PeerAddress   string // advertised to other agents, host:port; no two agents may have the same at one time
	Host          string // the machine's name: a peer address on loopback says nothing without it
	Zone          string // where it runs, such as an availability zone

	Prefix string // of object keys in the bucket
	Shards int    // at the creation of the cluster; default 4, 1 to 1,024; a different number later is refused
	Slots  int    // ring size at creation; default 4096, 64 to 65,536
	// JoinOnly: an empty table is refused, not made a cluster.
	JoinOnly bool
	// TableID is the table's own identity, where it has one. A cluster is only opened in the table it was made in.
	TableID string
	// ExclusiveTable says that no other process can have the table open, so leadership is claimed at once.
	ExclusiveTable bool
	// Dial makes what reaches other agents, once the cluster is known; nil: there are none, and only shards led here take proposals.
	Dial  func(Identity) Peers
	Lease time.Duration // how long a leader that shows no sign of life is watched before it is replaced; default 3 s, 0.5 s to 60 s; the same at all agents

	BufferBytesMax  int64         // records held in memory, uploads included; default 256 MiB
	SegmentBytesMax int64         // stored size at which a segment is sealed; default 8 MiB
	FlushRate       float64       // seals by time per second, once the burst is used; default 4; 0 with FlushFreely
	FlushBurst      int           // default 4
	FlushFreely     bool          // seal whenever no upload is in flight: stores on this machine have no request cost
	ProduceTimeout  time.Duration // until an undecided batch is answered as unknown; default 30 s
	DrainTimeout    time.Duration // for all that is done behind the end of Run's ctx; default 30 s
	BlockCacheBytes int64         // default 256 MiB
	AutoCreate      bool          // create an unknown topic on produce
	AutoPartitions  int32         // of topics created so; default 1
	Limits          objectlog.Limits
	GroupLife       time.Duration // a group without members and commits is forgotten behind this; default 7 days, at least 1 min
	QueueWindow     int32         // records in flight per queue and partition, beyond which none is handed out for the first time; default 2,000, 1 to 10,000

	Wall   func() objectlog.Timestamp // default: the system clock
	Random func() uint64              // default: crypto/rand
}

const (
	shardsDefault = 4
	slotsDefault  = 4096
)

// Validate reports every problem of the configuration.
func (c Config) Validate() error {
	var problems []error
	within := func(name string, value, low, high int64) {
		if value != 0 && (value < low || value > high) {
			problems = append(problems, fmt.Errorf("%s %d: want %d to %d", name, value, low, high))
		}
	}
	within("Shards", int64(c.Shards), 1, 1024)
	within("Slots", int64(c.Slots), 64, 65536)
	within("Lease in ms", c.Lease.Milliseconds(), 500, time.Minute.Milliseconds())
	within("BufferBytesMax", c.BufferBytesMax, 1<<20, 1<<40)
	within("SegmentBytesMax", c.SegmentBytesMax, 64<<10, 1<<30)
	within("FlushBurst", int64(c.FlushBurst), 1, 1000)
	within("ProduceTimeout in ms", c.ProduceTimeout.Milliseconds(), 100, time.Hour.Milliseconds())
	within("DrainTimeout in ms", c.DrainTimeout.Milliseconds(), 1, time.Hour.Milliseconds())
	within("BlockCacheBytes", c.BlockCacheBytes, 1<<20, 1<<40)
	within("GroupLife in ms", c.GroupLife.Milliseconds(), time.Minute.Milliseconds(), 1<<52)
	within("QueueWindow", int64(c.QueueWindow), 1, queues.WindowMax)
	within("AutoPartitions", int64(c.AutoPartitions), 1, partitionsMax)
	if c.FlushRate < 0 || c.FlushRate > 1000 {
		problems = append(problems, fmt.Errorf("FlushRate %g: want 0 to 1000", c.FlushRate))
	}
	if c.FlushFreely && c.FlushRate != 0 {
		problems = append(problems, errors.New("FlushFreely and FlushRate exclude each other"))
	}
	if strings.HasPrefix(c.Prefix, "/") || strings.HasSuffix(c.Prefix, "/") {
		problems = append(problems, fmt.Errorf("Prefix %q: no slash at either end", c.Prefix))
	}
	return errors.Join(problems...)
}

// withDefaults fills in everything but Shards and Slots, where 0 stands for whatever the cluster has.
func (c Config) withDefaults() Config {
	c.BufferBytesMax = cmp.Or(c.BufferBytesMax, 256<<20)
	c.SegmentBytesMax = cmp.Or(c.SegmentBytesMax, 8<<20)
	c.FlushRate = cmp.Or(c.FlushRate, 4)
	c.FlushBurst = cmp.Or(c.FlushBurst, 4)
	c.ProduceTimeout = cmp.Or(c.ProduceTimeout, 30*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 30*time.Second)
	c.BlockCacheBytes = cmp.Or(c.BlockCacheBytes, 256<<20)
	c.AutoPartitions = cmp.Or(c.AutoPartitions, 1)
	c.GroupLife = cmp.Or(c.GroupLife, 7*24*time.Hour)
	c.QueueWindow = cmp.Or(c.QueueWindow, queues.WindowDefault)
	c.Lease = cmp.Or(c.Lease, 3*time.Second)
	if c.Wall == nil {
		c.Wall = func() objectlog.Timestamp { return objectlog.Timestamp(time.Now().UnixMilli()) }
	}
	if c.Random == nil {
		c.Random = func() uint64 {
			var b [8]byte
			_, _ = rand.Read(b[:]) // never fails
			return binary.LittleEndian.Uint64(b[:])
		}
	}
	return c
}
