package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

const (
	opRedrive = "redrive dead letters of"

	redriveDefault = 100
	// redriveWait is how long a call waits for what it has begun.
	redriveWait = 10 * time.Second
	// departuresOnce bounds one proposal of them.
	departuresOnce = 250
	// departTries bounds the proposals for the same records: of unknown outcome, or as many of their routes were not there any more.
	departTries = 5
	// refusedMax bounds what a call tells of one by one.
	refusedMax = 1000
	// siftedLeast is how many dead letters are looked at, by a call that chooses by time, to count what it leaves to others.
	siftedLeast = 10_000
)

// redrive is one call under way.
type redrive struct {
	Redrive
	a       *Agent
	topic   metadata.Topic
	targets map[string]redriveTarget // by name
	begun   int
	more    int64 // that were chosen beyond RecordsMax
	seen    int
	items   []queues.Departure // of the partition that is looked at
	watched map[objectlog.Partition][]objectlog.Offset
	out     Redriven
}

type redriveTarget struct {
	topic metadata.Topic
	err   error
}

// RedriveDeadLetters begins what it can, waits for it for a while, and answers how far it is. What it has begun the leader of the dead letters' shard goes on
// with, and a repeat does not begin it again.
func (a *Agent) RedriveDeadLetters(ctx context.Context, r Redrive) (Redriven, error) {
	if r.RecordsMax == 0 {
		r.RecordsMax = redriveDefault
	}
	r.Only = inOrder(r.Only)
	d := &redrive{Redrive: r, a: a, targets: map[string]redriveTarget{}, watched: map[objectlog.Partition][]objectlog.Offset{}}
	err := d.check()
	if err == nil {
		d.topic, err = a.findCurrent(ctx, r.Topic, 0)
	}
	if err == nil && r.To != "" {
		if target := d.target(ctx, r.To); target.err != nil {
			err = target.err
		}
	}
	if err == nil {
		err = d.begin(ctx)
	}
	if err == nil {
		err = d.await(ctx)
	}
	if err != nil {
		return Redriven{}, topicError(opRedrive, r.Topic, err)
	}
	return d.out, nil
}

func (d *redrive) check() error {
	wrong := func(format string, args ...any) error { return because(InvalidRequest, fmt.Errorf(format, args...)) }
	switch {
	case d.HasEdited && len(d.Only) != 1:
		return wrong("an edited value is for one record, %d are named", len(d.Only))
	case len(d.Edited) > queues.EditedBytesMax:
		return wrong("an edited value of %d bytes, at most %d", len(d.Edited), queues.EditedBytesMax)
	case d.RecordsMax < 0:
		return wrong("%d records", d.RecordsMax)
	case d.To == d.Topic:
		return wrong("dead letters can't be sent to where they are")
	}
	return nil
}

// begin puts on their way what was chosen and has somewhere to go. What happens in one partition keeps nobody from what is begun in others.
func (d *redrive) begin(ctx context.Context) error {
	all := d.a.lettersOf(ctx, d.topic, d.Only)
	total, moving := int64(0), int64(0)
	var failed error
	for i := range all {
		l := &all[i]
		total, moving = total+l.count(), moving+int64(len(l.moving))
		if l.err == nil {
			d.watch(l)
			l.err = d.beginIn(ctx, l)
		}
		if failed == nil {
			failed = l.err
		}
	}
	d.refuseAbsent(all)
	switch {
	case failed != nil && d.begun == 0:
		return failed
	case d.FailedBefore != objectlog.NoTimestamp || len(d.Only) > 0:
		d.out.Remaining += d.more
	default:
		d.out.Remaining += max(0, total-moving-int64(d.begun+len(d.out.Refused)))
	}
	return nil
}

// watch takes note of what is on its way already.
func (d *redrive) watch(l *letters) {
	for o := range l.moving {
		if len(d.Only) == 0 || slices.Contains(d.Only, PartitionOffset{l.key.Partition, o}) {
			d.watched[l.key.Partition] = append(d.watched[l.key.Partition], o)
		}
	}
}

// refuseAbsent tells of what was named and is no dead letter.
func (d *redrive) refuseAbsent(all []letters) {
	for _, o := range d.Only {
		i := slices.IndexFunc(all, func(l letters) bool { return l.key.Partition == o.Partition })
		if i < 0 || all[i].err == nil && !all[i].has(o.Offset) {
			d.refuse(o, queues.ReasonNotThere)
		}
	}
	slices.SortStableFunc(d.out.Refused, func(x, y RefusedLetter) int { return x.compare(y.PartitionOffset) })
}

func (d *redrive) refuse(o PartitionOffset, cause error) {
	if len(d.out.Refused) < refusedMax {
		object := fmt.Sprintf("%s/%d", objectOf(d.Topic, o.Partition), o.Offset)
		d.out.Refused = append(d.out.Refused, RefusedLetter{o, topicError("redrive", object, cause)})
	}
}

// full says whether nothing more is to be looked at.
func (d *redrive) full() bool {
	switch {
	case len(d.Only) > 0 || d.begun+len(d.items) < d.RecordsMax:
		return false
	case d.FailedBefore == objectlog.NoTimestamp:
		return true
	}
	return d.more > 0 && d.seen >= siftedLeast
}

func (d *redrive) beginIn(ctx context.Context, l *letters) error {
	for offsets := range l.chunks(0, d.Only, departuresOnce) {
		if d.full() {
			return nil
		}
		offsets = slices.DeleteFunc(offsets, func(o objectlog.Offset) bool { return l.moving[o] })
		d.items = nil
		err := d.a.readRecords(ctx, d.topic, l.key.Partition, offsets, func(o objectlog.Offset, r objectlog.Record, err error) bool {
			d.choose(ctx, l, o, r, err)
			return !d.full()
		})
		if err == nil && len(d.items) > 0 {
			err = d.depart(ctx, l, d.items)
		}
		if d.items = nil; err != nil {
			return err
		}
	}
	return nil
}

// choose decides on one dead letter.
func (d *redrive) choose(ctx context.Context, l *letters, o objectlog.Offset, r objectlog.Record, err error) {
	d.seen++
	at := PartitionOffset{l.key.Partition, o}
	if errors.Is(err, OutOfRange) { // retention has taken it
		err = queues.ReasonNotThere
	}
	if err != nil {
		d.refuse(at, err)
		return
	}
	letter := queues.ReadLetter(r)
	if !failedBefore(letter, d.FailedBefore) {
		return
	}
	if len(d.Only) == 0 && d.begun+len(d.items) >= d.RecordsMax {
		d.more++
		return
	}
	departure, err := d.departure(ctx, l, o, r, letter)
	if err != nil {
		d.refuse(at, err)
		return
	}
	d.items = append(d.items, departure)
}

// failedBefore says whether a dead letter failed for the last time at or before a time; NoTimestamp: whenever.
func failedBefore(l queues.Letter, t objectlog.Timestamp) bool {
	return t == objectlog.NoTimestamp || l.Last != objectlog.NoTimestamp && l.Last <= t
}

var errNoSource = errors.New("its headers do not say where it comes from: name a topic to send it to")

// departure answers where a dead letter goes, or why it can't.
func (d *redrive) departure(ctx context.Context, l *letters, o objectlog.Offset, r objectlog.Record, letter queues.Letter) (queues.Departure, error) {
	name, p := d.To, l.key.Partition
	if name == "" {
		if name, p = letter.Topic, letter.Partition; letter.Offset == objectlog.NoOffset {
			return queues.Departure{}, because(InvalidRequest, errNoSource)
		}
	}
	target := d.target(ctx, name)
	n := target.topic.Partitions
	switch {
	case target.err != nil:
		return queues.Departure{}, target.err
	case d.To != "" && r.Key != nil:
		p = objectlog.PartitionFor(r.Key, n)
	case d.To != "":
		p = objectlog.Partition(int32(p) % n)
	case int32(p) >= n:
		return queues.Departure{}, topicError("find", objectOf(name, p), metadata.ReasonUnknownTopic)
	}
	out := queues.Departure{Offset: o, To: queues.Place{Topic: target.topic.ID, Partition: p}, Producer: objectlog.NoProducer, Edited: d.Edited, HasEdited: d.HasEdited}
	piece := queues.Piece{From: o, Move: &queues.Move{Edited: d.Edited, HasEdited: d.HasEdited}}
	_, _, err := d.a.encodeAlone(target.topic, p, queues.Redriven(r, d.Topic, l.key, piece), objectlog.NoProducer, 0)
	return out, err
}

// target finds a topic to send to, by a current read where it is not known here.
func (d *redrive) target(ctx context.Context, name string) redriveTarget {
	found, ok := d.targets[name]
	if !ok {
		if name == d.Topic {
			found.err = because(InvalidRequest, errSameTopic)
		} else if err := metadata.CheckTopicName(name); err != nil { // a header may say anything
			found.err = because(InvalidTopic, errors.New("no topic has the name "+strconv.Quote(name)))
		} else if found.topic, found.err = d.a.find(ctx, name, AnyPartition); found.err != nil {
			found.err = topicError("find", name, found.err)
		}
		d.targets[name] = found
	}
	return found
}

// depart puts records of one partition on their way. Nothing is proposed twice: a producer that is to be used for one route must not come to be of another, which
// the second of two equal commands would make when the first one's route has come and gone.
func (d *redrive) depart(ctx context.Context, l *letters, items []queues.Departure) error {
	anew := false
	for range departTries {
		if err := d.drawProducers(ctx, l, items, anew); err != nil {
			return err
		}
		results, err := d.a.proposeOnce(ctx, l.shard, queues.MoveOut{Key: l.key, Until: l.until, Items: items}.Command())
		var result queues.Result
		if err == nil {
			result, err = resultOf[queues.Result](results[0])
		}
		switch {
		case errors.Is(err, OutcomeUnknown):
			if err = d.a.current(ctx, l.shard); err != nil {
				return err
			}
			l.look(d.a.shards[l.shard])
			if items = slices.DeleteFunc(items, func(x queues.Departure) bool { return d.gone(l, x.Offset) }); l.err != nil || len(items) == 0 {
				return l.err
			}
			continue
		case err != nil:
			return err
		case result.Reason == queues.ReasonNoProducer:
			anew = true
			continue
		case result.Reason != queues.ReasonNone:
			return result.Reason
		}
		return d.departed(l, items, result)
	}
	return because(Unavailable, errors.New("the outcome of every try is unknown"))
}

// gone says, of a record that was tried, whether it is on its way, which it then counts as, or finished.
func (d *redrive) gone(l *letters, o objectlog.Offset) bool {
	if l.moving[o] {
		d.began(l, o)
		return true
	}
	if !l.has(o) { // it may have been ours, and arrived
		d.began(l, o)
		return true
	}
	return false
}

func (d *redrive) began(l *letters, o objectlog.Offset) {
	d.begun++
	d.watched[l.key.Partition] = append(d.watched[l.key.Partition], o)
}

// drawProducers gives each place without a route, or with anew each place, a producer of its own.
func (d *redrive) drawProducers(ctx context.Context, l *letters, items []queues.Departure, anew bool) error {
	drawn := map[queues.Place]objectlog.ProducerID{}
	if !anew {
		s := d.a.shards[l.shard]
		s.log.Read(func(metadata.Seq) {
			if q, ok := s.queues.Queue(l.key); ok {
				for _, r := range q.Routes {
					drawn[r.To] = objectlog.NoProducer
				}
			}
		})
	}
	for i := range items {
		producer, ok := drawn[items[i].To]
		if !ok {
			var err error
			if producer, err = d.a.producers.take(ctx, d.a.joiner); err != nil {
				return because(Unavailable, err)
			}
			drawn[items[i].To] = producer
		}
		items[i].Producer = producer
	}
	return nil
}

// departed takes note of what a MoveOut has done.
func (d *redrive) departed(l *letters, items []queues.Departure, result queues.Result) error {
	l.look(d.a.shards[l.shard])
	for _, x := range items {
		i := slices.IndexFunc(result.Refused, func(r queues.Refusal) bool { return r.From <= x.Offset && x.Offset < r.To })
		switch {
		case i < 0 || l.moving[x.Offset]: // by this call, or by another one at the same time
			d.began(l, x.Offset)
		case len(d.Only) > 0 || result.Refused[i].Reason != queues.ReasonNotThere:
			d.refuse(PartitionOffset{l.key.Partition, x.Offset}, result.Refused[i].Reason)
		}
	}
	return nil
}

// await waits until nothing that is watched is on its way any more, or the time is over.
func (d *redrive) await(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, redriveWait)
	defer cancel()
	for {
		var changed []<-chan struct{}
		for p := range d.watched {
			changed = append(changed, d.a.shards[metadata.ShardOf(d.topic.ID, p, len(d.a.shards))].log.Changed())
		}
		arrived, moving, back, err := d.survey()
		if err != nil {
			return err
		}
		if moving == 0 || !d.a.waitForAny(wait, changed) {
			d.out.Arrived, d.out.Redriving = arrived, moving
			d.out.Remaining += back
			return nil
		}
	}
}

// survey counts what became of what is watched: back is what was taken back, since the topic that it was to go to is gone.
func (d *redrive) survey() (arrived, moving, back int64, err error) {
	for p, offsets := range d.watched {
		s := d.a.shards[metadata.ShardOf(d.topic.ID, p, len(d.a.shards))]
		s.log.Read(func(metadata.Seq) {
			q, ok := s.queues.Queue(queues.Key{Topic: d.topic.ID, Partition: p})
			if !ok {
				err = metadata.ReasonUnknownTopic // deleted meanwhile
				return
			}
			for _, o := range offsets {
				switch piece, there := q.At(o); {
				case there && piece.Phase == queues.Moving:
					moving++
				case there || o >= q.Next:
					back++
				default:
					arrived++
				}
			}
		})
	}
	return arrived, moving, back, err
}
