package agent

import (
	"context"
	"errors"
	"math"
	"sync"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// producerBlock is how many producer ids an agent takes from the table at once.
const producerBlock = 1000

// producerIDs hands out producer ids from blocks of the table's counter.
type producerIDs struct {
	mu        sync.Mutex
	next, end int64 // what is left of the newest block
}

func (p *producerIDs) take(ctx context.Context, j *joiner) (objectlog.ProducerID, error) {
	p.mu.Lock()
	if p.next < p.end {
		defer p.mu.Unlock()
		p.next++
		return objectlog.ProducerID(p.next - 1), nil
	}
	p.mu.Unlock()
	first, err := j.take(ctx, metadata.ProducersKey(), producerBlock)
	if err != nil {
		return objectlog.NoProducer, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.end = first+1, first+producerBlock // what others took meanwhile is left alone
	return objectlog.ProducerID(first), nil
}

// InitProducer hands out a new producer id, or the given one with the next epoch.
func (a *Agent) InitProducer(ctx context.Context, p Producer) (Producer, error) {
	const op = "init producer"
	if p.ID < objectlog.NoProducer || p.ID != objectlog.NoProducer && p.Epoch < 0 {
		return Producer{}, &Error{Op: op, Cause: because(InvalidRequest, errors.New("id and epoch must not be negative"))}
	}
	if p.ID != objectlog.NoProducer && p.Epoch < math.MaxInt16 {
		return Producer{ID: p.ID, Epoch: p.Epoch + 1}, nil
	}
	id, err := a.producers.take(ctx, a.joiner)
	if err != nil {
		return Producer{}, &Error{Op: op, Cause: because(Unavailable, err)}
	}
	return Producer{ID: id}, nil
}
