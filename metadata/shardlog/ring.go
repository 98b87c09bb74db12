package shardlog

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// windowMax is how many slots are read ahead, so that a restart takes round trips per window, not per entry.
const windowMax = 64

// slotsMin is the smallest ring that has room for an entry beside the reserved slot.
const slotsMin = 2

// ringReader reads slots ahead of the applied state and serves current reads from the answers.
type ringReader struct {
	reading  bool // until the end of the log is seen
	window   int
	attempts int                    // failed in a row
	flights  map[uint64]slotRead    // reads under way, by ID
	found    map[metadata.Seq]*slot // answers whose turn has not come
	footers  map[uint64]*slot       // reads of footers under way, by ID
	asked    []currentRead
	ended    bool // the last slot looked at was the end of the log
	// told is the newest read that was sent when a stream told of entries beyond the next one: a read up to it that shows the end is an old one.
	told uint64
}

// slotRead is one read of a slot under way.
type slotRead struct{ seq metadata.Seq }

// currentRead waits for a read of the next slot with an ID above after: one that was sent after it was asked.
type currentRead struct {
	id    uint64
	after uint64
}

// slot is what was found at one position of the log.
type slot struct {
	id       uint64 // of the read; 0: from the stream
	rev      metadata.Seq
	raw      []byte
	entry    entry
	err      error                // the entry does not decode, or refers to a footer that does not
	refs     []metadata.FooterRef // footers that are not there yet
	places   []int                // the commands they belong to
	footers  [][]byte             // one per command
	fetching bool
	lost     error // a footer that the entry needs is missing or damaged
}

func (r *ringReader) reset() {
	r.flights, r.found, r.footers = map[uint64]slotRead{}, map[metadata.Seq]*slot{}, map[uint64]*slot{}
	r.reading, r.ended, r.window = true, false, 1
}

func (r *ringReader) ask(id, after uint64) { r.asked = append(r.asked, currentRead{id, after}) }

// answerCurrent answers the current reads that a slot read with the ID, which found the end of the log not beyond
// the applied state, proves current.
func (c *Core) answerCurrent(id uint64) {
	rest := c.ring.asked[:0]
	for _, a := range c.ring.asked {
		if id > a.after { // the probe was sent after the request arrived
			c.emit(CurrentAnswered{ID: a.id, Seq: c.tip.seq})
		} else {
			rest = append(rest, a)
		}
	}
	c.ring.asked = rest
}

// readRing applies the slots whose turn has come and reads further ones, while there are some or a current read waits.
func (c *Core) readRing() {
	if len(c.ring.asked) > 0 {
		c.ring.reading = true
	}
	for c.takeSlot() {
	}
	if !c.ring.reading || c.waits(timerRead) || !c.readsRing() {
		return
	}
	busy := make(map[metadata.Seq]bool, len(c.ring.flights))
	for _, f := range c.ring.flights {
		busy[f.seq] = true
	}
	ahead := min(metadata.Seq(c.ring.window), c.slots()) // within one lap
	for n := c.tip.seq + 1; n <= c.tip.seq+ahead; n++ {
		if c.ring.found[n] == nil && !busy[n] {
			id := c.nextID()
			c.ring.flights[id] = slotRead{n}
			c.emit(GetItem{ID: id, Key: metadata.SlotKey(c.lease.ring, c.lease.slots, n)})
		}
	}
}

// readsRing: in the other phases the next slot is not looked at.
func (c *Core) readsRing() bool {
	switch c.phase {
	case phaseReplaying, phaseFollowing, phaseClaiming, phaseLeading:
		return true
	}
	return false
}

func (c *Core) onSlotRead(f slotRead, e ItemRead) {
	delete(c.ring.flights, e.ID)
	if e.Err != nil {
		c.ring.attempts++
		c.backoff(timerRead, c.ring.attempts)
		return
	}
	c.ring.attempts = 0
	if !e.Found {
		c.haltSlot(f.seq, "a slot", "none")
		return
	}
	if f.seq <= c.tip.seq {
		if metadata.Seq(e.Item.Rev) == f.seq-c.slots() {
			c.answerCurrent(e.ID) // nothing at or behind f.seq was committed when the slot was read
		}
		return
	}
	s := &slot{id: e.ID, rev: metadata.Seq(e.Item.Rev), raw: e.Item.Value}
	if s.rev == f.seq {
		var given [][]byte
		if c.append != nil && bytes.Equal(s.raw, c.append.raw) {
			given = c.append.footers
		}
		c.decodeSlot(s, given)
	}
	c.ring.found[f.seq] = s
}

// decodeSlot decodes the entry and finds the footers it needs beside those given; they are fetched ahead of its turn.
func (c *Core) decodeSlot(s *slot, given [][]byte) {
	s.entry, s.err = decodeEntry(s.raw)
	s.footers = make([][]byte, len(s.entry.commands))
	for i, cmd := range s.entry.commands {
		m := c.machine(cmd.Kind)
		if m == nil {
			s.err = fmt.Errorf("%w: command of kind %d", objectlog.ErrVersion, cmd.Kind)
			return
		}
		ref, ok, err := m.Reference(cmd)
		if err != nil {
			s.err = err
			return
		}
		if !ok {
			continue
		}
		if i < len(given) && checkFooter(ref, given[i]) == nil {
			s.footers[i] = given[i]
			continue
		}
		s.refs, s.places = append(s.refs, ref), append(s.places, i)
	}
	c.fetchFooters(s)
}

func (c *Core) fetchFooters(s *slot) {
	if len(s.refs) == 0 || s.fetching || s.lost != nil || c.waits(timerFooters) {
		return
	}
	s.fetching = true
	id := c.nextID()
	c.ring.footers[id] = s
	c.emit(ReadFooters{ID: id, Refs: s.refs})
}

func (c *Core) onFootersRead(e FootersRead) {
	s := c.ring.footers[e.ID]
	if s == nil {
		return
	}
	delete(c.ring.footers, e.ID)
	s.fetching = false
	switch {
	case errors.Is(e.Err, objectlog.ErrNotFound), errors.Is(e.Err, objectlog.ErrRange):
		s.lost = e.Err
		return
	case e.Err != nil || len(e.Footers) != len(s.refs):
		c.ring.attempts++
		c.backoff(timerFooters, c.ring.attempts)
		return
	}
	for i, ref := range s.refs {
		if err := checkFooter(ref, e.Footers[i]); err != nil {
			s.lost = err
			return
		}
		s.footers[s.places[i]] = e.Footers[i]
	}
	s.refs, s.places = nil, nil
}

func (c *Core) slots() metadata.Seq { return metadata.Seq(c.lease.slots) }

// takeSlot judges what was found at the first position behind the applied state, by its revision. It answers true when
// there may be more to take.
func (c *Core) takeSlot() bool {
	n := c.tip.seq + 1
	s := c.ring.found[n]
	if s == nil || !c.readsRing() {
		return false
	}
	switch {
	case s.rev == n:
		return c.takeEntry(n, s)
	case s.rev == n-c.slots(): // the end of the log, when the slot was read
		delete(c.ring.found, n)
		c.ring.window, c.ring.ended = 1, true
		c.answerCurrent(s.id)
		c.ring.reading = len(c.ring.asked) > 0 || s.id <= c.ring.told
		return false
	case s.rev > n && (s.rev-n)%c.slots() == 0: // overwritten: the ring went on without me
		if c.phase == phaseLeading {
			c.depose()
		}
		c.seek(fmt.Sprintf("slot of seq %d holds seq %d", n, s.rev))
	default:
		c.haltSlot(n, fmt.Sprintf("seq %d or %d", n, n-c.slots()), fmt.Sprintf("seq %d", s.rev))
	}
	return false
}

// takeEntry applies the entry at n if it continues the log.
func (c *Core) takeEntry(n metadata.Seq, s *slot) bool {
	if c.phase == phaseLeading {
		if c.append != nil { // the slot is taken: by my append under way, or by another's entry
			delete(c.ring.found, n)
			if bytes.Equal(s.raw, c.append.raw) {
				c.committed()
			} else {
				c.outrun(n, &metadata.Item{Rev: metadata.Rev(n), Value: s.raw})
			}
			return true
		}
		if s.err == nil && s.entry.epoch <= c.epoch {
			c.haltSlot(n, fmt.Sprintf("nothing appended by another at or below my epoch %d", c.epoch), fmt.Sprintf("an entry of epoch %d", s.entry.epoch))
			return false
		}
		c.depose()
	}
	if err := c.checkNext(n, s); err != nil {
		delete(c.ring.found, n)
		if s.id == 0 { // a stream is not the log: the ring decides
			c.ring.reading = true
			return true
		}
		c.haltSlot(n, "an entry that continues the log", err.Error())
		return false
	}
	if c.mine && s.entry.epoch > c.epoch { // deposed between claim and barrier
		c.depose()
	}
	if c.mine && s.entry.epoch == c.epoch {
		c.haltSlot(n, fmt.Sprintf("no entry of my epoch %d but mine", c.epoch), fmt.Sprintf("nonce %x", s.entry.nonce))
		return false
	}
	if s.lost != nil {
		c.seek(fmt.Sprintf("the entry at seq %d needs a footer: %v", n, s.lost))
		return false
	}
	if c.fetchFooters(s); len(s.refs) > 0 {
		return false
	}
	delete(c.ring.found, n)
	if s.id != 0 { // read, not streamed: there may be more behind it
		c.ring.window = min(2*c.ring.window, windowMax)
	}
	c.ring.ended = false
	_, ok := c.apply(&s.entry, s.raw, s.footers)
	return ok
}

// checkNext says why the entry found at n does not continue the log.
func (c *Core) checkNext(n metadata.Seq, s *slot) error {
	if s.err != nil {
		return s.err
	}
	return c.tip.precedes(&s.entry, n, c.lease.ring)
}

// precedes says why e, found at n, is not the entry behind t.
func (t tip) precedes(e *entry, n metadata.Seq, ring objectlog.UUID) error {
	switch {
	case e.seq != n || e.ring != ring:
		return fmt.Errorf("%w: seq %d of ring %s", objectlog.ErrCorrupt, e.seq, e.ring)
	case e.prevHash != t.hash:
		return fmt.Errorf("%w: previous hash %s, entry %d has %s", objectlog.ErrCorrupt, e.prevHash, t.seq, t.hash)
	case e.epoch < t.epoch:
		return fmt.Errorf("%w: epoch %d below %d", objectlog.ErrCorrupt, e.epoch, t.epoch)
	}
	return nil
}

// apply changes the state by one committed entry: the only place that does. It answers each command's result; false: halted.
func (c *Core) apply(e *entry, raw []byte, footers [][]byte) ([]any, bool) {
	at := metadata.Position{Seq: e.seq, Epoch: e.epoch, Time: e.time}
	results := make([]any, len(e.commands))
	for i, cmd := range e.commands {
		cmd.Footer = footers[i]
		c.since += int64(len(cmd.Footer))
		var err error
		if results[i], err = c.machine(cmd.Kind).Apply(at, cmd); err != nil {
			c.haltSlot(e.seq, "commands that a leader wrote", fmt.Sprintf("command %d of kind %d: %v", i, cmd.Kind, err))
			return nil, false
		}
	}
	c.since += int64(len(raw))
	c.tip = tip{seq: e.seq, epoch: e.epoch, hash: hashOf(raw), time: e.time}
	delete(c.ring.found, e.seq)
	if e.epoch > c.lease.epoch {
		c.leaseOutdated() // its leader's claim came before
	}
	c.applied = append(c.applied, Committed{Seq: e.seq, Entry: raw, Footers: footers})
	c.hashWhenDue()
	return results, true
}

func (c *Core) haltSlot(n metadata.Seq, want, found string) {
	c.halt(slotDamage(c.lease, n, want, found))
}

// slotDamage says what is wrong with the slot of n.
func slotDamage(l lease, n metadata.Seq, want, found string) error {
	key := metadata.SlotKey(l.ring, max(l.slots, 1), n)
	return damage(fmt.Sprintf("seq %d in slot %s/%s", n, key.PK, key.SK), want, found, remedyTable)
}

// remedyTable is what helps against damage in the table.
const remedyTable = "compare the table with a backup, or restore it into a new ring"

// damage says in a sentence what is wrong with stored or applied state, and what a person can do.
func damage(item, want, found, remedy string) error {
	return fmt.Errorf("%s: want %s, found %s; %s", item, want, found, remedy)
}
