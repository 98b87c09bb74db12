package rpc

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// batchesMax is one for each partition of the largest topic: each can have an error of its own, which is larger than an
// empty batch.
const batchesMax = 100_000

// Produce implements LogService.
func (e *edge) Produce(ctx context.Context, r *v1.ProduceRequest) (*v1.ProduceResponse, error) {
	s, err := e.submit(ctx, r)
	if err != nil {
		return nil, err
	}
	return s.wait(ctx), nil
}

// submission is a request on its way: refused here, batch by batch, or with the engine.
type submission struct {
	edge    *edge
	results []*v1.ProduceResponse_Result // one per batch of the request; nil: with the engine
	places  []int                        // in results, of the engine's batches
	pending Pending                      // nil: nothing is with the engine
	acks    v1.Acks
}

// submit gives the good batches of r their place in the order. Its error is one of the request as a whole.
func (e *edge) submit(ctx context.Context, r *v1.ProduceRequest) (*submission, error) {
	if len(r.GetBatches()) == 0 {
		return nil, invalid("produce", "batches", "want at least one")
	}
	if n := len(r.GetBatches()); n > batchesMax {
		return nil, invalid("produce", "batches", "%d at once, at most %d", n, batchesMax)
	}
	if _, ok := v1.Acks_name[int32(r.GetAcks())]; !ok {
		return nil, invalid("produce", "acks", "%d is unknown: want ACKS_DURABLE or ACKS_NONE", r.GetAcks())
	}
	producer, err := producerOf("produce", r.GetProducer())
	if err != nil {
		return nil, err
	}
	s := &submission{edge: e, results: make([]*v1.ProduceResponse_Result, len(r.GetBatches())), acks: r.GetAcks()}
	request := agent.ProduceRequest{Producer: producer}
	for i, b := range r.GetBatches() {
		batch, err := batchOf(fmt.Sprintf("batches[%d]", i), b, producer)
		if err == nil {
			err = e.authorize(ctx, ActionWrite, Resource{Topic: b.GetTopic()})
		}
		if err != nil {
			s.results[i] = &v1.ProduceResponse_Result{Error: e.detail(err)}
			continue
		}
		request.Batches = append(request.Batches, batch)
		s.places = append(s.places, i)
	}
	if len(request.Batches) > 0 {
		s.pending = e.engine.Submit(ctx, request)
	}
	return s, nil
}

// wait answers when every batch is decided.
func (s *submission) wait(ctx context.Context) *v1.ProduceResponse {
	if s.pending == nil {
		return &v1.ProduceResponse{Results: s.results}
	}
	if s.acks == v1.Acks_ACKS_NONE {
		// Only what is decided already is wanted: the validation.
		over, cancel := context.WithCancel(ctx)
		cancel()
		ctx = over
	}
	for i, decided := range s.pending.Wait(ctx) {
		s.results[s.places[i]] = s.result(decided)
	}
	return &v1.ProduceResponse{Results: s.results}
}

func (s *submission) result(r agent.ProduceResult) *v1.ProduceResponse_Result {
	if s.acks == v1.Acks_ACKS_NONE {
		if row, _ := classify(r.Err); r.Err == nil || row.cause == agent.OutcomeUnknown {
			return &v1.ProduceResponse_Result{}
		}
	}
	out := &v1.ProduceResponse_Result{}
	appended := func(p agent.Position) bool { return p.Offset >= 0 }
	if r.Err != nil {
		out.Error = s.edge.detail(r.Err)
		if !slices.ContainsFunc(r.Positions, appended) {
			return out
		}
	}
	out.Duplicate, out.AppendTime = r.Duplicate, protoTime(r.AppendTime)
	// Beside an error, the positions say which records are in the log.
	for _, p := range r.Positions {
		position := &v1.ProduceResponse_Position{}
		if p.Partition >= 0 {
			position.Partition = new(int32(p.Partition))
		}
		if appended(p) {
			position.Offset = new(int64(p.Offset))
		}
		out.Positions = append(out.Positions, position)
	}
	return out
}

// producerOf converts a producer; none is agent's NoProducer.
func producerOf(op string, p *v1.Producer) (agent.Producer, error) {
	if p == nil {
		return agent.Producer{ID: objectlog.NoProducer, Epoch: -1}, nil
	}
	if p.GetId() < 0 {
		return agent.Producer{}, invalid(op, "producer.id", "%d is negative: take one from InitProducer", p.GetId())
	}
	if p.GetEpoch() < 0 || p.GetEpoch() > math.MaxInt16 {
		return agent.Producer{}, invalid(op, "producer.epoch", "%d is not in 0 to %d", p.GetEpoch(), math.MaxInt16)
	}
	return agent.Producer{ID: objectlog.ProducerID(p.GetId()), Epoch: int16(p.GetEpoch())}, nil
}

// batchOf converts one batch and checks what the engine's types can't say.
func batchOf(path string, b *v1.ProduceRequest_Batch, producer agent.Producer) (agent.ProduceBatch, error) {
	out := agent.ProduceBatch{
		Topic:         b.GetTopic(),
		Partition:     agent.AnyPartition,
		Expected:      objectlog.NoOffset,
		FirstSequence: -1,
	}
	bad := func(field, format string, args ...any) (agent.ProduceBatch, error) {
		return agent.ProduceBatch{}, invalid("produce", path+"."+field, format, args...)
	}
	if b.Partition != nil {
		if b.GetPartition() < 0 {
			return bad("partition", "%d is negative: leave it out to have one chosen", b.GetPartition())
		}
		out.Partition = objectlog.Partition(b.GetPartition())
	}
	if b.ExpectedNextOffset != nil {
		if b.GetExpectedNextOffset() < 0 {
			return bad("expected_next_offset", "%d is negative", b.GetExpectedNextOffset())
		}
		if b.Partition == nil {
			return bad("partition", "required with expected_next_offset")
		}
		out.Expected = objectlog.Offset(b.GetExpectedNextOffset())
	}
	switch content := b.GetContent().(type) {
	case *v1.ProduceRequest_Batch_Encoded:
		if b.Partition == nil {
			return bad("partition", "required with encoded")
		}
		if b.FirstSequence != nil {
			return bad("first_sequence", "an encoded batch has its own")
		}
		if len(content.Encoded) == 0 {
			return bad("encoded", "empty: want one record batch in Kafka's format v2")
		}
		out.Encoded = content.Encoded
		return out, nil
	case *v1.ProduceRequest_Batch_Records:
		if len(content.Records.GetRecords()) == 0 {
			return bad("records", "empty: want at least one record")
		}
	default:
		return bad("content", "want records or encoded")
	}
	switch idempotent := producer.ID != objectlog.NoProducer; {
	case b.FirstSequence == nil && idempotent:
		return bad("first_sequence", "required with producer")
	case b.FirstSequence == nil:
	case !idempotent:
		return bad("first_sequence", "means nothing without producer")
	case b.GetFirstSequence() < 0:
		return bad("first_sequence", "%d is negative", b.GetFirstSequence())
	case b.Partition == nil:
		return bad("partition", "required with first_sequence")
	default:
		out.FirstSequence = b.GetFirstSequence()
	}
	var err error
	if out.Records, err = recordsOf(b.GetRecords()); err != nil {
		return agent.ProduceBatch{}, refusal{fmt.Sprintf("produce: %s.records.%v", path, err), agent.InvalidRequest}
	}
	return out, nil
}
