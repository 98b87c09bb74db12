package shardlog

import (
	"errors"
	"fmt"
	"time"

	"github.com/splashdam/splashdam/metadata"
)

// A table that does not answer stops nothing here: an attempt is sent until it is decided, by the slot or by the lease item. This
// file says so to people, from the lease time on.

// away says why a leader or claimant gets no decisions from the table; nil: it does.
func (c *Core) away(mono time.Duration) error {
	if c.append != nil {
		if err := c.overdue(&c.append.attempt, mono); err != nil {
			return err
		}
	}
	if c.phase != phaseLeading || mono-c.confirmed < c.cfg.Lease {
		if c.put == nil {
			return nil
		}
		return c.overdue(&c.put.attempt, mono)
	}
	err := errors.New("no answer")
	if c.put != nil && c.put.cause != nil {
		err = c.put.cause
	}
	return fmt.Errorf("shard %d: the lease is not renewed since %s: %w", c.cfg.Shard, c.moment(c.confirmed), err)
}

// overdue says what has been undecided for the lease time, since when and why; nil: it has not.
func (c *Core) overdue(a *attempt, mono time.Duration) error {
	if a.attempts == 0 || mono-a.first < c.cfg.Lease {
		return nil
	}
	what, err := fmt.Sprintf("append of seq %d", a.item.Rev), a.cause
	if a.item.Key == metadata.LeaseKey(c.cfg.Shard) {
		what = "put of the lease item"
	}
	if err == nil {
		err = errors.New("no answer")
	}
	return fmt.Errorf("shard %d: %s: the table has decided nothing since %s: %w", c.cfg.Shard, what, c.moment(a.first), err)
}

// moment is a time of the monotonic clock in words, by the wall clock of the newest step.
func (c *Core) moment(mono time.Duration) string {
	return time.UnixMilli(int64(c.now.Wall) - (c.now.Mono - mono).Milliseconds()).UTC().Format(time.RFC3339)
}
