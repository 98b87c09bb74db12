package agent

import (
	"context"
	"errors"
	"time"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// Identity is what an agent shows other agents, and wants to see of them: calls of another cluster, format level or secret are refused.
type Identity struct {
	Cluster     objectlog.UUID
	FormatLevel int
	Secret      string // shared by all agents of the cluster; kept in the table
	Boot        objectlog.UUID
}

// Peers reaches other agents by their peer addresses. Each call is one attempt, bounded by ctx, and may run beside others. What never
// reached the other agent, since its address refuses connections, is ErrRefused; what an agent of another boot, cluster, format level
// or secret answered is ErrStranger, and nothing was done; any other error of a call that changes something leaves its outcome unknown.
type Peers interface {
	// Ping greets whoever is at the address and answers its greeting, also when that is another boot than was thought.
	Ping(ctx context.Context, address string, own Greeting) (Greeting, error)
	// Propose appends at the shard's leader, as shardlog.Log's Propose does there, with the same errors. The agent does not pass it on.
	Propose(ctx context.Context, to AgentInfo, s objectlog.Shard, commands []metadata.Command) (shardlog.Receipt, error)
	// Follow calls heard, in order, with what the agent committed as leader of the shard, from that seq on or as far back as it
	// still has it, and with empty signals as signs of life. It ends with ctx, with heard's error, or when the agent leads no more.
	Follow(ctx context.Context, to AgentInfo, s objectlog.Shard, from metadata.Seq, heard func(Signal) error) error
	// HandOff tells the agent that this one let go of the shard's lease at the epoch.
	HandOff(ctx context.Context, to AgentInfo, s objectlog.Shard, epoch objectlog.Epoch) error
	// Heartbeat takes a member's heartbeat to the agent that leads its group's shard, which answers as HeartbeatHere.
	Heartbeat(ctx context.Context, to AgentInfo, h groups.Heartbeat, wait time.Duration) (groups.Assignment, error)
	// ReadBlock answers the extent of a segment out of the agent's cache, or out of the bucket by one GET of its own: less than the
	// extent, but something, where the segment ends within it. Errors of the bucket keep their sentinels.
	ReadBlock(ctx context.Context, to AgentInfo, segment objectlog.SegmentName, extent objectlog.Extent) ([]byte, error)
}

var (
	// ErrRefused: the address of the other agent refuses connections; nothing was sent.
	ErrRefused = errors.New("connection refused")
	// ErrStranger: the address leads to an agent of another boot, cluster, format level or secret; nothing was done.
	ErrStranger = errors.New("another agent than the one that was meant")
)

// Greeting is what agents tell each other of themselves.
type Greeting struct {
	Agent    AgentInfo
	Draining bool
	Problem  string              // why it is not ready, in a sentence; empty: it is
	Shards   []ShardInfo         // by number, as it sees them
	Wall     objectlog.Timestamp // its clock when it said this; 0: not told
}

// Signal is one message of a leader's stream to a follower.
type Signal struct {
	Entries []shardlog.Committed
	State   shardlog.Fingerprint // of the newest state that the leader took one of; zero: none yet
}
