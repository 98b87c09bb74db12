package peer

import (
	"context"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	peerv1 "github.com/splashdam/splashdam/proto/splashdam/peer/v1"
)

// Propose implements agent.Peers.
func (c *Client) Propose(ctx context.Context, to agent.AgentInfo, s objectlog.Shard, commands []metadata.Command) (shardlog.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	ctx, call, err := c.beginTo(ctx, fmt.Sprintf("propose to shard %d", s), to)
	if err != nil {
		return shardlog.Receipt{}, err
	}
	request := &peerv1.ProposeRequest{To: call.meant[:], Shard: int32(s), Commands: make([]*peerv1.Command, len(commands))}
	for i, cmd := range commands {
		request.Commands[i] = &peerv1.Command{Kind: uint32(cmd.Kind), Body: cmd.Body, Footer: cmd.Footer}
	}
	if size := proto.Size(request); size > proposeBytesMax {
		return shardlog.Receipt{}, call.fail(fmt.Errorf("%d bytes of commands: %w", size, objectlog.ErrTooLarge)) // nothing was sent
	}
	answer, err := c.large.Propose(ctx, request)
	if err != nil {
		return shardlog.Receipt{}, call.fail(definite(call.failure(err)))
	}
	// The proposal was taken. Whatever is wrong with the answer, it does not say that nothing was done.
	receipt, err := ofReceipt(answer, len(commands))
	if strange := call.by.check(c.own, call.meant); strange != nil {
		err = strange
	}
	if err != nil {
		return shardlog.Receipt{}, call.fail(undecided(err))
	}
	return receipt, nil
}

// definite answers the errors after which the proposal was not appended; any other one leaves it undecided.
func definite(err error) error {
	for _, known := range []error{shardlog.ErrUnknown, shardlog.ErrNotLeader, shardlog.ErrHalted, agent.ErrRefused, agent.ErrStranger} {
		if errors.Is(err, known) {
			return err
		}
	}
	return undecided(err)
}

// undecided hides what err is, so that nobody acts on it: ErrStranger, say, promises that nothing was done.
func undecided(err error) error { return fmt.Errorf("%w: %v", shardlog.ErrUnknown, err) }

// Propose implements the service.
func (s *server) Propose(ctx context.Context, r *peerv1.ProposeRequest) (*peerv1.ProposeResponse, error) {
	if err := s.meant(r.GetTo()); err != nil {
		return nil, toWire(err)
	}
	shard, err := shardOf(r.GetShard())
	if err != nil {
		return nil, toWire(err)
	}
	commands := make([]metadata.Command, len(r.GetCommands()))
	for i, cmd := range r.GetCommands() {
		if cmd.GetKind() > math.MaxUint8 {
			return nil, toWire(malformed("command of kind %d", cmd.GetKind()))
		}
		commands[i] = metadata.Command{Kind: metadata.Kind(cmd.GetKind()), Body: cmd.GetBody(), Footer: cmd.GetFooter()}
	}
	receipt, err := s.engine.ProposeHere(ctx, shard, commands)
	if err != nil {
		return nil, toWire(err)
	}
	answer, err := toReceipt(receipt)
	if err != nil {
		return nil, toWire(fmt.Errorf("committed, but the answer does not cross: %w", err))
	}
	return answer, nil
}

func toReceipt(receipt shardlog.Receipt) (*peerv1.ProposeResponse, error) {
	out := &peerv1.ProposeResponse{Seq: int64(receipt.Seq), Results: make([]*peerv1.ProposeResponse_Result, len(receipt.Results))}
	for i, result := range receipt.Results {
		if err, ok := result.(error); ok {
			r, _ := refusal(err)
			out.Results[i] = &peerv1.ProposeResponse_Result{Kind: &peerv1.ProposeResponse_Result_Refusal{Refusal: r}}
			continue
		}
		b, err := encodeResult(result)
		if err != nil {
			return nil, fmt.Errorf("command %d: %w", i, err)
		}
		out.Results[i] = &peerv1.ProposeResponse_Result{Kind: &peerv1.ProposeResponse_Result_Result{Result: b}}
	}
	return out, nil
}

func ofReceipt(m *peerv1.ProposeResponse, commands int) (shardlog.Receipt, error) {
	if len(m.GetResults()) != commands || m.GetSeq() < 0 {
		return shardlog.Receipt{}, malformed("%d results for %d commands, at seq %d", len(m.GetResults()), commands, m.GetSeq())
	}
	out := shardlog.Receipt{Seq: metadata.Seq(m.GetSeq()), Results: make([]any, commands)}
	for i, result := range m.GetResults() {
		switch kind := result.GetKind().(type) {
		case *peerv1.ProposeResponse_Result_Refusal:
			out.Results[i] = ofRefusal(kind.Refusal)
		case *peerv1.ProposeResponse_Result_Result:
			var err error
			if out.Results[i], err = decodeResult(kind.Result); err != nil {
				return shardlog.Receipt{}, malformed("command %d: %w", i, err)
			}
		default:
			return shardlog.Receipt{}, malformed("command %d: no result", i)
		}
	}
	return out, nil
}
