package shardlog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// entryBytesMax bounds an encoded entry: what does not fit waits for the next one, and a proposal that does not fit into one by itself
// is refused. The table takes items of 300 KiB.
const entryBytesMax = 256 << 10

// appending is the one entry that is on its way into the log.
type appending struct {
	attempt
	entry     entry
	raw       []byte // encoded entry
	footers   [][]byte
	proposals []prepared
}

// prepared is a proposal whose commands passed Prepare or were refused by it.
type prepared struct {
	id       uint64
	commands []choice
	bytesMin int // of the commands at their shortest
}

// choice is one proposed command: refused, or in the form in which it enters the entry.
type choice struct {
	refused   error
	command   metadata.Command // Prepare's form
	reference metadata.Command // the proposed form, if it refers to a footer and is shorter
	shorter   int              // by so many bytes; 0: there is no reference form
}

func (c *Core) onProposed(e Proposed) {
	switch {
	case c.phase == phaseHalted:
		c.emit(Decided{ID: e.ID, Err: errors.Join(ErrNotLeader, c.fault)})
	case c.phase != phaseLeading || c.resigning:
		c.emit(Decided{ID: e.ID, Err: ErrNotLeader})
	default:
		c.queue = append(c.queue, e)
	}
}

// refuseQueue answers what was never appended.
func (c *Core) refuseQueue(why error) {
	for _, p := range c.queue {
		c.emit(Decided{ID: p.ID, Err: why})
	}
	c.queue = nil
}

func (c *Core) onResign() {
	c.rank = -1
	c.resigning = c.mine || c.phase == phaseClaiming
}

// barrier appends the first entry of my epoch: behind it nothing of an earlier leader can land, because that one had at most one append in
// flight, and it is decided by now or never will land.
func (c *Core) barrier() {
	c.renew()
	if c.phase != phaseBarrier {
		return
	}
	if c.append == nil && !c.resigning {
		if n := c.tip.seq + 1; n > c.limit(0) {
			c.checkpoint(true) // of the replayed state: it needs no slot
			return
		}
		c.begin(nil, nil)
	}
	if c.append != nil {
		c.send(&c.append.attempt, timerAppend)
	}
}

func (c *Core) leading() {
	c.renew()
	if c.phase != phaseLeading {
		return
	}
	if !c.waits(timerTenure) { // another may lead by now: proposers had better look for it than wait here
		c.refuseQueue(ErrNotLeader)
	}
	c.checkpointWhenDue()
	if c.append == nil {
		c.appendNext()
	}
	if c.append != nil {
		c.send(&c.append.attempt, timerAppend)
	}
	c.readRing() // for current reads
}

// limit is the last seq that may be appended: it overwrites no entry behind the previous snapshot, as far as that is confirmed. Data
// leaves the reserved slots to barriers.
func (c *Core) limit(reserved metadata.Seq) metadata.Seq {
	return c.lease.prev.seq() + c.slots() - reserved
}

func (c *Core) reserved() metadata.Seq { return max(1, min(16, c.slots()/4)) }

// appendNext forms the next entry of what waits, if it may be appended.
func (c *Core) appendNext() {
	if len(c.queue) == 0 {
		return
	}
	n, behind := c.tip.seq+1, c.tip.seq+1-c.lease.prev.seq()
	if n > c.limit(c.reserved()) {
		c.checkpoint(true)
		return
	}
	if late := behind > c.slots()/2; late != c.late {
		if c.late = late; late {
			c.emit(Alarm{Err: fmt.Errorf("shard %d: seq %d: %d entries since the previous snapshot, of %d slots", c.cfg.Shard, n, behind, c.slots())})
		}
	}
	if c.waits(timerPace) {
		return
	}
	if behind > c.slots()/4*3 {
		c.arm(timerPace, c.cfg.Lease/60) // so that a snapshot can catch up
	}
	c.form()
}

// form takes proposals from the queue, in order, until an entry is full or the queue empty.
func (c *Core) form() {
	var taken []prepared
	size := entryOverheadMax
	for len(c.queue) > 0 {
		p := c.prepare(c.queue[0])
		if size+p.bytesMin > entryBytesMax && len(taken) > 0 {
			break
		}
		c.queue = c.queue[1:]
		if entryOverheadMax+p.bytesMin > entryBytesMax {
			for i := range p.commands {
				p.commands[i] = choice{refused: fmt.Errorf("append %d bytes of commands: %w", p.bytesMin, objectlog.ErrTooLarge)}
			}
			p.bytesMin = 0
		}
		taken = append(taken, p)
		size += p.bytesMin
	}
	commands, footers := c.shorten(taken)
	if len(commands) > 0 {
		c.begin(commands, footers)
		c.append.proposals = taken
		return
	}
	for _, p := range taken { // all refused: nothing to append
		c.emit(Decided{ID: p.id, Receipt: Receipt{Seq: c.tip.seq, Results: p.results(nil)}})
	}
}

// prepare asks the machines for each command's shortest form for the applied state, which is the one the entry will meet.
func (c *Core) prepare(p Proposed) prepared {
	out := prepared{id: p.ID, commands: make([]choice, len(p.Commands))}
	for i, cmd := range p.Commands {
		x := &out.commands[i]
		m := c.machine(cmd.Kind)
		if m == nil {
			x.refused = fmt.Errorf("command of kind %d: %w", cmd.Kind, objectlog.ErrInvalid)
			continue
		}
		if x.command, x.refused = m.Prepare(cmd); x.refused != nil {
			continue
		}
		if x.command.Footer, x.refused = c.footerOf(x.command, cmd.Footer); x.refused != nil {
			continue
		}
		if footer, err := c.footerOf(cmd, cmd.Footer); err == nil && footer != nil && len(cmd.Body) < len(x.command.Body) {
			x.reference, x.shorter = cmd, len(x.command.Body)-len(cmd.Body)
		}
		out.bytesMin += commandOverheadMax + len(x.command.Body) - x.shorter
	}
	return out
}

// footerOf answers the footer that the command's body refers to, nil if none. It must be the bytes that followers will find.
func (c *Core) footerOf(cmd metadata.Command, footer []byte) ([]byte, error) {
	ref, ok, err := c.machine(cmd.Kind).Reference(cmd)
	if err != nil || !ok {
		return nil, err
	}
	return footer, checkFooter(ref, footer)
}

// shorten lists the commands of an entry. Above EntryBytesMax it takes reference forms, where most is gained first.
func (c *Core) shorten(taken []prepared) ([]metadata.Command, [][]byte) {
	var all []*choice
	size := entryOverheadMax
	for i := range taken {
		for j := range taken[i].commands {
			if x := &taken[i].commands[j]; x.refused == nil {
				all = append(all, x)
				size += commandOverheadMax + len(x.command.Body)
			}
		}
	}
	longest := slices.SortedStableFunc(slices.Values(all), func(a, b *choice) int { return cmp.Compare(b.shorter, a.shorter) })
	for _, x := range longest {
		if size <= c.cfg.EntryBytesMax || x.shorter == 0 {
			break
		}
		x.command = x.reference
		size -= x.shorter
	}
	commands, footers := make([]metadata.Command, len(all)), make([][]byte, len(all))
	for i, x := range all {
		commands[i], footers[i] = x.command, x.command.Footer
	}
	return commands, footers
}

// begin puts an entry on its way: the next seq, and only one at a time.
func (c *Core) begin(commands []metadata.Command, footers [][]byte) {
	n := c.tip.seq + 1
	a := &appending{footers: footers, entry: entry{ring: c.lease.ring, seq: n, epoch: c.epoch, nonce: c.cfg.Random(),
		prevHash: c.tip.hash, time: max(c.now.Wall, c.tip.time), commands: commands}}
	a.raw = a.entry.encode()
	a.item = metadata.Item{Key: metadata.SlotKey(c.lease.ring, c.lease.slots, n), Rev: metadata.Rev(n), Value: a.raw}
	a.cond = metadata.RevIs(metadata.Rev(n - c.slots()))
	c.armed[timerAppend] = 0
	c.append = a
}

func (c *Core) decideAppend(v verdict, current *metadata.Item) {
	n := c.append.entry.seq
	switch v {
	case landed:
		c.committed()
	case vanished:
		c.haltSlot(n, "a slot", "none")
	case wentBack:
		c.haltSlot(n, fmt.Sprintf("seq %d or later", n-c.slots()), fmt.Sprintf("seq %d: the table went back", current.Rev))
	case beaten:
		c.outrun(n, current)
	}
}

// committed applies my entry. From the accepted append on, its records are durable and their offsets fixed; a replay finds what is applied
// here in the slot.
func (c *Core) committed() {
	a := c.append
	results, ok := c.apply(&a.entry, a.raw, a.footers)
	if !ok {
		return // halted: the proposals were answered as unknown
	}
	c.append = nil
	c.emit(Committed{Seq: a.entry.seq, Entry: a.raw, Footers: a.footers})
	for _, p := range a.proposals {
		mine := p.results(results)
		results = results[len(results)-p.left(len(results)):]
		c.emit(Decided{ID: p.id, Receipt: Receipt{Seq: a.entry.seq, Results: mine}})
	}
	if c.phase == phaseBarrier {
		c.beginLeading()
	}
}

// results answers one result per command: its refusal, or the next of applied.
func (p prepared) results(applied []any) []any {
	out := make([]any, len(p.commands))
	for i, x := range p.commands {
		if x.refused != nil {
			out[i] = x.refused
			continue
		}
		out[i], applied = applied[0], applied[1:]
	}
	return out
}

// left is how many of n results remain for the proposals behind p.
func (p prepared) left(n int) int {
	for _, x := range p.commands {
		if x.refused == nil {
			n--
		}
	}
	return n
}

func (c *Core) beginLeading() {
	c.phase = phaseLeading
	c.late, c.change, c.unstored = false, 0, 0
	c.emit(DeleteSnapshots{Below: c.epoch, Keep: c.named()})
}

// outrun: another item has the slot. Before the barrier it may be an earlier leader's last append, which is applied like any other and the
// next position tried; behind the barrier only a later leader can have put it.
func (c *Core) outrun(n metadata.Seq, current *metadata.Item) {
	rev := metadata.Seq(current.Rev)
	s := &slot{id: c.nextID(), rev: rev, raw: current.Value}
	if rev == n {
		c.decodeSlot(s, nil)
		if s.err == nil && c.phase == phaseLeading && s.entry.epoch <= c.epoch {
			c.haltSlot(n, fmt.Sprintf("my entry or a later leader's than epoch %d", c.epoch), fmt.Sprintf("epoch %d, nonce %x", s.entry.epoch, s.entry.nonce))
			return
		}
	}
	c.ring.found[n] = s
	if c.phase == phaseLeading {
		c.depose()
		return
	}
	c.append = nil
	c.replay()
}
