package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	peerv1 "github.com/splashdam/splashdam/proto/splashdam/peer/v1"
)

const (
	// messageBytes is about the size of one message of a stream. One entry is never split.
	messageBytes = 1 << 20
	// footersBytesMax bounds the footers that go along with one entry. What is left out, followers read in the bucket, as in a replay.
	footersBytesMax = 32 << 20
	// commandBytesMin is what a command takes in an entry: its kind and the length of its body.
	commandBytesMin = 2
)

// Follow implements agent.Peers.
func (c *Client) Follow(ctx context.Context, to agent.AgentInfo, s objectlog.Shard, from metadata.Seq, heard func(agent.Signal) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, call, err := c.beginTo(ctx, fmt.Sprintf("follow shard %d", s), to)
	if err != nil {
		return err
	}
	stream, err := c.large.Follow(ctx, &peerv1.FollowRequest{To: call.meant[:], Shard: int32(s), FromSeq: int64(from)})
	if err != nil {
		return call.end(err)
	}
	defer func() {
		cancel() // first: nobody waits for what is still on its way
		_ = stream.Close()
	}()
	for stream.Receive() {
		signal, err := ofSignal(stream.Msg())
		if strange := call.by.check(c.own, call.meant); strange != nil {
			err = strange
		}
		if err != nil {
			return call.fail(err)
		}
		if err := heard(signal); err != nil {
			return err
		}
	}
	return call.end(stream.Err())
}

// Follow implements the service.
func (s *server) Follow(ctx context.Context, r *peerv1.FollowRequest, stream *connect.ServerStream[peerv1.FollowResponse]) error {
	if err := s.meant(r.GetTo()); err != nil {
		return toWire(err)
	}
	shard, err := shardOf(r.GetShard())
	if err != nil {
		return toWire(err)
	}
	if r.GetFromSeq() < 0 {
		return toWire(malformed("from seq %d", r.GetFromSeq()))
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(s.stopping, end)()
	control := callerOf(ctx).control
	_ = control.SetWriteDeadline(time.Time{}) // each message has its own
	err = s.engine.Stream(ctx, shard, metadata.Seq(r.GetFromSeq()), func(signal agent.Signal) error {
		return toSignal(signal, func(m *peerv1.FollowResponse) error {
			_ = control.SetWriteDeadline(time.Now().Add(s.patience.message))
			defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
			return stream.Send(m)
		})
	})
	if s.stopping.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("this agent stops")
	}
	return toWire(err)
}

// toSignal sends a signal as messages of about messageBytes; one without entries is one message, maybe an empty one.
func toSignal(signal agent.Signal, send func(*peerv1.FollowResponse) error) error {
	m, size := &peerv1.FollowResponse{}, 0
	for _, e := range signal.Entries {
		entry, n := toEntry(e)
		if size+n > messageBytes && size > 0 {
			if err := send(m); err != nil {
				return err
			}
			m, size = &peerv1.FollowResponse{}, 0
		}
		m.Entries = append(m.Entries, entry)
		size += n
	}
	m.StateSeq, m.StateHash = int64(signal.State.Seq), signal.State.Hash
	return send(m)
}

func toEntry(e shardlog.Committed) (*peerv1.FollowResponse_Entry, int) {
	out := &peerv1.FollowResponse_Entry{Seq: int64(e.Seq), Entry: e.Entry, Commands: uint32(len(e.Footers))}
	footers := 0
	for i, footer := range e.Footers {
		if footer != nil && footers+len(footer) <= footersBytesMax {
			out.Footers = append(out.Footers, &peerv1.FollowResponse_Footer{Command: uint32(i), Footer: footer})
			footers += len(footer)
		}
	}
	return out, len(e.Entry) + footers
}

func ofSignal(m *peerv1.FollowResponse) (agent.Signal, error) {
	signal := agent.Signal{State: shardlog.Fingerprint{Seq: metadata.Seq(m.GetStateSeq()), Hash: m.GetStateHash()}}
	for _, e := range m.GetEntries() {
		entry, err := ofEntry(e)
		if err != nil {
			return agent.Signal{}, fmt.Errorf("entry of seq %d: %w", e.GetSeq(), err)
		}
		signal.Entries = append(signal.Entries, entry)
	}
	return signal, nil
}

func ofEntry(e *peerv1.FollowResponse_Entry) (shardlog.Committed, error) {
	if e.GetSeq() < 0 {
		return shardlog.Committed{}, malformed("negative")
	}
	n := int(e.GetCommands())
	if n > len(e.GetEntry())/commandBytesMin {
		return shardlog.Committed{}, malformed("%d commands in %d bytes", n, len(e.GetEntry()))
	}
	out := shardlog.Committed{Seq: metadata.Seq(e.GetSeq()), Entry: e.GetEntry()}
	if n > 0 {
		out.Footers = make([][]byte, n)
	}
	for _, f := range e.GetFooters() {
		if int64(f.GetCommand()) >= int64(n) {
			return shardlog.Committed{}, malformed("footer of command %d of %d", f.GetCommand(), n)
		}
		out.Footers[f.GetCommand()] = f.GetFooter()
	}
	return out, nil
}
