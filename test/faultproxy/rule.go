package faultproxy

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Rule does an action to the requests that it matches. Of several rules the first that matches wins; the rules behind it do not see, and
// do not count, that request.
type Rule struct {
	Match  Match  `json:"match"`
	Action Action `json:"action"`
}

// Match says which requests are meant. Kind and KeyContains select; of the selected ones, counted from 1 since the rule was set, the other
// fields choose. Fields left out choose all.
type Match struct {
	// Kind is a DynamoDB operation, as PutItem, or put, get, head, list, delete, multi-delete, copy, create-upload, upload-part,
	// complete-upload, abort-upload or, for requests about a bucket itself, bucket.
	Kind string `json:"kind,omitempty"`
	// KeyContains is a part of the object's key, of the prefix of a list, or of "pk/sk" of an item; one item of a batch suffices.
	KeyContains string  `json:"keyContains,omitempty"`
	Nth         int     `json:"nth,omitempty"`         // only this one
	Every       int     `json:"every,omitempty"`       // each so many-th
	Probability float64 `json:"probability,omitempty"` // of each, above 0 to 1
	Count       int     `json:"count,omitempty"`       // not more than so many in all
}

// Do is what happens to a request.
type Do string

// What can happen to a request.
const (
	Pass        Do = ""            // forwarded; with a delay or a bandwidth this is the slow network
	DropBefore  Do = "drop-before" // the connection is cut; the target never sees the request
	DropReply   Do = "drop-reply"  // forwarded, answered, then the connection is cut
	Hold        Do = "hold"        // kept for Release, then the connection is cut
	Twice       Do = "twice"       // forwarded twice; the client gets the second answer
	Status      Do = "status"      // answered with Action.Status and Action.Error
	Blackhole   Do = "blackhole"   // read, never forwarded, never answered
	HTML        Do = "html"        // answered by a login page with status 200, not forwarded
	Truncate    Do = "truncate"    // of the answer's body the first half arrives, then the connection is cut
	FlipBit     Do = "flip-bit"    // one bit of the answer's body is wrong
	Unprocessed Do = "unprocessed" // BatchWriteItem, BatchGetItem: all is answered as unprocessed, not forwarded
)

var dos = []Do{Pass, DropBefore, DropReply, Hold, Twice, Status, Blackhole, HTML, Truncate, FlipBit, Unprocessed}

// Action is what a rule does. Delay and bandwidth go with any of them.
type Action struct {
	Do Do `json:"do,omitempty"`

	Status    int    `json:"status,omitempty"`    // of Status: 100 to 599; 0: the usual one of Error
	Error     string `json:"error,omitempty"`     // of Status: the store's name for it, as SlowDown; empty: the usual one of Status
	Forwarded bool   `json:"forwarded,omitempty"` // of Status: the request lands all the same
	Hang      bool   `json:"hang,omitempty"`      // of Hold: the client is left waiting instead of cut

	DelayMillis    int `json:"delayMillis,omitempty"`    // before anything else happens
	JitterMillis   int `json:"jitterMillis,omitempty"`   // up to so much more delay
	BytesPerSecond int `json:"bytesPerSecond,omitempty"` // of bodies, each way, shared by all requests of the rule
}

func (r Rule) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	m, a := r.Match, r.Action
	if !knownKind(m.Kind) {
		bad("kind %q: want one of %s, or a DynamoDB operation", m.Kind, strings.Join(bucketKinds, ", "))
	}
	if min(m.Nth, m.Every, m.Count, a.DelayMillis, a.JitterMillis, a.BytesPerSecond) < 0 {
		bad("a negative number")
	}
	if !(m.Probability >= 0 && m.Probability <= 1) {
		bad("probability %v: want 0 to 1", m.Probability)
	}
	if !slices.Contains(dos, a.Do) {
		bad("do %q: unknown", a.Do)
	}
	if a.Do == Unprocessed && m.Kind != "BatchWriteItem" && m.Kind != "BatchGetItem" {
		bad("unprocessed: want kind BatchWriteItem or BatchGetItem")
	}
	if a.Do == Status {
		if _, _, err := a.errorOf(true); err != nil {
			bad("%w", err)
		}
	} else if a.Status != 0 || a.Error != "" || a.Forwarded {
		bad("status, error and forwarded go with do %q only", Status)
	}
	if a.Hang && a.Do != Hold {
		bad("hang goes with do %q only", Hold)
	}
	return errors.Join(errs...)
}

// rules decides what happens to each request.
type rules struct {
	seed uint64

	mu   sync.Mutex
	list []*active // guarded by mu, and so is all that is counted and drawn in them
}

// active is a rule with what it has seen.
type active struct {
	Rule
	chance            *rand.Rand // its own, so that a rule's luck does not depend on its neighbours
	selected, applied int
	up, down          pace // when there is a bandwidth
}

// decision is what was decided for one request.
type decision struct {
	Action
	delay    time.Duration
	draw     uint64 // for what is left to chance later
	up, down *pace  // of bodies to and from the target; nil: unlimited
}

// String says what was decided, for the record.
func (d decision) String() string {
	words := []string{cmp.Or(string(d.Do), "pass")}
	if d.Do == Status {
		words = append(words, strings.TrimPrefix(strings.TrimSuffix(fmt.Sprintf("%d %s", d.Status, d.Error), " "), "0 "))
	}
	if d.Forwarded {
		words = append(words, "forwarded")
	}
	if d.delay > 0 {
		words = append(words, "after "+d.delay.Round(time.Millisecond).String())
	}
	if d.BytesPerSecond > 0 {
		words = append(words, fmt.Sprintf("at %d B/s", d.BytesPerSecond))
	}
	return strings.Join(words, " ")
}

// any says whether there are rules at all.
func (r *rules) any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.list) > 0
}

func (r *rules) set(list []Rule) error {
	next := make([]*active, len(list))
	for i, rule := range list {
		if err := rule.validate(); err != nil {
			return fmt.Errorf("set rule %d: %w", i, err)
		}
		next[i] = &active{Rule: rule, chance: rand.New(rand.NewPCG(r.seed, uint64(i)))}
		next[i].up.bytesPerSecond, next[i].down.bytesPerSecond = rule.Action.BytesPerSecond, rule.Action.BytesPerSecond
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = next
	return nil
}

// current answers the rules as they were set.
func (r *rules) current() []Rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Rule, len(r.list))
	for i, a := range r.list {
		list[i] = a.Rule
	}
	return list
}

// decide answers what happens to a request; found is false when no rule is for it.
func (r *rules) decide(kind, key string) (d decision, found bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.list {
		if a.applies(kind, key) {
			return a.decision(), true
		}
	}
	return decision{}, false
}

func (a *active) applies(kind, key string) bool {
	m := a.Match
	if m.Kind != "" && m.Kind != kind || !strings.Contains(key, m.KeyContains) {
		return false
	}
	a.selected++
	if m.Nth != 0 && a.selected != m.Nth || m.Every != 0 && a.selected%m.Every != 0 {
		return false
	}
	if m.Count != 0 && a.applied == m.Count {
		return false
	}
	if m.Probability != 0 && a.chance.Float64() >= m.Probability {
		return false
	}
	a.applied++
	return true
}

func (a *active) decision() decision {
	d := decision{Action: a.Action, delay: time.Duration(a.Action.DelayMillis) * time.Millisecond, draw: a.chance.Uint64()}
	if j := a.Action.JitterMillis; j > 0 {
		d.delay += time.Duration(a.chance.Int64N(int64(j)*int64(time.Millisecond) + 1))
	}
	if a.Action.BytesPerSecond > 0 {
		d.up, d.down = &a.up, &a.down
	}
	return d
}
