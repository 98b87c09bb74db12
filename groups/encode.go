package groups

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/wire"
	"github.com/splashdam/splashdam/objectlog"
)

// The bodies of all commands, encoder beside decoder: the fields in the order of the struct, in the writing of package wire. Durations are in
// milliseconds. Partitions and offsets are differences within a topic.

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
	case kindJoin:
		return new(Join), true
	case kindLeave:
		return new(Leave), true
	case kindAssign:
		return new(Assign), true
	case kindRelease:
		return new(Release), true
	case kindCommitOffsets:
		return new(CommitOffsets), true
	case kindDeleteGroup:
		return new(DeleteGroup), true
	case kindDropTopic:
		return new(DropTopic), true
	case kindExpire:
		return new(Expire), true
	}
	return nil, false
}

// reader reads, beside what every machine has, what groups have.
type reader struct{ wire.Reader }

// Command encodes c.
func (c Join) Command() metadata.Command {
	return metadata.Command{Kind: kindJoin, Body: appendMember(wire.AppendString(nil, c.Group), &c.Member)}
}

func (c *Join) decode(r *reader) { c.Group, c.Member = r.group(), r.member() }

func (c *Join) check() error {
	return errors.Join(CheckGroup(c.Group), checkMember(c.Member.ID), CheckSubscription(c.Member.Subscribed))
}

// Command encodes c.
func (c Leave) Command() metadata.Command {
	return metadata.Command{Kind: kindLeave, Body: wire.AppendString(wire.AppendString(nil, c.Group), c.Member)}
}

func (c *Leave) decode(r *reader) { c.Group, c.Member = r.group(), r.String("member", memberBytesMax) }
func (c *Leave) check() error     { return errors.Join(CheckGroup(c.Group), checkMember(c.Member)) }

// Command encodes c.
func (c Assign) Command() metadata.Command {
	b := wire.AppendInt(wire.AppendString(nil, c.Group), c.Version)
	b = wire.AppendInt(b, len(c.Targets))
	for _, t := range c.Targets {
		b = wire.AppendInt(append(b, t.Topic[:]...), len(t.Members))
		for _, m := range t.Members {
			b = wire.AppendInt(b, m+1)
		}
	}
	return metadata.Command{Kind: kindAssign, Body: b}
}

func (c *Assign) decode(r *reader) {
	c.Group, c.Version = r.group(), int64(r.Bounded("version", generationMax))
	for range r.Count("topics", 17) {
		t := Target{Topic: r.UUID("topic")}
		n := r.Count("partitions", 1)
		if n > partitionsMax {
			r.Fail("topic %s: %d partitions", t.Topic, n)
			n = 0
		}
		t.Members = make([]int32, 0, n)
		for range n {
			t.Members = append(t.Members, int32(r.Bounded("member", membersMax))-1)
		}
		if k := len(c.Targets); k > 0 && slices.Compare(c.Targets[k-1].Topic[:], t.Topic[:]) >= 0 {
			r.Fail("topic %s: out of order", t.Topic)
		}
		c.Targets = append(c.Targets, t)
	}
}

func (c *Assign) check() error {
	size := 0
	for _, t := range c.Targets {
		size += targetBytesMax + len(t.Members)*placeBytesMax
	}
	if size > assignBytesMax {
		return fmt.Errorf("%d topics with more partitions than a group can have", len(c.Targets))
	}
	return CheckGroup(c.Group)
}

// Command encodes c.
func (c Release) Command() metadata.Command {
	b := wire.AppendString(wire.AppendString(nil, c.Group), c.Member)
	b = wire.AppendInt(wire.AppendInt(b, c.Generation), len(c.Partitions))
	var last TopicPartition
	for i, p := range c.Partitions {
		b = appendPlace(b, i, last, p)
		last = p
	}
	return metadata.Command{Kind: kindRelease, Body: b}
}

func (c *Release) decode(r *reader) {
	c.Group, c.Member = r.group(), r.String("member", memberBytesMax)
	c.Generation = int64(r.Bounded("generation", generationMax))
	var last TopicPartition
	for i := range r.Count("partitions", 2) {
		last = r.place(i, last)
		c.Partitions = append(c.Partitions, last)
	}
}

func (c *Release) check() error { return errors.Join(CheckGroup(c.Group), checkMember(c.Member)) }

// Command encodes c.
func (c CommitOffsets) Command() metadata.Command {
	b := wire.AppendString(wire.AppendString(wire.AppendString(nil, c.Group), c.Member), c.Instance)
	force := byte(0)
	if c.Force {
		force = 1
	}
	b = append(wire.AppendInt(b, c.Generation), force)
	b = wire.AppendInt(b, len(c.Offsets))
	var last TopicPartition
	for i, o := range c.Offsets {
		b = appendOffset(b, i, last, &o)
		last = o.TopicPartition
	}
	return metadata.Command{Kind: kindCommitOffsets, Body: b}
}

func (c *CommitOffsets) decode(r *reader) {
	c.Group, c.Member, c.Instance = r.group(), r.String("member", memberBytesMax), r.String("instance", instanceBytesMax)
	c.Generation = int64(r.Bounded("generation", generationMax))
	force := r.Byte("force")
	if c.Force = force == 1; force > 1 {
		r.Fail("force: %d", force)
	}
	n := r.Count("offsets", 5)
	c.Offsets = make([]Committed, 0, n)
	var last TopicPartition
	for i := range n {
		o := r.offset(i, last)
		last = o.TopicPartition
		c.Offsets = append(c.Offsets, o)
	}
}

func (c *CommitOffsets) check() error {
	if len(c.Offsets) > commitMax {
		return fmt.Errorf("%d offsets in one commit: at most %d", len(c.Offsets), commitMax)
	}
	return CheckGroup(c.Group)
}

// Command encodes c.
func (c DeleteGroup) Command() metadata.Command {
	return metadata.Command{Kind: kindDeleteGroup, Body: wire.AppendString(nil, c.Group)}
}

func (c *DeleteGroup) decode(r *reader) { c.Group = r.group() }
func (c *DeleteGroup) check() error     { return CheckGroup(c.Group) }

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

func appendMember(b []byte, m *Member) []byte {
	for _, s := range []string{m.ID, m.Instance, m.Former, m.Client, m.Host, m.Subscribed.Pattern} {
		b = wire.AppendString(b, s)
	}
	b = wire.AppendInt(b, len(m.Subscribed.Topics))
	for _, t := range m.Subscribed.Topics {
		b = wire.AppendString(b, t)
	}
	b = wire.AppendInt(wire.AppendInt(b, m.Session.Milliseconds()), m.Rebalance.Milliseconds())
	return binary.AppendVarint(b, int64(m.Joined))
}

func (r *reader) member() Member {
	m := Member{ID: r.String("member", memberBytesMax), Instance: r.String("instance", instanceBytesMax), Former: r.String("former", memberBytesMax),
		Client: r.String("client", clientBytesMax), Host: r.String("host", clientBytesMax)}
	m.Subscribed.Pattern = r.String("pattern", patternBytesMax)
	for i := range r.Bounded("topics", topicsMax) {
		t := r.String("topic", topicBytesMax)
		if i > 0 && t <= m.Subscribed.Topics[i-1] && r.Err == nil {
			r.Fail("topic %q: out of order", t)
		}
		if r.Err != nil {
			break
		}
		m.Subscribed.Topics = append(m.Subscribed.Topics, t)
	}
	m.Session, m.Rebalance = r.duration("session"), r.duration("rebalance")
	m.Joined = objectlog.Timestamp(r.Varint("joined"))
	return m
}

func (r *reader) duration(what string) time.Duration {
	return time.Duration(r.Bounded(what, durationMax)) * time.Millisecond
}

func (r *reader) group() string { return r.String("group", groupBytesMax) }

// appendPlace writes a partition behind another one: 0 and the difference within the topic, or 1, the topic and the number. The first of a
// list names its topic.
func appendPlace(b []byte, i int, last, p TopicPartition) []byte {
	if i > 0 && p.Topic == last.Topic {
		return wire.AppendInt(append(b, 0), p.Partition-last.Partition)
	}
	return wire.AppendInt(append(append(b, 1), p.Topic[:]...), p.Partition)
}

func (r *reader) place(i int, last TopicPartition) TopicPartition {
	p := last
	switch same := r.Byte("same topic"); {
	case same == 0 && i > 0:
		p.Partition += objectlog.Partition(r.Bounded("partition", partitionsMax-1))
	case same == 1:
		p = TopicPartition{r.UUID("topic"), objectlog.Partition(r.Bounded("partition", partitionsMax-1))}
	default:
		r.Fail("partition: of no topic")
	}
	if (i > 0 && p.Compare(last) <= 0 || p.Partition >= partitionsMax) && r.Err == nil {
		r.Fail("partition %s/%d: out of order", p.Topic, p.Partition)
	}
	return p
}

func appendOffset(b []byte, i int, last TopicPartition, o *Committed) []byte {
	b = wire.AppendInt(appendPlace(b, i, last, o.TopicPartition), o.Offset)
	b = binary.AppendVarint(b, int64(o.Epoch))
	return wire.AppendString(b, o.Metadata)
}

func (r *reader) offset(i int, last TopicPartition) Committed {
	return Committed{TopicPartition: r.place(i, last), Offset: objectlog.Offset(r.Bounded("offset", offsetMax)),
		Epoch: objectlog.Epoch(r.Varint("epoch")), Metadata: r.String("metadata", MetadataBytesMax)}
}

// CheckGroup says what is wrong with a group's id.
func CheckGroup(id string) error { return checkName("group", id, groupBytesMax) }

func checkMember(id string) error { return checkName("member", id, memberBytesMax) }

func checkName(what, s string, bytesMax int) error {
	if s == "" || len(s) > bytesMax || !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return fmt.Errorf("%s id: want 1 to %d bytes of text without control characters", what, bytesMax)
	}
	return nil
}

// CheckSubscription says what is wrong with a subscription.
func CheckSubscription(s Subscription) error {
	if len(s.Topics) == 0 && s.Pattern == "" {
		return errors.New("subscription: neither topics nor a pattern")
	}
	if len(s.Topics) > topicsMax || len(s.Pattern) > patternBytesMax {
		return fmt.Errorf("subscription: at most %d topics and a pattern of %d bytes", topicsMax, patternBytesMax)
	}
	for _, t := range s.Topics {
		if err := metadata.CheckTopicName(t); err != nil {
			return fmt.Errorf("subscription: %w", err)
		}
	}
	if s.Pattern == "" {
		return nil
	}
	_, err := compile(s.Pattern)
	return err
}

// compile answers what finds the longest match of a pattern, so that whole can tell whether it is all of a name.
func compile(pattern string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("subscription: pattern %q is not a regular expression of RE2: %w", pattern, err)
	}
	re.Longest()
	return re, nil
}

// whole says whether all of a name matches. Writing anchors around the pattern would not do: "a)|(?:b" closes their bracket.
func whole(re *regexp.Regexp, name string) bool {
	at := re.FindStringIndex(name)
	return at != nil && at[0] == 0 && at[1] == len(name)
}

// A result is a byte that is none of metadata's results, then reason (1), generation, and per refusal the index and its reason (1).
const resultGroups = 64

// EncodeResult writes a result, so that a proposer at another agent can be told.
func EncodeResult(r Result) []byte {
	b := wire.AppendInt([]byte{resultGroups, byte(r.Reason)}, r.Generation)
	b = wire.AppendInt(b, len(r.Refused))
	for _, x := range r.Refused {
		b = append(wire.AppendInt(b, x.Index), byte(x.Reason))
	}
	return b
}

// IsResult says whether the bytes are to be a result of this package.
func IsResult(b []byte) bool { return len(b) > 0 && b[0] == resultGroups }

// DecodeResult reads what EncodeResult wrote. Any other bytes are an error.
func DecodeResult(b []byte) (Result, error) {
	r := reader{wire.Reader{B: b}}
	if tag := r.Byte("type"); tag != resultGroups {
		r.Fail("type %d: not a group's", tag)
	}
	out := Result{Reason: Reason(r.Byte("reason")), Generation: int64(r.Bounded("generation", generationMax))}
	for range r.Count("refusals", 2) {
		out.Refused = append(out.Refused, Refusal{Index: int(r.Bounded("index", math.MaxInt32)), Reason: Reason(r.Byte("reason"))})
	}
	if err := r.End(); err != nil {
		return Result{}, fmt.Errorf("decode result: %w", err)
	}
	return out, nil
}
