package rpc

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// The bounds of reads.
const (
	fetchRecordsDefault = 1_000
	fetchRecordsMax     = 100_000
	fetchBytesDefault   = 1 << 20
	fetchBytesMax       = 64 << 20
	fetchWaitMax        = 30 * time.Second
	// decodedBytesMax bounds the records of one answer, so that well compressed batches don't multiply in memory.
	decodedBytesMax = 64 << 20
)

// Fetch implements LogService.
func (e *edge) Fetch(ctx context.Context, r *v1.FetchRequest) (*v1.FetchResponse, error) {
	request, recordsMax, err := fetchBounds(r)
	if err != nil {
		return nil, err
	}
	if err := checkReads("fetch", r.GetPartitions(), r.GetIsolation()); err != nil {
		return nil, err
	}
	response := &v1.FetchResponse{}
	for i, p := range r.GetPartitions() {
		wanted, err := e.readable(ctx, ActionRead, "fetch", i, p)
		if err != nil {
			response.Partitions = append(response.Partitions, e.refusedPartition(p, err))
			request.Wait = 0 // what is wrong with one partition is told at once
			continue
		}
		request.Partitions = append(request.Partitions, wanted)
	}
	if len(request.Partitions) == 0 {
		return response, nil
	}
	claim := e.claimOf(ctx)
	reads, err := e.read(ctx, claim, request)
	if err != nil {
		return nil, err
	}
	budget := newBudget(recordsMax, storedBytes(reads), claim)
	for _, read := range reads {
		response.Partitions = append(response.Partitions, e.fetched(read, r.GetEncoded(), budget))
	}
	e.answerWithin(ctx, claim)
	return response, nil
}

const (
	// answerCopies is how often an answer's batches are in memory, at most: read, as a message, and encoded.
	answerCopies = 3
	// readShare is the part of all memory that one read may ask for, so that a client slow to take its answer leaves some to others.
	readShare = 8
	// leastRead is what a read asks for when memory is short.
	leastRead = 64 << 10
	// pollBytes is what a read that waits for records is answered at once; its next one reads the rest. While it waits it weighs
	// as much.
	pollBytes = 16 << 10
)

// read fetches, and takes the memory for the answer from claim: before the engine reads, so that many large reads don't
// meet; little for those that only wait, of which there are many.
func (e *edge) read(ctx context.Context, c *claim, r agent.FetchRequest) ([]agent.FetchedPartition, error) {
	c.reading()
	if r.Wait == 0 || r.BytesMin > 1 {
		return e.readOnce(ctx, c, r, answerCopies)
	}
	now := r
	now.Wait = 0
	reads, err := e.readOnce(ctx, c, now, answerCopies)
	if err != nil || len(reads) == 0 || slices.ContainsFunc(reads, func(p agent.FetchedPartition) bool { return p.Err != nil || len(p.Batches) > 0 }) {
		return reads, err
	}
	c.release()
	r.BytesMax = min(r.BytesMax, pollBytes)
	r.Partitions = make([]agent.FetchPartition, len(reads))
	for i, p := range reads { // where it was found empty, so that nothing is passed over in between
		r.Partitions[i] = agent.FetchPartition{Topic: p.Topic, Partition: p.Partition, Start: agent.Start{Kind: agent.StartOffset, Offset: p.From}}
	}
	return e.readOnce(ctx, c, r, 1)
}

// readOnce asks for less where memory is short, and only waits for it where there is none. weight is of a byte asked for.
func (e *edge) readOnce(ctx context.Context, c *claim, r agent.FetchRequest, weight int64) ([]agent.FetchedPartition, error) {
	var err error
	if r.BytesMax, err = c.takeToRead(ctx, r.BytesMax, weight); err != nil {
		return nil, err
	}
	r.BytesMin = min(r.BytesMin, r.BytesMax)
	reads := e.engine.Fetch(ctx, r)
	if err := c.takeWhatWasRead(ctx, storedBytes(reads)); err != nil {
		return nil, err
	}
	return reads, nil
}

// takeToRead takes the memory for a read of so many bytes, and answers how many it may be.
func (c *claim) takeToRead(ctx context.Context, bytes, weight int64) (int64, error) {
	bytes = min(bytes, max(c.memory.max/readShare/weight, leastRead))
	for bytes > leastRead && !c.tryTake(weight*bytes) {
		bytes = max(bytes/2, leastRead)
	}
	if c.held == 0 {
		if err := c.take(ctx, weight*bytes); err != nil {
			return 0, err
		}
	}
	return bytes, nil
}

// takeWhatWasRead leaves the claim with what the answer of a read takes: the first batch comes even if it is larger than asked for.
func (c *claim) takeWhatWasRead(ctx context.Context, stored int) error {
	answer := answerCopies * int64(stored)
	if answer > c.held {
		if err := c.take(ctx, answer-c.held); err != nil {
			return err
		}
	}
	c.keep(answer)
	return nil
}

func storedBytes(reads []agent.FetchedPartition) int {
	size := 0
	for _, p := range reads {
		for _, b := range p.Batches {
			size += len(b)
		}
	}
	return size
}

// answerWithin gives a client as long for a large answer as for one message of a stream: what the answer holds others wait for.
func (e *edge) answerWithin(ctx context.Context, c *claim) {
	if control, ok := ctx.Value(controlKey{}).(*control); ok && c.held > leastRead {
		control.writeWithin(e.timeFor(c.held / answerCopies))
	}
}

// fetchBounds checks the request's numbers and fills in the defaults.
func fetchBounds(r *v1.FetchRequest) (agent.FetchRequest, int, error) {
	bad := func(field, format string, args ...any) (agent.FetchRequest, int, error) {
		return agent.FetchRequest{}, 0, invalid("fetch", field, format, args...)
	}
	out := agent.FetchRequest{BytesMin: int64(r.GetMinBytes())}
	records := int(r.GetMaxRecords())
	if records < 0 || records > fetchRecordsMax {
		return bad("max_records", "%d is not in 0 to %d", records, fetchRecordsMax)
	}
	if records == 0 {
		records = fetchRecordsDefault
	}
	var err error
	if out.BytesMax, err = bytesMax("fetch", r.GetMaxBytes()); err != nil {
		return agent.FetchRequest{}, 0, err
	}
	if out.BytesMin < 0 || out.BytesMin > fetchBytesMax {
		return bad("min_bytes", "%d is not in 0 to %d", out.BytesMin, fetchBytesMax)
	}
	if out.BytesMin == 0 {
		out.BytesMin = 1
	}
	if r.GetMaxWait() != nil {
		out.Wait = r.GetMaxWait().AsDuration()
		if r.GetMaxWait().CheckValid() != nil || out.Wait < 0 || out.Wait > fetchWaitMax {
			return bad("max_wait", "%v is not in 0 s to %v", out.Wait, fetchWaitMax)
		}
	}
	return out, records, nil
}

func bytesMax(op string, asked int32) (int64, error) {
	if asked < 0 || asked > fetchBytesMax {
		return 0, invalid(op, "max_bytes", "%d is not in 0 to %d", asked, fetchBytesMax)
	}
	if asked == 0 {
		return fetchBytesDefault, nil
	}
	return int64(asked), nil
}

// checkReads checks what all reads have in common.
func checkReads(op string, partitions []*v1.FetchRequest_Partition, isolation v1.Isolation) error {
	if len(partitions) == 0 {
		return invalid(op, "partitions", "want at least one")
	}
	if n := len(partitions); n > batchesMax {
		return invalid(op, "partitions", "%d at once, at most %d", n, batchesMax)
	}
	if _, ok := v1.Isolation_name[int32(isolation)]; !ok {
		return invalid(op, "isolation", "%d is unknown", isolation)
	}
	return nil
}

// readable converts one partition of a read and asks whether the caller may do it.
func (e *edge) readable(ctx context.Context, action Action, op string, i int, p *v1.FetchRequest_Partition) (agent.FetchPartition, error) {
	path := fmt.Sprintf("partitions[%d]", i)
	out := agent.FetchPartition{Topic: p.GetTopic(), Partition: agent.AnyPartition}
	if p != nil && p.Partition != nil {
		if p.GetPartition() < 0 {
			return out, invalid(op, path+".partition", "%d is negative: leave it out to read all", p.GetPartition())
		}
		out.Partition = objectlog.Partition(p.GetPartition())
	}
	var err error
	if out.Start, err = startOf(op, path+".start", p.GetStart()); err != nil {
		return out, err
	}
	return out, e.authorize(ctx, action, Resource{Topic: p.GetTopic()})
}

func startOf(op, path string, s *v1.Start) (agent.Start, error) {
	switch at := s.GetAt().(type) {
	case nil:
		return agent.Start{Kind: agent.StartEarliest}, nil
	case *v1.Start_Offset:
		if at.Offset < 0 {
			return agent.Start{}, invalid(op, path+".offset", "%d is negative", at.Offset)
		}
		return agent.Start{Kind: agent.StartOffset, Offset: objectlog.Offset(at.Offset)}, nil
	case *v1.Start_Timestamp:
		t, err := timestampOf(at.Timestamp)
		if err != nil {
			return agent.Start{}, invalid(op, path+".timestamp", "%v", err)
		}
		return agent.Start{Kind: agent.StartTime, Time: t}, nil
	case *v1.Start_TailRecords:
		if at.TailRecords < 0 {
			return agent.Start{}, invalid(op, path+".tail_records", "%d is negative", at.TailRecords)
		}
		return agent.Start{Kind: agent.StartTail, Tail: at.TailRecords}, nil
	case *v1.Start_Point:
		switch at.Point {
		case v1.StartPoint_START_POINT_EARLIEST:
			return agent.Start{Kind: agent.StartEarliest}, nil
		case v1.StartPoint_START_POINT_LATEST:
			return agent.Start{Kind: agent.StartLatest}, nil
		}
		return agent.Start{}, invalid(op, path+".point", "%v: want EARLIEST or LATEST", at.Point)
	}
	return agent.Start{}, invalid(op, path, "unknown kind")
}

func (e *edge) refusedPartition(p *v1.FetchRequest_Partition, err error) *v1.FetchResponse_Partition {
	out := &v1.FetchResponse_Partition{Topic: p.GetTopic(), Error: e.detail(err)}
	if p != nil {
		out.Partition = p.Partition
	}
	return out
}

// budget is what one answer may still hold.
type budget struct {
	records, bytes int
	more           int    // bytes that may be added, as memory allows
	claim          *claim // pays for more
}

const moreBytes = 1 << 20

// newBudget is that of an answer made of batches, for whose stored size claim has paid.
func newBudget(records, stored int, c *claim) *budget {
	paid := stored + recordOverhead
	return &budget{records: records, bytes: min(paid, decodedBytesMax), more: max(decodedBytesMax-paid, 0), claim: c}
}

// spent says whether the answer is full. Once it is, it stays so: memory that comes free later must not bring what lies behind that which was
// left out.
func (b *budget) spent() bool {
	const weight = answerCopies * moreBytes
	for b.records > 0 && b.bytes <= 0 && b.more > 0 {
		// Whole, or it would get for nothing what is beyond the largest claim.
		if b.claim.clip(weight) < weight || !b.claim.tryTake(weight) {
			b.more = 0
			break
		}
		b.bytes += moreBytes
		b.more -= moreBytes
	}
	return b.records <= 0 || b.bytes <= 0
}

// pay takes the bytes of a record.
func (b *budget) pay(r objectlog.Record) {
	b.bytes -= len(r.Key) + len(r.Value) + recordOverhead*(1+len(r.Headers))
	for _, h := range r.Headers {
		b.bytes -= len(h.Key) + len(h.Value)
	}
}

// fetched converts what was read of one partition, whole batches or records.
func (e *edge) fetched(read agent.FetchedPartition, encoded bool, left *budget) *v1.FetchResponse_Partition {
	out := &v1.FetchResponse_Partition{Topic: read.Topic}
	if read.Partition >= 0 {
		out.Partition = new(int32(read.Partition))
	}
	if read.Err != nil {
		out.Error = e.detail(read.Err)
		return out
	}
	next := read.Next
	if encoded {
		out.Encoded = joined(read.Batches)
	} else {
		var err error
		if out.Records, next, err = e.decode(read, left); err != nil {
			// Stored batches are verified before they come here: this one is beyond this agent's limits or format.
			out.Error = e.detail(refusal{fmt.Sprintf("fetch %s/%d: decode at offset %d: %v", read.Topic, read.Partition, next, err), agent.DataLost})
		}
	}
	out.NextOffset = new(int64(next))
	out.HighWatermark = new(int64(read.HighWatermark))
	out.LastStableOffset = out.HighWatermark
	out.LogStartOffset = new(int64(read.LogStart))
	return out
}

// joined answers the batches as one, without a copy where one lies right behind the other in memory, as those of one read do.
func joined(batches [][]byte) []byte {
	size := 0
	for _, b := range batches {
		size += len(b)
	}
	if size > 0 && cap(batches[0]) >= size {
		whole, at := batches[0][:size], 0
		for _, b := range batches {
			if len(b) == 0 || &b[0] != &whole[at] {
				break
			}
			at += len(b)
		}
		if at == size {
			return whole
		}
	}
	return slices.Concat(batches...)
}

// decode answers the records from read.From on, as many as the budget allows, and the offset behind the last one.
// Records before an error stand.
func (e *edge) decode(read agent.FetchedPartition, left *budget) ([]*v1.FetchedRecord, objectlog.Offset, error) {
	var records []*v1.FetchedRecord
	next := read.From
	for _, batch := range read.Batches {
		if left.spent() {
			return records, next, nil
		}
		err := objectlog.DecodeBatch(batch, e.cfg.Limits, func(offset objectlog.Offset, r objectlog.Record) bool {
			if offset < read.From {
				return true
			}
			if left.spent() {
				return false
			}
			records = append(records, fetchedRecord(offset, r))
			next = offset + 1
			left.records--
			left.pay(r)
			return true
		})
		if err != nil {
			return records, next, err
		}
	}
	if !left.spent() {
		next = read.Next // also past offsets that hold no record
	}
	return records, next, nil
}

// recordOverhead is about what a record or header takes beside its bytes.
const recordOverhead = 64
