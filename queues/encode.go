package queues

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/wire"
	"github.com/splashdam/splashdam/objectlog"
)

// The bodies of all commands, encoder beside decoder: the fields in the order of the struct, in the writing of package wire. Durations are in
// milliseconds. Locks are eight bytes.

// operation is a decoded command.
type operation interface {
	decode(r *reader)
	// check finds what decodes but must not enter an entry. Rules of content only: Apply does not ask it, so that
	// a rule may change without making old entries unreadable.
	check() error
	apply(s *State, at metadata.Position) Result
}

func operationOf(k metadata.Kind) (operation, bool) {
	switch k {
	case kindAcquire:
		return new(Acquire), true
	case kindSettle:
		return new(Settle), true
	case kindElapse:
		return new(Elapse), true
	case kindFail:
		return new(Fail), true
	case kindMoveOut:
		return new(MoveOut), true
	case kindMoved:
		return new(Moved), true
	case kindReroute:
		return new(Reroute), true
	case kindDiscard:
		return new(Discard), true
	case kindTrim:
		return new(Trim), true
	case kindDropTopic:
		return new(DropTopic), true
	case kindExpire:
		return new(Expire), true
	}
	return nil, false
}

// reader reads, beside what every machine has, what queues have.
type reader struct{ wire.Reader }

// Command encodes c.
func (c Acquire) Command() metadata.Command {
	b := binary.BigEndian.AppendUint64(appendKey(nil, c.Key), c.Lock)
	b = wire.AppendInt(b, c.Wait.Milliseconds())
	b = wire.AppendInt(wire.AppendInt(b, c.Limit), c.Window)
	b = wire.AppendInt(wire.AppendInt(wire.AppendInt(b, c.Until), c.LogStart), c.Start)
	return metadata.Command{Kind: kindAcquire, Body: appendPolicy(b, c.Policy)}
}

func (c *Acquire) decode(r *reader) {
	c.Key, c.Lock, c.Wait = r.key(), r.lock(), r.wait()
	c.Limit, c.Window = int32(r.Bounded("limit", math.MaxInt32)), int32(r.Bounded("window", math.MaxInt32))
	c.Until, c.LogStart, c.Start = r.offset("until"), r.offset("log start"), r.offset("start")
	c.Policy = r.policy()
}

func (c *Acquire) check() error {
	if c.Lock == 0 {
		return errors.New("lock: 0, want a number drawn at random")
	}
	return errors.Join(CheckGroup(c.Group), checkPolicy(c.Policy), within("lock time in ms", c.Wait.Milliseconds(), 1, WaitMax.Milliseconds()),
		within("limit", int64(c.Limit), 1, WindowMax), within("window", int64(c.Window), 1, WindowMax))
}

// Command encodes c.
func (c Settle) Command() metadata.Command {
	b := wire.AppendInt(appendKey(nil, c.Key), len(c.Items))
	for _, i := range c.Items {
		b = wire.AppendInt(wire.AppendInt(b, i.From), i.To-i.From)
		b = append(binary.BigEndian.AppendUint64(b, i.Lock), byte(i.Verdict))
		b = wire.AppendString(wire.AppendInt(b, i.Wait.Milliseconds()), i.Error)
	}
	return metadata.Command{Kind: kindSettle, Body: b}
}

func (c *Settle) decode(r *reader) {
	c.Key = r.key()
	n := r.Count("items", 13)
	c.Items = make([]Settlement, 0, n)
	for range n {
		var i Settlement
		i.From, i.To = r.span()
		i.Lock, i.Verdict, i.Wait, i.Error = r.lock(), Verdict(r.Byte("verdict")), r.wait(), r.String("error", ErrorBytesMax)
		c.Items = append(c.Items, i)
	}
}

func (c *Settle) check() error {
	for _, i := range c.Items {
		if i.Verdict < Accept || i.Verdict > Return || i.From >= i.To {
			return fmt.Errorf("settle offset %d: verdict %d of %d records", i.From, i.Verdict, i.To-i.From)
		}
		if i.Verdict == Extend && i.Wait < time.Millisecond {
			return fmt.Errorf("extend the lock of offset %d: by no time", i.From)
		}
		if err := checkText("error", i.Error, ErrorBytesMax); err != nil {
			return err
		}
	}
	return CheckGroup(c.Group)
}

// Command encodes c.
func (c Elapse) Command() metadata.Command {
	b := wire.AppendInt(appendKey(nil, c.Key), len(c.Stamps))
	last := int64(0)
	for _, s := range c.Stamps {
		b = wire.AppendInt(b, s-last)
		last = s
	}
	return metadata.Command{Kind: kindElapse, Body: b}
}

func (c *Elapse) decode(r *reader) {
	c.Key = r.key()
	last := int64(0)
	for range r.Count("stamps", 1) {
		last += int64(r.Bounded("stamp", offsetMax-uint64(last)))
		c.Stamps = append(c.Stamps, last)
	}
}

func (c *Elapse) check() error { return CheckGroup(c.Group) }

// Command encodes c.
func (c Fail) Command() metadata.Command {
	b := wire.AppendInt(wire.AppendInt(appendKey(nil, c.Key), c.Offset), c.Committed)
	b = binary.AppendVarint(wire.AppendInt(b, c.Deliveries), int64(c.First))
	return metadata.Command{Kind: kindFail, Body: appendPolicy(wire.AppendString(b, c.Error), c.Policy)}
}

func (c *Fail) decode(r *reader) {
	c.Key, c.Offset, c.Committed = r.key(), r.record(), r.offset("committed")
	c.Deliveries, c.First = int32(r.Bounded("deliveries", math.MaxInt32)), objectlog.Timestamp(r.Varint("first"))
	c.Error, c.Policy = r.String("error", ErrorBytesMax), r.policy()
}

func (c *Fail) check() error {
	return errors.Join(CheckGroup(c.Group), checkPolicy(c.Policy), checkText("error", c.Error, ErrorBytesMax), within("deliveries", int64(c.Deliveries), 1, math.MaxInt32))
}

// Command encodes c.
func (c MoveOut) Command() metadata.Command {
	b := wire.AppendInt(appendKey(nil, c.Key), c.Until)
	b = wire.AppendInt(b, len(c.Items))
	for _, d := range c.Items {
		b = wire.AppendInt(appendPlace(wire.AppendInt(b, d.Offset), d.To), d.Producer+1)
		if !d.HasEdited {
			b = append(b, 0)
			continue
		}
		b = wire.AppendString(append(b, 1), string(d.Edited))
	}
	return metadata.Command{Kind: kindMoveOut, Body: b}
}

func (c *MoveOut) decode(r *reader) {
	c.Key, c.Until = r.key(), r.offset("until")
	for range r.Count("items", 20) {
		d := Departure{Offset: r.record(), To: r.place()}
		d.Producer = objectlog.ProducerID(r.Bounded("producer", offsetMax)) - 1
		d.Edited, d.HasEdited = r.edited()
		c.Items = append(c.Items, d)
	}
}

func (c *MoveOut) check() error {
	for _, d := range c.Items {
		if d.To.Topic.IsZero() {
			return fmt.Errorf("move offset %d: to no topic", d.Offset)
		}
	}
	return checkText("group id", c.Group, groupBytesMax)
}

// Command encodes c.
func (c Moved) Command() metadata.Command {
	b := wire.AppendInt(appendKey(nil, c.Key), len(c.Items))
	for _, a := range c.Items {
		b = wire.AppendInt(wire.AppendInt(wire.AppendInt(b, a.Offset), a.Producer), a.Sequence)
	}
	return metadata.Command{Kind: kindMoved, Body: b}
}

func (c *Moved) decode(r *reader) {
	c.Key = r.key()
	for range r.Count("items", 3) {
		c.Items = append(c.Items, Arrival{Offset: r.record(), Producer: objectlog.ProducerID(r.Bounded("producer", offsetMax)),
			Sequence: int32(r.Bounded("sequence", math.MaxInt32))})
	}
}

func (c *Moved) check() error { return checkText("group id", c.Group, groupBytesMax) }

// Command encodes c.
func (c Reroute) Command() metadata.Command {
	return metadata.Command{Kind: kindReroute, Body: wire.AppendInt(appendKey(nil, c.Key), c.Producer)}
}

func (c *Reroute) decode(r *reader) {
	c.Key, c.Producer = r.key(), objectlog.ProducerID(r.Bounded("producer", offsetMax))
}
func (c *Reroute) check() error { return checkText("group id", c.Group, groupBytesMax) }

// Command encodes c.
func (c Discard) Command() metadata.Command {
	b := wire.AppendInt(appendKey(nil, c.Key), c.Until)
	b = wire.AppendInt(b, len(c.Ranges))
	for _, x := range c.Ranges {
		b = wire.AppendInt(wire.AppendInt(b, x.From), x.To-x.From)
	}
	return metadata.Command{Kind: kindDiscard, Body: b}
}

func (c *Discard) decode(r *reader) {
	c.Key, c.Until = r.key(), r.offset("until")
	for range r.Count("ranges", 2) {
		var x Range
		x.From, x.To = r.span()
		c.Ranges = append(c.Ranges, x)
	}
}

func (c *Discard) check() error {
	if c.Group != "" {
		return fmt.Errorf("discard of group %q: records of groups are accepted", c.Group)
	}
	return nil
}

// Command encodes c.
func (c Trim) Command() metadata.Command {
	return metadata.Command{Kind: kindTrim, Body: wire.AppendInt(appendKey(nil, c.Key), c.LogStart)}
}

func (c *Trim) decode(r *reader) { c.Key, c.LogStart = r.key(), r.offset("log start") }
func (c *Trim) check() error     { return checkText("group id", c.Group, groupBytesMax) }

// Command encodes c.
func (c DropTopic) Command() metadata.Command {
	return metadata.Command{Kind: kindDropTopic, Body: c.Topic[:]}
}

func (c *DropTopic) decode(r *reader) { c.Topic = r.UUID("topic") }
func (c *DropTopic) check() error     { return nil }

// Command encodes c.
func (c Expire) Command() metadata.Command {
	return metadata.Command{Kind: kindExpire, Body: binary.AppendVarint(nil, int64(c.Before))}
}

func (c *Expire) decode(r *reader) { c.Before = objectlog.Timestamp(r.Varint("before")) }
func (c *Expire) check() error     { return nil }

func appendKey(b []byte, k Key) []byte {
	return wire.AppendString(appendPlace(b, Place{k.Topic, k.Partition}), k.Group)
}

func (r *reader) key() Key {
	p := r.place()
	return Key{Topic: p.Topic, Partition: p.Partition, Group: r.String("group", groupBytesMax)}
}

func appendPlace(b []byte, p Place) []byte {
	return wire.AppendInt(append(b, p.Topic[:]...), p.Partition)
}

func (r *reader) place() Place {
	return Place{r.UUID("topic"), objectlog.Partition(r.Bounded("partition", partitionsMax-1))}
}

func appendPolicy(b []byte, p Policy) []byte {
	return wire.AppendString(wire.AppendInt(b, p.Deliveries), p.DeadLetters)
}

func (r *reader) policy() Policy {
	return Policy{Deliveries: int32(r.Bounded("deliveries", math.MaxInt32)), DeadLetters: r.String("dead-letter topic", topicBytesMax)}
}

func checkPolicy(p Policy) error {
	if err := metadata.CheckTopicName(p.DeadLetters); err != nil {
		return fmt.Errorf("dead-letter topic: %w", err)
	}
	return within("deliveries", int64(p.Deliveries), 1, DeliveriesMax)
}

func within(what string, v, low, high int64) error {
	if v < low || v > high {
		return fmt.Errorf("%s: %d, want %d to %d", what, v, low, high)
	}
	return nil
}

func (r *reader) offset(what string) objectlog.Offset {
	return objectlog.Offset(r.Bounded(what, offsetMax))
}

// record reads the offset of one record: what is behind it is an offset too.
func (r *reader) record() objectlog.Offset {
	return objectlog.Offset(r.Bounded("offset", offsetMax-1))
}

// span reads a range as its first offset and how many there are.
func (r *reader) span() (from, to objectlog.Offset) {
	from = r.offset("from")
	return from, from + objectlog.Offset(r.Bounded("records", offsetMax-uint64(from)))
}

func (r *reader) wait() time.Duration {
	return time.Duration(r.Bounded("time", uint64(WaitMax.Milliseconds()))) * time.Millisecond
}

func (r *reader) lock() uint64 {
	if b := r.Bytes("lock", 8); len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) edited() ([]byte, bool) {
	switch has := r.Byte("edited"); has {
	case 0:
		return nil, false
	case 1:
		return []byte(r.String("edited", EditedBytesMax)), true
	default:
		r.Fail("edited: %d", has)
		return nil, false
	}
}

// A result is a byte that is of no other machine's results, then reason (1), the ranges acquired with their deliveries, the ranges refused with their reasons,
// and how many locks ended.
const resultQueues = 96

// EncodeResult writes a result, so that a proposer at another agent can be told.
func EncodeResult(r Result) []byte {
	b := wire.AppendInt([]byte{resultQueues, byte(r.Reason)}, len(r.Acquired))
	for _, a := range r.Acquired {
		b = wire.AppendInt(wire.AppendInt(wire.AppendInt(b, a.From), a.To-a.From), a.Deliveries)
	}
	b = wire.AppendInt(b, len(r.Refused))
	for _, x := range r.Refused {
		b = append(wire.AppendInt(wire.AppendInt(b, x.From), x.To-x.From), byte(x.Reason))
	}
	return wire.AppendInt(b, r.Expired)
}

// IsResult says whether the bytes are to be a result of this package.
func IsResult(b []byte) bool { return len(b) > 0 && b[0] == resultQueues }

// DecodeResult reads what EncodeResult wrote. Any other bytes are an error.
func DecodeResult(b []byte) (Result, error) {
	r := reader{wire.Reader{B: b}}
	if tag := r.Byte("type"); tag != resultQueues {
		r.Fail("type %d: not a queue's", tag)
	}
	out := Result{Reason: Reason(r.Byte("reason"))}
	for range r.Count("acquired", 3) {
		var a Acquired
		a.From, a.To = r.span()
		a.Deliveries = int32(r.Bounded("deliveries", math.MaxInt32))
		out.Acquired = append(out.Acquired, a)
	}
	for range r.Count("refused", 3) {
		var x Refusal
		x.From, x.To = r.span()
		x.Reason = Reason(r.Byte("reason"))
		out.Refused = append(out.Refused, x)
	}
	out.Expired = int64(r.Bounded("expired", offsetMax))
	if err := r.End(); err != nil {
		return Result{}, fmt.Errorf("decode result: %w", err)
	}
	return out, nil
}
