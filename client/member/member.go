// Package member is the member's side of GroupService.Heartbeat, by which a consumer has its share of a group's partitions. It is a pure core: no
// clock, no I/O, no goroutine.
//
// What must hold: a place that is to go to another member is stopped, and its position committed, before a heartbeat says that it is not worked on any
// more; until then heartbeats carry the old generation, and what is committed does, too. Only then the new generation is the member's own, what is
// new begins, and the next heartbeat says so. Whoever has heard nothing for a session works on nothing. Every answer is to the newest heartbeat.
package member

import (
	"slices"
	"time"
)

// Config is what a member is. All fields are set.
type Config struct {
	Session time.Duration // asked for; without any answer for so long everything counts as lost
	PollMax time.Duration // a consumer that does not come for records for so long counts as gone
	Static  bool          // it has an instance id: a later life takes over where it was, so it does not say that it leaves
}

const (
	// waitShare of a session is what a heartbeat waits for news. The contract allows a third; a quarter and graceShare leave time for two more attempts
	// elsewhere before the session is over.
	waitShare = 4
	// graceShare of a session is how long the answer may take beyond that.
	graceShare = 6
	// waitMax is the longest wait that the contract allows.
	waitMax = 30 * time.Second
)

type phase uint8

const (
	idle      phase = iota // before Begin
	joined                 // or joining: heartbeats go on
	departing              // says that it leaves, works on nothing
	away                   // has left, and joins anew when the consumer comes for records
	ended
)

// Core is one member in all its lives.
type Core struct {
	cfg   Config
	phase phase

	life       int
	generation int64   // adopted
	owned      []Place // what is worked on, being stopped included; sorted
	stops      []Stop  // told and not yet reported
	stopped    int     // the number of the newest Stop
	next       *Answered
	closing    bool // Leave was said
	rejoin     bool // when departed

	session   time.Duration // as answered
	request   int           // the number of the newest Send
	underway  bool          // it is
	sent      time.Duration // when it was sent
	wait      time.Duration // what it waits for news
	sendAt    time.Duration // when the next is due, with none under way
	failing   bool          // the one before was not answered
	elsewhere bool          // the next is to go to another agent
	heard     time.Duration // when the newest one that was answered was sent: the session is at least as young

	polling bool          // the consumer waits for records
	polled  time.Duration // when it last went away

	now     time.Duration // of the Step under way
	effects []Effect      // of the Step under way
}

// New is a member that has not begun.
func New(cfg Config) *Core { return &Core{cfg: cfg, session: cfg.Session} }

// Committing answers what commits carry: whose they are and the generation that was adopted. It stays the old one while places are being stopped.
func (c *Core) Committing() (life int, generation int64) { return c.life, c.generation }

// Step takes an event at a time that never goes back, and answers what is to be done.
func (c *Core) Step(now time.Duration, e Event) []Effect {
	if c.phase == ended {
		return nil
	}
	c.now, c.effects = now, nil
	c.expire()
	switch e := e.(type) {
	case Begin:
		if c.phase == idle {
			c.join()
		}
	case Answered:
		if c.current(e.Request) {
			c.answered(e)
		}
	case Failed:
		if c.current(e.Request) {
			c.failed(e)
		}
	case Stopped:
		c.reported(e.Stop)
	case Polling:
		c.polling = true
		c.came()
	case Polled:
		c.polling = false
		c.came()
	case Leave:
		c.close()
	}
	c.send()
	if at, ok := c.wake(); ok {
		c.effects = append(c.effects, NextWake{at})
	}
	return c.effects
}

// current takes the end of the heartbeat under way, if this is the one.
func (c *Core) current(request int) bool {
	is := c.underway && request == c.request
	if is {
		c.underway = false
	}
	return is
}

// expire looks at what time has ended, before anything else: what comes late by that is late.
func (c *Core) expire() {
	if c.phase != joined && c.phase != departing {
		return
	}
	if c.silent() && (len(c.owned) > 0 || c.phase == departing) {
		c.lose()
		c.sendNow()
		c.failing, c.elsewhere = true, true
		if c.phase == departing || c.closing {
			c.departed()
		}
	}
	if c.phase == joined && c.slow() {
		c.lose()
		c.depart()
	}
	if c.underway && c.now >= c.sent+c.patience() {
		c.sendNow()
		c.failing, c.elsewhere = true, true
	}
}

func (c *Core) silent() bool            { return c.now >= c.heard+c.session }
func (c *Core) slow() bool              { return !c.polling && !c.closing && c.now >= c.polled+c.cfg.PollMax }
func (c *Core) patience() time.Duration { return c.wait + c.session/graceShare }
func (c *Core) usual() time.Duration    { return min(c.session/waitShare, waitMax) }

// sendNow gives up the heartbeat under way for another.
func (c *Core) sendNow() { c.underway, c.sendAt = false, c.now }

// join begins a life.
func (c *Core) join() {
	c.phase = joined
	c.life++
	c.generation, c.next, c.rejoin = 0, nil, false
	c.session = c.cfg.Session
	c.heard, c.polled = c.now, c.now
	c.sendNow()
}

// lose drops all that is worked on: others may have it by now.
func (c *Core) lose() {
	if len(c.owned) > 0 {
		c.stopped++
		c.effects = append(c.effects, Stop{Stop: c.stopped, Places: c.owned, Lost: true})
	}
	c.owned, c.stops, c.next = nil, nil, nil
}

func (c *Core) answered(a Answered) {
	if c.phase == departing {
		c.departed()
		return
	}
	pace := max(c.now, c.sent+c.wait/2) // for whoever does not wait as it was asked to
	if a.Generation < c.generation || c.next != nil && a.Generation < c.next.Generation {
		c.sendAt = max(pace, c.sent+c.usual()/2) // of an agent that is behind: it says nothing
		return
	}
	c.failing, c.heard = false, c.sent
	if a.Session > 0 {
		c.session = a.Session
	}
	if c.closing {
		c.sendAt = c.sent + c.usual()
		return
	}
	c.next = &a
	if gone := without(c.owned, a.Assigned, c.stopping()); len(gone) > 0 {
		c.stop(gone)
	}
	if len(c.stops) > 0 { // an agent answers at once whoever has another generation than its own
		c.sendAt = c.sent + c.usual()
		return
	}
	if c.sendAt = pace; c.adopt() {
		c.sendAt = c.now
	}
}

func (c *Core) stop(places []Place) {
	c.stopped++
	s := Stop{Stop: c.stopped, Places: places}
	c.stops = append(c.stops, s)
	c.effects = append(c.effects, s)
}

func (c *Core) stopping() []Place {
	var all []Place
	for _, s := range c.stops {
		all = append(all, s.Places...)
	}
	return all
}

// adopt makes the newest answer the member's own, when all that it takes away is stopped, and answers whether that is news for the group.
func (c *Core) adopt() (news bool) {
	fresh := without(c.next.Assigned, c.owned)
	news = len(fresh) > 0 || c.generation != c.next.Generation
	c.generation = c.next.Generation
	c.owned = append(slices.Clip(c.owned), fresh...)
	slices.SortFunc(c.owned, Place.Compare)
	c.next = nil
	if len(fresh) > 0 {
		slices.SortFunc(fresh, Place.Compare)
		c.effects = append(c.effects, Start{fresh})
	}
	return news
}

// reported takes the end of a Stop.
func (c *Core) reported(number int) {
	i := slices.IndexFunc(c.stops, func(s Stop) bool { return s.Stop == number })
	if i < 0 {
		return // void
	}
	c.owned = without(c.owned, c.stops[i].Places)
	c.stops = slices.Delete(c.stops, i, i+1)
	switch {
	case len(c.stops) > 0:
	case c.closing:
		c.depart()
	default:
		c.adopt()
		c.sendNow()
	}
}

func (c *Core) failed(f Failed) {
	if c.phase == departing && f.Kind != Retry {
		c.departed()
		return
	}
	c.failing = f.Kind == Retry
	c.sendAt = c.now + f.After
	switch f.Kind {
	case UnknownMember:
		c.lose()
		if c.closing {
			c.end(nil)
			return
		}
		at := c.sendAt
		polled := c.polled
		c.join()
		c.sendAt, c.polled = at, polled
	case Fenced, Fatal:
		c.lose()
		c.end(f.Err)
	}
}

// came takes note that the consumer lives.
func (c *Core) came() {
	c.polled = c.now
	switch c.phase {
	case away:
		c.join()
	case departing:
		c.rejoin = true
	}
}

// close stops everything, then leaves.
func (c *Core) close() {
	if c.closing {
		return
	}
	c.closing = true
	switch c.phase {
	case idle, away:
		c.end(nil)
	case joined:
		if rest := without(c.owned, c.stopping()); len(rest) > 0 {
			c.stop(rest)
		}
		c.next = nil
		if len(c.stops) == 0 {
			c.depart()
		}
	}
}

// depart tells the group that the member leaves.
func (c *Core) depart() {
	if c.cfg.Static {
		c.departed()
		return
	}
	c.phase = departing
	c.sendNow()
}

// departed goes on where the group has been told, or does not answer.
func (c *Core) departed() {
	c.underway = false
	switch {
	case c.closing:
		c.end(nil)
	case c.rejoin:
		c.join()
	default:
		c.phase = away
	}
}

func (c *Core) end(err error) {
	c.phase = ended
	c.effects = append(c.effects, End{err})
}

// send sends the heartbeat that is due.
func (c *Core) send() {
	if c.phase != joined && c.phase != departing || c.underway || c.now < c.sendAt {
		return
	}
	c.wait = c.usual()
	if c.failing || c.phase == departing || len(c.stops) > 0 { // what is wanted is an answer, not news
		c.wait = 0
	}
	c.request++
	c.underway, c.sent = true, c.now
	c.effects = append(c.effects, Send{
		Request: c.request, Life: c.life, Generation: c.generation, Owned: slices.Clone(c.owned), Wait: c.wait,
		Leave: c.phase == departing, Elsewhere: c.elsewhere,
	})
	c.elsewhere = false
}

// wake answers when time ends something next.
func (c *Core) wake() (at time.Duration, ok bool) {
	if c.phase != joined && c.phase != departing {
		return 0, false
	}
	at = c.sendAt
	if c.underway {
		at = c.sent + c.patience()
	}
	if len(c.owned) > 0 || c.phase == departing {
		at = min(at, c.heard+c.session)
	}
	if c.phase == joined && !c.polling && !c.closing {
		at = min(at, c.polled+c.cfg.PollMax)
	}
	return at, true
}

// without answers the places that are in none of the other lists.
func without(places []Place, others ...[]Place) []Place {
	in := map[Place]bool{}
	for _, other := range others {
		for _, p := range other {
			in[p] = true
		}
	}
	var rest []Place
	for _, p := range places {
		if !in[p] {
			rest = append(rest, p)
		}
	}
	return rest
}
