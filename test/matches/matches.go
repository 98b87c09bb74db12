// Package matches makes a feed of football events as a data provider sends it: several matches at once, quiet play and
// bursts around goals. The same seed gives the same bytes.
package matches

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// Event is one event of the feed.
type Event struct {
	Match string        // key: the fixture, such as "bra-arg"
	At    time.Duration // arrival, since the first kick-off; never falls
	Line  []byte        // JSON object of 120 to 600 bytes, no newline; valid until the next call of Next
}

// Feed generates events without end: when a match is over, the fixture is played again after a pause.
type Feed struct {
	rand    *rand.Rand
	matches []match
	id      uint64
	line    []byte
}

// FixturesMax is how many matches can be on at once.
const FixturesMax = len(fixtures)

// New starts a feed of the given number of simultaneous matches, 1 to FixturesMax.
func New(seed uint64, simultaneous int) *Feed {
	f := &Feed{rand: rand.New(rand.NewPCG(seed, 0x5f1a5))}
	for i := range simultaneous {
		f.matches = append(f.matches, match{key: fixtures[i], kickOff: time.Duration(f.rand.Int64N(int64(20 * time.Second)))})
		f.matches[i].next = f.matches[i].kickOff
	}
	return f
}

// match is one fixture in play.
type match struct {
	key     string
	round   int // how often the fixture was played before
	kickOff time.Duration
	next    time.Duration // arrival of the next event
	score   [2]int
	attack  int    // the team in possession, 0 or 1
	x, y    int    // position of the ball, tenths of a percent of the pitch
	burst   int    // events still to come at once
	topic   string // what the burst is about
}

const (
	matchLength = 95 * time.Minute
	pause       = 15 * time.Minute
)

// Next is the next event of all matches by time of arrival.
func (f *Feed) Next() Event {
	m := &f.matches[0]
	for i := range f.matches {
		if f.matches[i].next < m.next {
			m = &f.matches[i]
		}
	}
	at := m.next
	if at-m.kickOff >= matchLength {
		*m = match{key: m.key, round: m.round + 1, kickOff: at + pause, attack: m.round & 1}
		m.next = m.kickOff
		return f.Next()
	}
	f.id++
	f.line = f.append(f.line[:0], m, at)
	m.next = at + f.gap(m)
	return Event{Match: m.key, At: at, Line: f.line}
}

// gap is the time to the match's next event: milliseconds inside a burst, about two seconds in open play.
func (f *Feed) gap(m *match) time.Duration {
	if m.burst > 0 {
		m.burst--
		return time.Duration(f.rand.Int64N(int64(12 * time.Millisecond)))
	}
	m.topic = ""
	return time.Duration(f.rand.ExpFloat64() * float64(1900*time.Millisecond))
}

// kind draws what happens: mostly passes, now and then a shot, a goal once in a while.
func (f *Feed) kind(m *match) string {
	if m.topic != "" {
		return details[f.rand.IntN(len(details))]
	}
	switch n := f.rand.IntN(1000); {
	case n < 2:
		m.score[m.attack]++
		m.burst, m.topic = 6+f.rand.IntN(10), "goal"
		return "goal"
	case n < 5:
		m.burst, m.topic = 3+f.rand.IntN(4), "card"
		return "card"
	case n < 25:
		m.burst, m.topic = f.rand.IntN(4), "shot"
		return "shot"
	case n < 60:
		return "tackle"
	case n < 90:
		return "throw_in"
	case n < 100:
		return "corner"
	default:
		return "pass"
	}
}

func (f *Feed) append(b []byte, m *match, at time.Duration) []byte {
	kind := f.kind(m)
	if f.rand.IntN(6) == 0 {
		m.attack = 1 - m.attack
	}
	team := m.key[4*m.attack : 4*m.attack+3]
	m.x, m.y = (m.x+f.rand.IntN(300))%1001, (m.y+f.rand.IntN(400))%1001
	clock := at - m.kickOff

	b = append(b, `{"match":"`...)
	b = append(b, m.key...)
	b = append(b, `","id":`...)
	b = strconv.AppendUint(b, f.id, 10)
	b = append(b, `,"arrival":"`...)
	b = epoch.Add(at).AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, `","minute":`...)
	b = strconv.AppendInt(b, int64(clock/time.Minute), 10)
	b = append(b, `,"second":`...)
	b = strconv.AppendInt(b, int64(clock%time.Minute/time.Second), 10)
	b = append(b, `,"type":"`...)
	b = append(b, kind...)
	b = append(b, `","team":"`...)
	b = append(b, team...)
	b = append(b, `","player":"`...)
	b = append(b, f.player(team)...)
	b = appendPlace(append(b, `","at":`...), m.x, m.y)
	b = f.appendDetails(b, m, kind, team)
	return append(b, '}')
}

// appendDetails adds what providers add for some kinds of event: it is what makes lines differ in size.
func (f *Feed) appendDetails(b []byte, m *match, kind, team string) []byte {
	switch kind {
	case "pass":
		b = appendPlace(append(b, `,"to":`...), f.rand.IntN(1001), f.rand.IntN(1001))
		b = append(b, `,"receiver":"`...)
		b = append(b, f.player(team)...)
		b = append(b, `","complete":`...)
		return strconv.AppendBool(b, f.rand.IntN(5) > 0)
	case "goal", "shot":
		b = append(b, `,"assist":"`...)
		b = append(b, f.player(team)...)
		b = append(b, `","body_part":"`...)
		b = append(b, bodyParts[f.rand.IntN(len(bodyParts))]...)
		b = append(b, `","expected_goals":0.`...)
		b = strconv.AppendInt(b, int64(10+f.rand.IntN(90)), 10)
		b = append(b, `,"score":[`...)
		b = strconv.AppendInt(b, int64(m.score[0]), 10)
		b = append(b, ',')
		b = strconv.AppendInt(b, int64(m.score[1]), 10)
		b = append(b, `],"freeze_frame":[`...)
		for i := range 1 + f.rand.IntN(10) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendPlace(b, f.rand.IntN(1001), f.rand.IntN(1001))
		}
		return append(b, ']')
	case "card":
		b = append(b, `,"card":"`...)
		return append(append(b, cards[f.rand.IntN(len(cards))]...), '"')
	}
	if m.topic != "" {
		b = append(b, `,"about":"`...)
		b = append(append(b, m.topic...), '"')
	}
	return b
}

func (f *Feed) player(team string) string {
	squad := squads[team]
	return squad[f.rand.IntN(len(squad))]
}

// appendPlace writes [x,y] in percent of the pitch, one decimal.
func appendPlace(b []byte, x, y int) []byte {
	b = append(b, '[')
	b = append(strconv.AppendInt(b, int64(x/10), 10), '.')
	b = append(strconv.AppendInt(b, int64(x%10), 10), ',')
	b = append(strconv.AppendInt(b, int64(y/10), 10), '.')
	return append(strconv.AppendInt(b, int64(y%10), 10), ']')
}
