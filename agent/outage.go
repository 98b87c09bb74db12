package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

const (
	// outagePatience is how long uploads may fail before the agent is not ready: some retries.
	outagePatience = 5 * time.Second
	// silencePatience is how long an upload may be under way before the agent is not ready: a slow link takes seconds for a full segment.
	silencePatience = 10 * time.Second
	// outageLogEvery is how often a failing upload is logged.
	outageLogEvery = time.Minute
	// causeBytesMax bounds what people are shown of a store's words.
	causeBytesMax = 200
)

// outage is what is known of uploads that fail. The writer's mutex guards it.
type outage struct {
	underway map[uint64]time.Time // when the uploads began that the store has not answered yet, by counter

	since time.Time // when the first failed one began that has no success behind it; zero: none
	cause error     // of the newest one, in short

	failures int       // since the newest line of the log
	logged   time.Time // the newest line about a failure
	told     bool      // there was one in this outage
}

// active says whether the newest put failed.
func (o *outage) active() bool { return !o.since.IsZero() }

// failed takes note of a failed upload. What people read in the log is all that the store says.
func (o *outage) failed(began, now time.Time, key string, err error) {
	if !o.active() {
		o.since = began
	}
	o.cause = shortened(err)
	o.failures++
	if !o.logged.IsZero() && now.Sub(o.logged) < outageLogEvery {
		return
	}
	slog.Warn("put object", "key", key, "failures", o.failures, "since", o.since, "err", err)
	o.failures, o.logged, o.told = 0, now, true
}

// succeeded ends the outage.
func (o *outage) succeeded(now time.Time) {
	if o.told {
		slog.Info("objects can be put again", "after", now.Sub(o.since).Round(time.Millisecond), "failures", o.failures)
		o.failures = 0
	}
	o.since, o.cause, o.told = time.Time{}, nil, false
}

// problem says why segments cannot be stored; nil: they can, or it is not clear yet.
func (o *outage) problem(now time.Time) error {
	for _, began := range o.underway {
		if now.Sub(began) >= silencePatience {
			return fmt.Errorf("segments cannot be stored since %s: no answer yet", began.UTC().Format(time.RFC3339))
		}
	}
	if !o.active() || now.Sub(o.since) < outagePatience {
		return nil
	}
	return fmt.Errorf("segments cannot be stored since %s: %w", o.since.UTC().Format(time.RFC3339), o.cause)
}

// shortened is what the store itself said, without the keys and paths that are wrapped around it.
func shortened(err error) error {
	for inner := unwrapped(err); inner != nil; inner = unwrapped(err) {
		err = inner
	}
	text := err.Error()
	if len(text) > causeBytesMax {
		text = text[:causeBytesMax] + "..."
	}
	return errors.New(strings.ToValidUTF8(text, ""))
}

// unwrapped is the error within err; where there are several, the one that says most: others are kinds, such as "throttled".
func unwrapped(err error) error {
	several, ok := err.(interface{ Unwrap() []error })
	if !ok || len(several.Unwrap()) == 0 {
		return errors.Unwrap(err)
	}
	return slices.MaxFunc(several.Unwrap(), func(a, b error) int { return len(a.Error()) - len(b.Error()) })
}
