package client

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// OutOfRange says what a consumer does when its position is outside the log: trimmed away, or behind the end.
type OutOfRange uint8

// The choices for a position outside the log.
const (
	OutOfRangeError    OutOfRange = iota // Poll fails with ErrOutOfRange until Seek: nothing is skipped unnoticed
	OutOfRangeEarliest                   // go on at the first record still kept
	OutOfRangeLatest                     // go on behind the last record
)

// Assignment is one partition to be read.
type Assignment struct {
	Topic     string
	Partition Partition
	Start     Start // zero: ConsumerConfig.Start
}

// ConsumerConfig is the settings of a Consumer. Zero values are the defaults named here.
type ConsumerConfig struct {
	// Topics are read whole: partitions added later are found and read from their beginning. With Group they are subscriptions: the group shares
	// the partitions among its members.
	Topics []string
	// Partitions are read beside them. Not with Group.
	Partitions []Assignment
	// Start is where reading begins; default Earliest. With Group only in partitions without a committed position.
	Start Start
	// OutOfRange is what happens to a position outside the log; default OutOfRangeError.
	OutOfRange OutOfRange
	// PrefetchBytes bounds what is fetched and not yet polled, as stored (compressed); default 64 MiB, 1 MiB to 16 GiB.
	PrefetchBytes int
	// FetchBytes bounds one fetch, except that its first batch comes whole; default 8 MiB, 4 KiB to 64 MiB, at most a third of PrefetchBytes.
	FetchBytes int
	// Fetches is how many fetches of partitions with more to read run together, beside one that waits for news of the others;
	// default 4, 1 to 64.
	Fetches int
	// FetchWait is how long that one waits; default 10 s, 10 ms to 30 s.
	FetchWait time.Duration
	// MetadataAge is how often Topics are looked at for new partitions; default 30 s, 100 ms to 1 h. With Group the group sees to that.
	MetadataAge time.Duration

	// Group is the consumer group to be a member of; default none. 1 to 255 bytes. All below is for members of a group.
	Group string
	// Instance makes this a static member: the same text in each of its lives, of no other member, at most 255 bytes. A restart within SessionTimeout
	// moves no partitions; a second consumer with the same Instance takes the first one's place, which gets ErrFencedInstance. Default none.
	Instance string
	// Pattern is an RE2 expression; topics whose whole name matches are read beside Topics. At most 1 KiB.
	Pattern string
	// SessionTimeout is how long the group waits for a sign of life, given in the background, before others get the partitions; default 10 s, 1 s to 30 min.
	SessionTimeout time.Duration
	// MaxPollInterval is how long the work on what one Poll handed out, or on one record of Run, may take. A consumer that takes longer leaves
	// the group, loses its partitions, and joins anew with its next Poll; default 5 min, 1 s to 1 h.
	MaxPollInterval time.Duration
	// Commit says when positions are committed; default CommitAfter.
	Commit Commit
	// CommitInterval is how often CommitAfter commits, beside when a partition goes away and on Close; default 5 s, 10 ms to 1 h.
	CommitInterval time.Duration
	// Retry, when set, is what Run does with a record on which its handler fails: it is tried again, and becomes a dead letter behind the last attempt, or at
	// once if the error is one of Rejected; only then it counts as processed, and Run goes on. MaxPollInterval is the time of one attempt. Not with
	// CommitBefore. Default nil: the error ends Run.
	Retry *RetryPolicy
	// OnAssigned is called with partitions that are this member's from now on, before they are read: Seek may move them.
	//
	// The three callbacks run one at a time, in the order of what they tell, within Poll, Run or Close: not while a handler of Run works, and between two
	// Polls only when another goroutine calls Close. All methods but Poll, Run and Close may be called from them. Their contexts end after 10 s, and OnRevoked's when its
	// partitions are lost; no partition waits for another one's callback to be committed.
	OnAssigned func(ctx context.Context, partitions []TopicPartitions)
	// OnRevoked is called with partitions that go to another member, or on Close. They are still this member's: CommitOffsets and Commit work. With CommitAfter
	// they are committed when it returns.
	OnRevoked func(ctx context.Context, partitions []TopicPartitions)
	// OnLost is called with partitions that others may have got already: the session or MaxPollInterval is over. Nothing can be committed.
	OnLost func(ctx context.Context, partitions []TopicPartitions)
}

// Commit says when a consumer commits the positions that its group goes on from.
type Commit uint8

// The choices of when to commit.
const (
	// CommitAfter commits what is processed, on its own: at least once. After a crash the records since the last commit come again.
	CommitAfter Commit = iota
	// CommitBefore commits what is handed out, before it is: at most once. After a crash the records in hand do not come again.
	CommitBefore
	// CommitManual leaves it to the methods Commit and CommitOffsets.
	CommitManual
)

func (c ConsumerConfig) withDefaults() ConsumerConfig {
	setDefault(&c.Start, Earliest())
	setDefault(&c.PrefetchBytes, 64<<20)
	setDefault(&c.FetchBytes, min(8<<20, c.PrefetchBytes/3))
	setDefault(&c.Fetches, 4)
	setDefault(&c.FetchWait, 10*time.Second)
	setDefault(&c.MetadataAge, 30*time.Second)
	setDefault(&c.SessionTimeout, 10*time.Second)
	setDefault(&c.MaxPollInterval, 5*time.Minute)
	setDefault(&c.CommitInterval, 5*time.Second)
	if c.Retry != nil {
		c.Retry = new(c.Retry.withDefaults())
	}
	return c
}

// Validate reports every problem of the configuration; zero values stand for their defaults.
func (c ConsumerConfig) Validate() error {
	c = c.withDefaults()
	var errs []error
	switch {
	case c.Group != "":
		errs = append(errs, c.validateGroup()...)
	case len(c.Topics)+len(c.Partitions) == 0:
		errs = append(errs, errors.New("Topics, Partitions: both are empty"))
	case c.Pattern != "" || c.Instance != "":
		errs = append(errs, errors.New("Pattern, Instance: want a Group with them"))
	}
	if c.Group == "" && c.Retry != nil {
		errs = append(errs, errors.New("Retry: want a Group with it"))
	}
	seen := make(map[place]bool)
	for i, a := range c.Partitions {
		at := place{a.Topic, a.Partition}
		switch {
		case a.Topic == "" || a.Partition < 0:
			errs = append(errs, fmt.Errorf("Partitions[%d] %q/%d: want a topic and a partition from 0", i, a.Topic, a.Partition))
		case seen[at] || slices.Contains(c.Topics, a.Topic):
			errs = append(errs, fmt.Errorf("Partitions[%d] %s/%d: assigned twice", i, a.Topic, a.Partition))
		}
		seen[at] = true
	}
	if c.OutOfRange > OutOfRangeLatest {
		errs = append(errs, fmt.Errorf("OutOfRange %d: want OutOfRangeError, OutOfRangeEarliest or OutOfRangeLatest", c.OutOfRange))
	}
	errs = append(errs,
		within("PrefetchBytes", c.PrefetchBytes, 1<<20, 16<<30),
		within("FetchBytes", c.FetchBytes, 4<<10, min(64<<20, c.PrefetchBytes/3)),
		within("Fetches", c.Fetches, 1, 64),
		within("FetchWait", c.FetchWait, 10*time.Millisecond, 30*time.Second),
		within("MetadataAge", c.MetadataAge, 100*time.Millisecond, time.Hour),
	)
	return errors.Join(errs...)
}

func (c ConsumerConfig) validateGroup() []error {
	var errs []error
	if len(c.Topics) == 0 && c.Pattern == "" {
		errs = append(errs, errors.New("Topics, Pattern: both are empty"))
	}
	if len(c.Partitions) > 0 {
		errs = append(errs, errors.New("Partitions: a group assigns them"))
	}
	if _, err := regexp.Compile(c.Pattern); err != nil {
		errs = append(errs, fmt.Errorf("Pattern: %w", err))
	}
	if c.Commit > CommitManual {
		errs = append(errs, fmt.Errorf("Commit %d: want CommitAfter, CommitBefore or CommitManual", c.Commit))
	}
	if c.Retry != nil {
		errs = append(errs, c.Retry.validate()...)
		if c.Commit == CommitBefore {
			errs = append(errs, errors.New("Retry: a record that CommitBefore has committed is not tried again"))
		}
	}
	return append(errs,
		within("bytes of Group", len(c.Group), 1, 255),
		within("bytes of Instance", len(c.Instance), 0, 255),
		within("bytes of Pattern", len(c.Pattern), 0, 1024),
		within("SessionTimeout", c.SessionTimeout, time.Second, 30*time.Minute),
		within("MaxPollInterval", c.MaxPollInterval, time.Second, time.Hour),
		within("CommitInterval", c.CommitInterval, 10*time.Millisecond, time.Hour),
	)
}
