package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

const (
	// settlementBytes is what a Settlement takes in an entry at most, beside its error.
	settlementBytes = 48
	// partitionNumberMax is the largest number that a partition may have.
	partitionNumberMax = partitionsMax - 1
)

// settling is one Settle under way. No record is in it twice.
type settling struct {
	queues.Settle
	bytes int
	acks  []ack       // by offset
	call  *commitCall // nil: err says why
	err   error
}

// ack is one acknowledgement of a call.
type ack struct {
	Acknowledgement
	index int
}

// Acknowledge says what became of records of a group, and answers an error or nil for each: queues.ReasonNotLocked where the lock has ended, or the record was
// acknowledged before. OutcomeUnknown: it may be done. Of one record under one lock the first one counts.
func (a *Agent) Acknowledge(ctx context.Context, group string, all []Acknowledgement) ([]error, error) {
	const op = "acknowledge for"
	if err := queues.CheckGroup(group); err != nil {
		return nil, groupError(op, group, because(InvalidRequest, err))
	}
	errs := make([]error, len(all))
	settlings := settlingsOf(group, all, errs)
	for _, s := range settlings { // all are on their way before one is waited for
		s.call, s.err = a.committers[metadata.ShardOf(s.Topic, s.Partition, len(a.shards))].begin(s.Command())
	}
	for _, s := range settlings {
		a.settled(ctx, s, errs)
	}
	for i, err := range errs {
		if err == nil {
			a.pulls.settled(all[i].Verdict)
		} else {
			errs[i] = groupError(op, group, err)
		}
	}
	return errs, nil
}

// settled waits for the outcome, and takes down what is wrong with each acknowledgement.
func (a *Agent) settled(ctx context.Context, s *settling, errs []error) {
	var result queues.Result
	err := s.err
	if err == nil {
		var answer any
		if answer, err = a.committers[metadata.ShardOf(s.Topic, s.Partition, len(a.shards))].wait(ctx, s.call, nil); err == nil {
			result, err = resultOf[queues.Result](answer)
		}
	}
	if err == nil && result.Reason != queues.ReasonNone {
		err = result.Reason
	}
	refused := result.Refused
	for _, k := range s.acks {
		for len(refused) > 0 && refused[0].To <= k.Offset {
			refused = refused[1:]
		}
		switch {
		case err != nil:
			errs[k.index] = err
		case len(refused) > 0 && refused[0].From <= k.Offset:
			errs[k.index] = refused[0].Reason
		}
	}
}

// settlingsOf makes the commands for acknowledgements, and says what is wrong with those that are in none.
func settlingsOf(group string, all []Acknowledgement, errs []error) []*settling {
	acks := make([]ack, 0, len(all))
	for i, k := range all {
		if errs[i] = k.check(); errs[i] == nil {
			acks = append(acks, ack{k.plain(), i})
		}
	}
	slices.SortFunc(acks, func(a, b ack) int {
		return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Lock, b.Lock), cmp.Compare(a.index, b.index))
	})
	var done []*settling
	var open []*settling // of the partition: the first of each record, the second and so on
	rank := 0            // among those of the record
	for i, k := range acks {
		if i > 0 && acks[i-1].Place != k.Place {
			done, open, rank = append(done, open...), nil, 0
		} else if i > 0 && acks[i-1].Offset != k.Offset {
			rank = 0
		} else if i > 0 && acks[i-1].Lock == k.Lock { // whatever becomes of the first, there is no lock behind it that this one could have been for
			errs[k.index] = queues.ReasonNotLocked
			continue
		} else if i > 0 {
			rank++
		}
		key := queues.Key{Topic: k.Topic, Partition: k.Partition, Group: group}
		if rank == len(open) {
			open = append(open, &settling{Settle: queues.Settle{Key: key}})
		}
		if open[rank].bytes+settlementBytes+len(k.Error) > commitBytesOnce {
			done = append(done, open[rank])
			open[rank] = &settling{Settle: queues.Settle{Key: key}}
		}
		open[rank].add(k)
	}
	return append(done, open...)
}

// add enters an acknowledgement that is behind all others. Records that fare alike are one range.
func (s *settling) add(k ack) {
	s.acks = append(s.acks, k)
	i := queues.Settlement{From: k.Offset, To: k.Offset + 1, Lock: k.Lock, Verdict: k.Verdict, Wait: k.Wait, Error: k.Error}
	if n := len(s.Items); n > 0 {
		last := s.Items[n-1]
		if last.To == i.From && last.Lock == i.Lock && last.Verdict == i.Verdict && last.Wait == i.Wait && last.Error == i.Error {
			s.Items[n-1].To = i.To
			return
		}
	}
	s.Items = append(s.Items, i)
	s.bytes += settlementBytes + len(i.Error)
}

// offsetNext is behind the largest offset.
const offsetNext objectlog.Offset = 1 << 62

// check says what is wrong with an acknowledgement. What no Pull can have answered is no lock.
func (k Acknowledgement) check() error {
	switch {
	case k.Partition < 0 || k.Partition > partitionNumberMax || k.Offset < 0 || k.Offset >= offsetNext || k.Lock == 0:
		return queues.ReasonNotLocked
	case k.Verdict < queues.Accept || k.Verdict > queues.Return:
		return because(InvalidRequest, fmt.Errorf("verdict %d", k.Verdict))
	case k.Verdict == queues.Extend && k.Wait < time.Millisecond, k.Wait < 0, k.Wait > queues.WaitMax:
		return because(InvalidRequest, errors.New("a lock or delay of at most 12 h, and a lock of some time"))
	}
	return nil
}

// plain is the acknowledgement without what its verdict does not use.
func (k Acknowledgement) plain() Acknowledgement {
	if k.Verdict != queues.Release && k.Verdict != queues.Extend {
		k.Wait = 0
	}
	k.Error = queues.CutError(k.Error)
	if k.Verdict != queues.Release && k.Verdict != queues.Reject {
		k.Error = ""
	}
	return k
}
