package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

const (
	opDiscard = "discard dead letters of"

	discardDefault = 1000
	rangesOnce     = 500 // of one proposal
)

// DiscardDeadLetters makes dead letters count no more. OutcomeUnknown: some or all may.
func (a *Agent) DiscardDeadLetters(ctx context.Context, d Discard) (Discarded, error) {
	if d.RecordsMax == 0 {
		d.RecordsMax = discardDefault
	}
	out, err := a.discard(ctx, d)
	if err != nil {
		return Discarded{}, topicError(opDiscard, d.Topic, err)
	}
	return out, nil
}

func (a *Agent) discard(ctx context.Context, d Discard) (out Discarded, err error) {
	if len(d.Only) == 0 && d.FailedBefore == objectlog.NoTimestamp || d.RecordsMax < 0 {
		return out, because(InvalidRequest, fmt.Errorf("%d records by name, and no time", len(d.Only)))
	}
	t, err := a.findCurrent(ctx, d.Topic, 0)
	if err != nil {
		return out, err
	}
	d.Only = inOrder(d.Only)
	all := a.lettersOf(ctx, t, d.Only)
	seen := 0
	for i := range all {
		l := &all[i]
		if l.err != nil {
			return out, l.err
		}
		for offsets := range l.chunks(0, d.Only, lettersOnce) {
			offsets = slices.DeleteFunc(offsets, func(o objectlog.Offset) bool { return l.moving[o] })
			chosen := offsets
			if d.FailedBefore != objectlog.NoTimestamp {
				chosen = nil
				err = a.readRecords(ctx, t, l.key.Partition, offsets, func(o objectlog.Offset, r objectlog.Record, err error) bool {
					if seen++; err == nil && failedBefore(queues.ReadLetter(r), d.FailedBefore) { // one that can't be read does not say when
						chosen = append(chosen, o)
					}
					return true
				})
			}
			if room := d.RecordsMax - int(out.Records); err == nil && len(d.Only) == 0 && len(chosen) > room {
				out.Remaining += int64(len(chosen) - room)
				chosen = chosen[:room]
			}
			if err == nil {
				err = a.discardIn(ctx, l, chosen, &out)
			}
			if err != nil {
				return out, err
			}
			if out.Remaining > 0 && seen >= siftedLeast {
				return out, nil
			}
		}
	}
	out.Refused = append(out.Refused, absent(d.Only, all)...)
	return out, nil
}

// absent answers what was named and is no dead letter, or is on its way.
func absent(only []PartitionOffset, all []letters) (places []PartitionOffset) {
	for _, o := range only {
		i := slices.IndexFunc(all, func(l letters) bool { return l.key.Partition == o.Partition })
		if i < 0 || !all[i].has(o.Offset) || all[i].moving[o.Offset] {
			places = append(places, o)
		}
	}
	return places
}

// discardIn discards dead letters of one partition.
func (a *Agent) discardIn(ctx context.Context, l *letters, offsets []objectlog.Offset, out *Discarded) error {
	var ranges []queues.Range
	for _, o := range offsets {
		if n := len(ranges); n > 0 && ranges[n-1].To == o {
			ranges[n-1].To++
			continue
		}
		ranges = append(ranges, queues.Range{From: o, To: o + 1})
	}
	for some := range slices.Chunk(ranges, rangesOnce) {
		results, err := a.proposeOnce(ctx, l.shard, queues.Discard{Key: l.key, Until: l.until, Ranges: some}.Command())
		if err != nil {
			return err
		}
		result, err := resultOf[queues.Result](results[0])
		if err == nil && result.Reason != queues.ReasonNone {
			err = result.Reason
		}
		if err != nil {
			return err
		}
		for _, r := range some {
			out.Records += int64(r.To - r.From)
		}
		for _, r := range result.Refused {
			out.Records -= int64(r.To - r.From)
			if r.Reason == queues.ReasonFull {
				out.Remaining += int64(r.To - r.From)
				continue
			}
			for o := r.From; o < r.To; o++ {
				out.Refused = append(out.Refused, PartitionOffset{l.key.Partition, o})
			}
		}
	}
	return nil
}
