package agent

import (
	"context"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// offer is a partition that has something for a pull, or where the queue has to begin now, or to learn where its dead letters go.
type offer struct {
	queues.Key
	shard objectlog.Shard
	state metadata.PartitionState
	start objectlog.Offset // of the queue, if it is not there
	limit int64            // records to ask for; 0: none
}

// offersView is what the state as it is here offers to a pull.
type offersView struct {
	offers  []offer
	strange []objectlog.Shard     // that have not the topic's partitions
	undated []objectlog.Partition // where the queue would begin is not known yet
	asked   bool                  // others are about to lock what there is
}

// offers looks at all partitions, from the pull's turn on, until there is enough. A topic that is not there is only doubted behind current reads.
// What it answers is to be released.
func (a *Agent) offers(ctx context.Context, p *pull) (offersView, error) {
	for {
		v := a.survey(p)
		if len(v.undated)+len(v.strange) == 0 {
			return v, nil
		}
		a.pulls.release(v.offers)
		var err error
		if len(v.strange) == 0 {
			err = a.date(ctx, p, v.undated)
		} else {
			err = a.doubtPull(ctx, p, v.strange)
		}
		if err != nil {
			return offersView{}, err
		}
	}
}

// doubtPull reads shards that lack partitions of the topic currently, then the catalog, where the name may be another topic's by now.
func (a *Agent) doubtPull(ctx context.Context, p *pull, strange []objectlog.Shard) error {
	p.doubts++
	switch p.doubts {
	case 1:
		for _, s := range strange {
			if err := a.current(ctx, s); err != nil {
				return err
			}
		}
		return nil
	case 2:
		t, err := a.findCurrent(ctx, p.Topic, 0)
		if err != nil {
			return err
		}
		p.turnTo(t)
		for _, s := range shardsOf(t.ID, 0, t.Partitions, len(a.shards)) {
			if err := a.current(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
	return metadata.ReasonUnknownTopic
}

// turnTo goes on with another life of the topic.
func (p *pull) turnTo(t metadata.Topic) {
	if p.topic.ID != t.ID {
		clear(p.starts)
		clear(p.begun)
	}
	p.topic = t
}

// date finds out where the queue begins in partitions of which it has had nothing.
func (a *Agent) date(ctx context.Context, p *pull, partitions []objectlog.Partition) error {
	targets := make([]*target, len(partitions))
	for i, n := range partitions {
		targets[i] = &target{topic: p.topic, shard: metadata.ShardOf(p.topic.ID, n, len(a.shards)), start: p.Start, FetchedPartition: FetchedPartition{Topic: p.Topic, Partition: n}}
	}
	a.locate(ctx, "pull from", targets)
	for _, t := range targets {
		if t.Err != nil {
			return t.Err
		}
		if t.topic.ID != p.topic.ID {
			p.turnTo(t.topic)
			return nil
		}
		p.starts[t.Partition] = t.From
	}
	return nil
}

func (a *Agent) survey(p *pull) offersView {
	var v offersView
	records, bytes := int64(p.RecordsMax), p.BytesMax
	for i := range uint32(p.topic.Partitions) {
		if records <= 0 && !p.dated() {
			break
		}
		n := objectlog.Partition((p.turn + i) % uint32(p.topic.Partitions))
		o := offer{Key: queues.Key{Topic: p.topic.ID, Partition: n, Group: p.Group}, shard: metadata.ShardOf(p.topic.ID, n, len(a.shards))}
		s := a.shards[o.shard]
		s.log.Read(func(metadata.Seq) {
			var there bool
			if o.state, there = s.state.Partition(o.Topic, n); !there {
				v.strange = append(v.strange, o.shard)
				return
			}
			q, there := s.queues.Queue(o.Key)
			if !there {
				var known bool
				if o.start, known = p.start(n, o.state); !known {
					v.undated = append(v.undated, n)
					return
				}
				q = &queues.Queue{Key: o.Key, Next: o.start}
			}
			if records > 0 {
				wanted, there, size := a.wanted(s.state, q, o.state, records, bytes, bytes == p.BytesMax)
				o.limit = a.pulls.ask(o.Key, there, wanted)
				records, bytes = records-o.limit, bytes-size
				v.asked = v.asked || wanted > 0 && o.limit == 0
			}
			if o.limit > 0 || !p.begun[n] && (!there && p.dated() || there && p.redirects(q)) {
				v.offers = append(v.offers, o)
			}
		})
	}
	return v
}

// wanted answers how many records of a queue a pull wants that has room for so many, how many there are, and the bytes of those that are new. It is
// called within log.Read.
func (a *Agent) wanted(s *metadata.State, q *queues.Queue, state metadata.PartitionState, records, bytes int64, some bool) (wanted, there, size int64) {
	next := max(q.Next, state.LogStart)
	ready := q.Count(queues.Ready)
	there = min(q.Available(state.HighWatermark, a.cfg.QueueWindow), ready+max(0, int64(state.HighWatermark-next)))
	if wanted = min(records, there, ready); wanted < min(records, there) {
		var fresh int64
		fresh, size = fitting(s, q.Key, next, min(records, there)-wanted, bytes, some && ready == 0)
		wanted += fresh
	}
	return wanted, there, size
}

// dated says whether where the queue begins depends on the moment. Then it has to begin everywhere with the first pull.
func (p *pull) dated() bool { return p.Start.Kind != StartEarliest && p.Start.Kind != StartOffset }

// redirects says whether the pull names another dead-letter topic for records that wait for one. It has to be told also when there is nothing to hand
// out: they may fill the window since they can't go where they were to.
func (p *pull) redirects(q *queues.Queue) bool {
	return q.Policy.DeadLetters != p.policy.DeadLetters && q.Count(queues.Failed) > 0
}

// start answers where the queue begins in a partition of which it has had nothing.
func (p *pull) start(n objectlog.Partition, state metadata.PartitionState) (objectlog.Offset, bool) {
	switch p.Start.Kind {
	case StartEarliest:
		return state.LogStart, true
	case StartOffset:
		return max(p.Start.Offset, state.LogStart), true
	}
	at, ok := p.starts[n]
	return at, ok
}

// fitting counts how many of the records from an offset on are in batches that fit into bytesMax; with some, those of one batch at least.
func fitting(s *metadata.State, k queues.Key, from objectlog.Offset, records, bytesMax int64, some bool) (fit, bytes int64) {
	var room [1]metadata.LocatedBatch
	for next := from; fit < records; {
		one := s.Batches(room[:0], k.Topic, k.Partition, next, 0)
		if len(one) == 0 || bytes+int64(one[0].Row.Bytes) > bytesMax && !(some && bytes == 0) {
			break
		}
		bytes += int64(one[0].Row.Bytes)
		next = one[0].Base + objectlog.Offset(one[0].Row.Records)
		fit = int64(next - from)
	}
	return min(fit, records), bytes
}

// ask takes note of how many of the records that there are a pull is about to lock: as many as it wants and no other is.
func (p *pulls) ask(k queues.Key, there, wanted int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := max(0, min(wanted, there-p.asked[k]))
	if n > 0 {
		p.asked[k] += n
	}
	return n
}

// release is called when it is decided what came of offers.
func (p *pulls) release(offers []offer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range offers {
		if p.asked[o.Key] -= o.limit; p.asked[o.Key] <= 0 {
			delete(p.asked, o.Key)
		}
	}
}
