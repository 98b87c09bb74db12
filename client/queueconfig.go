package client

import (
	"errors"
	"fmt"
	"time"
)

// QueueConfig is the settings of a Queue. Zero values are the defaults named here. Consumers of one queue should have the same: of LockTime each
// record has that of whoever pulled it, of the other settings that go to the agents the newest Pull counts.
type QueueConfig struct {
	// Group and Topic name the queue. Both are required; Group has 1 to 255 bytes.
	Group string
	Topic string
	// Start is where the queue begins in a partition of which it had no records before; default Earliest.
	Start Start
	// LockTime is how long a record is this consumer's; default 30 s, 1 s to 12 h. Run extends the locks of what it has.
	LockTime time.Duration
	// MaxDeliveries is how often a record is handed out before it is a dead letter; default 5, 1 to 1,000.
	MaxDeliveries int
	// DeadLetterTopic is where dead letters go; default Topic with "-dlq" behind it. It is made when it is needed.
	DeadLetterTopic string
	// MaxRecords bounds one Pull, and what Run has pulled and not begun: with handlers that take long a small number leaves the others something to do.
	// Default 100, 1 to 2,000.
	MaxRecords int
	// MaxBytes bounds one Pull, as stored, except that its first batch comes whole; default 1 MiB, 1 KiB to 64 MiB. What Run has not begun is at most twice
	// as much.
	MaxBytes int
	// MaxWait is how long a Pull waits for the first record; default 10 s, 1 ms to 30 s.
	MaxWait time.Duration
	// Handlers is how many records Run works on together; default 1, at most 1,000.
	Handlers int
	// ReleaseDelay is what a record on which the handler of Run failed waits before it comes again; default 0, at most 12 h.
	ReleaseDelay time.Duration
}

func (c QueueConfig) withDefaults() QueueConfig {
	setDefault(&c.Start, Earliest())
	setDefault(&c.LockTime, 30*time.Second)
	setDefault(&c.MaxDeliveries, 5)
	setDefault(&c.DeadLetterTopic, c.Topic+"-dlq")
	setDefault(&c.MaxRecords, 100)
	setDefault(&c.MaxBytes, 1<<20)
	setDefault(&c.MaxWait, 10*time.Second)
	setDefault(&c.Handlers, 1)
	return c
}

// Validate reports every problem of the configuration; zero values stand for their defaults.
func (c QueueConfig) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.Topic == "" {
		errs = append(errs, errors.New("Topic: is empty"))
	}
	if c.Topic != "" && c.DeadLetterTopic == c.Topic {
		errs = append(errs, fmt.Errorf("DeadLetterTopic %q: is the Topic itself", c.DeadLetterTopic))
	}
	return errors.Join(append(errs,
		within("bytes of Group", len(c.Group), 1, 255),
		within("LockTime", c.LockTime, time.Second, lockTimeMax),
		within("MaxDeliveries", c.MaxDeliveries, 1, 1000),
		within("MaxRecords", c.MaxRecords, 1, 2000),
		within("MaxBytes", c.MaxBytes, 1<<10, 64<<20),
		within("MaxWait", c.MaxWait, time.Millisecond, 30*time.Second),
		within("Handlers", c.Handlers, 1, 1000),
		within("ReleaseDelay", c.ReleaseDelay, 0, lockTimeMax),
	)...)
}

// lockTimeMax bounds a lock and a delay.
const lockTimeMax = 12 * time.Hour
