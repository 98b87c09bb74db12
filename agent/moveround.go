package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// moveRound is one round of a mover for one queue: what can leave is given a place, what has one is written, what was written is finished.
type moveRound struct {
	a      *Agent
	m      *mover
	epoch  objectlog.Epoch
	key    queues.Key
	topic  metadata.Topic // of the queue
	loaded map[objectlog.Offset]objectlog.Record
	bytes  int // of loaded
}

func (a *Agent) moveQueue(ctx context.Context, m *mover, k queues.Key) {
	ctx, cancel := context.WithTimeout(ctx, movePatience)
	defer cancel()
	r := &moveRound{a: a, m: m, key: k, epoch: m.leading(), loaded: map[objectlog.Offset]objectlog.Record{}}
	if r.epoch == 0 {
		return
	}
	topic, err := a.topicOf(ctx, k.Topic)
	if err != nil { // a queue of a topic that is being deleted goes with it
		r.hold(ctx, r.whole(), err)
		return
	}
	r.topic = topic
	r.depart(ctx)
	r.deliver(ctx)
}

var errNoTopic = errors.New("the topic was deleted")

// topicOf finds an active topic by its id. That it is gone, errNoTopic, is said behind a current read.
func (a *Agent) topicOf(ctx context.Context, id objectlog.UUID) (metadata.Topic, error) {
	catalog := a.shards[catalogShard]
	if t, ok := a.topics.of(catalog).byID[id]; ok {
		return t, nil
	}
	if err := a.current(ctx, catalogShard); err != nil {
		return metadata.Topic{}, err
	}
	if t, ok := a.topics.of(catalog).byID[id]; ok {
		return t, nil
	}
	return metadata.Topic{}, errNoTopic
}

func (r *moveRound) whole() hold { return hold{r.key, objectlog.NoProducer, objectlog.NoOffset} }

func (r *moveRound) record(o objectlog.Offset) hold { return hold{r.key, objectlog.NoProducer, o} }

// hold is the mover's, unless it was the end of the agent, or of its leadership, that held something up.
func (r *moveRound) hold(ctx context.Context, h hold, err error) {
	if context.Cause(ctx) == context.Canceled || r.m.leading() != r.epoch {
		return
	}
	object := objectOf(r.topic.Name, r.key.Partition)
	if h.Offset != objectlog.NoOffset {
		object = fmt.Sprintf("%s/%d", object, h.Offset)
	}
	r.m.hold(h, object, err)
}

// propose appends commands as the leader that the round was begun by; else nothing.
func (r *moveRound) propose(ctx context.Context, commands ...metadata.Command) ([]queues.Result, error) {
	if r.m.leading() != r.epoch {
		return nil, shardlog.ErrNotLeader
	}
	receipt, err := own(r.m.shard.log).Propose(ctx, commands)
	if err != nil {
		return nil, err
	}
	results := make([]queues.Result, len(receipt.Results))
	for i, result := range receipt.Results {
		if results[i], err = resultOf[queues.Result](result); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// read calls f with the queue, if it is there.
func (r *moveRound) read(f func(q *queues.Queue)) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.m.shard.log.Read(func(metadata.Seq) {
		if q, ok := r.m.shard.queues.Queue(r.key); ok {
			f(q)
		}
	})
}

// depart gives records that failed their places in the dead-letter topic. What does not fit there stays, so that it is not in the way of others.
func (r *moveRound) depart(ctx context.Context) {
	var policy queues.Policy
	var offsets []objectlog.Offset
	pieces := map[objectlog.Offset]queues.Piece{}
	r.read(func(q *queues.Queue) {
		policy, offsets = q.Policy, r.m.departing(q, movesOnce, time.Now())
		for _, o := range offsets {
			p, _ := q.At(o)
			p.From, p.To = o, o+1
			pieces[o] = p
		}
	})
	if len(offsets) == 0 {
		return
	}
	target, err := r.a.deadLetterTopic(ctx, policy.DeadLetters, r.topic)
	if err != nil {
		r.hold(ctx, r.whole(), err)
		return
	}
	to := queues.Place{Topic: target.ID, Partition: objectlog.Partition(int32(r.key.Partition) % target.Partitions)}
	var commands []metadata.Command
	var items []queues.Departure
	trimmed := false
	err = r.a.readRecords(ctx, r.topic, r.key.Partition, offsets, func(o objectlog.Offset, record objectlog.Record, err error) bool {
		if trimmed = trimmed || errors.Is(err, OutOfRange); err == nil {
			record = queues.LetterOf(r.topic.Name, r.key, pieces[o]).Write(record)
			_, _, err = r.a.encodeAlone(target, to.Partition, record, objectlog.NoProducer, 0)
		}
		switch {
		case err == nil:
			r.m.release(r.record(o))
			r.keep(o, record)
			items = append(items, queues.Departure{Offset: o, To: to, Producer: objectlog.NoProducer})
		case !errors.Is(err, OutOfRange):
			r.hold(ctx, r.record(o), err)
		}
		return r.bytes < moveBytesOnce
	})
	if err != nil {
		r.hold(ctx, r.whole(), err)
	}
	if trimmed {
		commands = append(commands, queues.Trim{Key: r.key, LogStart: r.partition().LogStart}.Command())
	}
	if len(items) > 0 {
		commands = append(commands, queues.MoveOut{Key: r.key, Items: items}.Command())
	}
	if len(commands) > 0 {
		r.moveOut(ctx, to, items, commands)
	}
}

// moveOut proposes the commands, the last of which is the MoveOut of items. A producer is drawn where the own state, which is the leader's, has no route: it
// goes into one proposal only, so that no two routes come to have it.
func (r *moveRound) moveOut(ctx context.Context, to queues.Place, items []queues.Departure, commands []metadata.Command) {
	known := false
	r.read(func(q *queues.Queue) {
		known = slices.ContainsFunc(q.Routes, func(x queues.Route) bool { return x.To == to })
	})
	if !known && len(items) > 0 {
		producer, err := r.a.producers.take(ctx, r.a.joiner)
		if err != nil {
			r.hold(ctx, r.whole(), because(Unavailable, err))
			return
		}
		for i := range items {
			items[i].Producer = producer
		}
		commands[len(commands)-1] = queues.MoveOut{Key: r.key, Items: items}.Command()
	}
	results, err := r.propose(ctx, commands...)
	if err == nil {
		if last := results[len(results)-1]; last.Reason == queues.ReasonFull || len(last.Refused) > 0 && last.Refused[0].Reason == queues.ReasonFull {
			err = queues.ReasonFull
		}
	}
	if err != nil {
		r.hold(ctx, r.whole(), err)
		return
	}
	r.m.release(r.whole())
}

func (r *moveRound) keep(o objectlog.Offset, record objectlog.Record) {
	r.loaded[o] = record
	r.bytes += recordSize(record)
}

func (r *moveRound) partition() (state metadata.PartitionState) {
	r.m.shard.log.Read(func(metadata.Seq) { state, _ = r.m.shard.state.Partition(r.key.Topic, r.key.Partition) })
	return state
}

// deadLetterTopic answers the topic for dead letters, which is made, or marked, when it is not there, or not marked.
func (a *Agent) deadLetterTopic(ctx context.Context, name string, source metadata.Topic) (metadata.Topic, error) {
	if name == source.Name {
		return metadata.Topic{}, &Error{Op: "send to dead letters", Object: name, Cause: because(InvalidRequest, errSameTopic), Hint: "name another dead-letter topic in the calls of the queue"}
	}
	t, err := a.find(ctx, name, AnyPartition)
	if errors.Is(err, metadata.ReasonUnknownTopic) {
		t, err = a.CreateTopic(ctx, name, source.Partitions, source.Settings.ForDeadLetters(), false)
		if errors.Is(err, metadata.ReasonTopicExists) { // another leader has begun to make it
			err = a.waitCatalog(ctx, func(s *metadata.State) bool { t, ok := s.Topic(name); return !ok || t.State == metadata.TopicActive })
			if err == nil {
				t, err = a.find(ctx, name, AnyPartition)
			}
		}
	}
	if err != nil || t.Settings.DeadLetters() {
		return t, err
	}
	return a.AlterTopic(ctx, name, 0, func(s metadata.Settings) (metadata.Settings, error) { return s.WithDeadLetters(), nil }, false)
}

var errSameTopic = errors.New("a topic can't hold its own dead letters")

// deliver writes what is on its way, and finishes what has arrived.
func (r *moveRound) deliver(ctx context.Context) {
	routes := r.underway()
	r.load(ctx, routes)
	var sent []*routeSent
	for _, pieces := range routes {
		var letters []letter
		for _, p := range pieces {
			record, ok := r.loaded[p.From]
			if !ok {
				break
			}
			letters = append(letters, letter{p, record})
		}
		if len(letters) > 0 {
			sent = append(sent, &routeSent{letters: letters})
		}
	}
	if len(sent) > 0 && r.m.leading() == r.epoch {
		r.a.sendRoutes(ctx, sent)
		r.finish(ctx, sent)
	}
}

// underway answers what this round is to write, some of each route. Which comes first is left to chance, so that none is always behind others.
func (r *moveRound) underway() [][]queues.Piece {
	var routes [][]queues.Piece
	now := time.Now()
	r.read(func(q *queues.Queue) {
		routes = slices.DeleteFunc(q.Underway(), func(on []queues.Piece) bool {
			return r.m.waits(hold{r.key, on[0].Move.Producer, objectlog.NoOffset}, now)
		})
	})
	rand.Shuffle(len(routes), func(i, j int) { routes[i], routes[j] = routes[j], routes[i] })
	routes = routes[:min(len(routes), movesOnce)]
	for i, on := range routes {
		routes[i] = on[:min(len(on), movesOnce/len(routes))]
	}
	return routes
}

// load reads the records that are not loaded yet, as they are to be written. In the place of one that the log does not hold any more goes a note of that: a
// gap in the sequences of a route would open a way for whoever still has the record in hand.
func (r *moveRound) load(ctx context.Context, routes [][]queues.Piece) {
	pieces := map[objectlog.Offset]queues.Piece{}
	var offsets []objectlog.Offset
	for _, on := range routes {
		for _, p := range on {
			if _, ok := r.loaded[p.From]; !ok {
				pieces[p.From] = p
				offsets = append(offsets, p.From)
			}
		}
	}
	slices.Sort(offsets)
	err := r.a.readRecords(ctx, r.topic, r.key.Partition, offsets, func(o objectlog.Offset, record objectlog.Record, err error) bool {
		p := pieces[o]
		if errors.Is(err, OutOfRange) {
			record, err = objectlog.Record{Timestamp: r.a.cfg.Wall()}, nil
			p.Failure.Error = "the record was gone from its topic, by its retention, before it was copied"
		}
		if err != nil {
			r.hold(ctx, hold{r.key, p.Move.Producer, objectlog.NoOffset}, err)
			return true
		}
		if r.key.Group == "" {
			record = queues.Redriven(record, r.topic.Name, r.key, p)
		} else {
			record = queues.LetterOf(r.topic.Name, r.key, p).Write(record)
		}
		r.keep(o, record)
		return r.bytes < moveBytesOnce
	})
	if err != nil {
		for _, on := range routes {
			r.hold(ctx, hold{r.key, on[0].Move.Producer, objectlog.NoOffset}, err)
		}
	}
}

// finish appends what became of what was sent.
func (r *moveRound) finish(ctx context.Context, sent []*routeSent) {
	var moved []queues.Arrival
	var commands []metadata.Command
	for _, s := range sent {
		for _, l := range s.letters[:s.arrived] {
			moved = append(moved, queues.Arrival{Offset: l.piece.From, Producer: l.piece.Move.Producer, Sequence: l.piece.Move.Sequence})
		}
	}
	if len(moved) > 0 {
		slices.SortFunc(moved, func(a, b queues.Arrival) int { return int(a.Offset - b.Offset) })
		commands = append(commands, queues.Moved{Key: r.key, Items: moved}.Command())
	}
	for _, s := range sent {
		commands = append(commands, r.reroute(ctx, s)...)
	}
	if len(commands) == 0 {
		return
	}
	if _, err := r.propose(ctx, commands...); err != nil {
		for _, s := range sent {
			r.hold(ctx, s.hold(r.key), err)
		}
		return
	}
	if r.key.Group == "" {
		r.m.redriven.Add(int64(len(moved)))
	} else {
		r.m.written.Add(int64(len(moved)))
	}
}

// reroute answers what is to be appended for a route that does not go on: the records that are left on it were not written. They take another one to the
// same place in the same entry; those for a topic that is gone stay where they are, or, if they failed, leave for the one that takes its place.
func (r *moveRound) reroute(ctx context.Context, s *routeSent) []metadata.Command {
	h := s.hold(r.key)
	switch {
	case s.err == nil:
		r.m.release(h)
		return nil
	case errors.Is(s.err, errNoTopic):
		r.m.release(h)
		return []metadata.Command{queues.Reroute{Key: r.key, Producer: h.Producer}.Command()}
	case !isGap(s.err):
		r.hold(ctx, h, s.err)
		return nil
	}
	producer, err := r.a.producers.take(ctx, r.a.joiner)
	if err != nil {
		r.hold(ctx, h, because(Unavailable, err))
		return nil
	}
	again, size := queues.MoveOut{Key: r.key, Until: r.partition().HighWatermark}, 0
	r.read(func(q *queues.Queue) {
		for _, p := range q.Pieces {
			if size > dueBytesMax {
				break // an entry has no room for more edited values: these are dead letters as before
			}
			left := !slices.ContainsFunc(s.letters[:s.arrived], func(l letter) bool { return l.piece.From == p.From })
			if p.Phase == queues.Moving && p.Move.Producer == h.Producer && left {
				size += len(p.Move.Edited) + 64
				again.Items = append(again.Items, queues.Departure{Offset: p.From, To: p.Move.To, Producer: producer, Edited: p.Move.Edited, HasEdited: p.Move.HasEdited})
			}
		}
	})
	return []metadata.Command{queues.Reroute{Key: r.key, Producer: h.Producer}.Command(), again.Command()}
}
