package client

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

var noon = time.Unix(1_700_000_000, 0)

// desk is a queue with its clock.
type desk struct {
	*sendQueue
	now     time.Time
	results []Result
	spares  spares
}

func newDesk() *desk {
	return &desk{now: noon, sendQueue: &sendQueue{
		topic: "matches", idempotent: true, lingerMax: 5 * time.Millisecond, timeout: time.Minute, batchBytes: 1 << 20,
		delay: func(int, time.Duration) time.Duration { return 0 },
		id:    identity{id: 7, set: true},
	}}
}

// put adds one sealed batch of n records.
func (d *desk) put(n int) {
	for range n {
		d.add(objectlog.Record{}, 100, func(r Result) { d.results = append(d.results, r) }, d.now, &d.spares)
	}
	d.open().sealed = true
}

// sends takes n batches.
func (d *desk) sends(t *testing.T, n int) []*batch {
	t.Helper()
	var out []*batch
	for range n {
		m := d.take(d.now, 5)
		if m.send == nil {
			t.Fatalf("move %+v, want batch %d of %d", m, len(out)+1, n)
		}
		out = append(out, m.send)
	}
	return out
}

func (d *desk) rests(t *testing.T) {
	t.Helper()
	if m := d.take(d.now, 5); m.send != nil || m.identify {
		t.Fatalf("move %+v, want none", m)
	}
}

func (d *desk) gives(b *batch, v verdict, base Offset) {
	a := answer{verdict: v, outcome: outcome{base: base}}
	if v != appended {
		a.err = &Error{Op: "produce", Message: "said so", definite: v != unknown}
	}
	d.answer(b, a, d.now)
	for _, b := range d.pop() {
		b.report()
	}
}

func TestSequencesFollowTheRecordsAndWrap(t *testing.T) {
	d := newDesk()
	d.next = math.MaxInt32 - 1
	d.put(3)
	d.put(2)
	b := d.sends(t, 2)
	if b[0].first != math.MaxInt32-1 || b[1].first != 1 {
		t.Fatalf("sequences %d, %d", b[0].first, b[1].first)
	}
}

func TestLoneRecordDoesNotWaitAndTheNextLingers(t *testing.T) {
	d := newDesk()
	d.add(objectlog.Record{}, 100, nil, d.now, &d.spares)
	d.sends(t, 1)
	d.add(objectlog.Record{}, 100, nil, d.now, &d.spares)
	if m := d.take(d.now, 5); m.send != nil || !m.wake.Equal(d.now.Add(5*time.Millisecond)) {
		t.Fatalf("move %+v, want to wake after linger", m)
	}
	d.now = d.now.Add(5 * time.Millisecond)
	d.sends(t, 1)
}

func TestNothingIsSentAgainWhileLaterBatchesAreInFlight(t *testing.T) {
	d := newDesk()
	for range 3 {
		d.put(1)
	}
	b := d.sends(t, 3)
	d.gives(b[0], unknown, 0)
	d.rests(t)
	d.gives(b[1], gap, 0)
	d.rests(t)
	d.gives(b[2], gap, 0)
	again := d.sends(t, 3)
	for i := range again {
		if again[i] != b[i] || again[i].first != int32(i) {
			t.Fatalf("batch %d was sent as sequence %d", i, again[i].first)
		}
	}
}

func TestNoMoreThanFiveBatchesBehindAnUndecidedOne(t *testing.T) {
	d := newDesk()
	for range 7 {
		d.put(1)
	}
	b := d.sends(t, 5)
	d.gives(b[0], unknown, 0)
	for i := 1; i < 5; i++ {
		d.gives(b[i], appended, Offset(i))
	}
	d.sends(t, 1) // the first again
	d.rests(t)    // a sixth would make the log forget the first
	d.gives(b[0], appended, 0)
	d.sends(t, 2)
	if len(d.results) != 5 {
		t.Fatalf("%d results", len(d.results))
	}
}

func TestDefiniteRefusalGivesThoseBehindANewIdentityOnceNoneIsInFlight(t *testing.T) {
	d := newDesk()
	for range 3 {
		d.put(2)
	}
	b := d.sends(t, 3)
	d.gives(b[0], refused, 0)
	d.rests(t)
	d.gives(b[1], gap, 0)
	d.rests(t)
	d.gives(b[2], unknown, 0) // behind the hole it can't have been appended
	if m := d.take(d.now, 5); !m.identify {
		t.Fatalf("move %+v, want a new identity", m)
	}
	d.identify(identity{id: 7, epoch: 1, set: true})
	again := d.sends(t, 2)
	if again[0] != b[1] || again[0].id.epoch != 1 || again[0].first != 0 || again[1].first != 2 {
		t.Fatalf("sent %+v and %+v", again[0], again[1])
	}
	d.gives(again[0], appended, 0)
	d.gives(again[1], appended, 2)
	if d.results[0].Err == nil || errors.Is(d.results[0].Err, ErrUnknownOutcome) || d.results[5].Offset != 3 {
		t.Fatalf("results %+v", d.results)
	}
}

func TestUnknownOutcomeIsNeverNumberedAnew(t *testing.T) {
	d := newDesk()
	d.put(1)
	d.put(1)
	b := d.sends(t, 2)
	d.gives(b[0], unknown, 0)
	d.gives(b[1], unknown, 0)
	d.sends(t, 2)
	d.gives(b[0], gap, 0) // the log has lost track: nothing can tell any more
	d.gives(b[1], gap, 0)
	for i, r := range d.results {
		if !errors.Is(r.Err, ErrUnknownOutcome) {
			t.Errorf("result %d: %v", i, r.Err)
		}
	}
	if len(d.results) != 2 {
		t.Fatalf("%d results", len(d.results))
	}
	d.put(1)
	if m := d.take(d.now, 5); !m.identify {
		t.Fatalf("move %+v, want a new identity", m)
	}
}

func TestDefiniteRefusalAfterAnUnknownAttemptIsUnknown(t *testing.T) {
	d := newDesk()
	d.put(1)
	b := d.sends(t, 1)
	d.gives(b[0], unknown, 0)
	d.sends(t, 1)
	d.gives(b[0], refused, 0)
	if err := d.results[0].Err; !errors.Is(err, ErrUnknownOutcome) {
		t.Fatalf("got %v", err)
	}
}

func TestBatchThatMayBeInTheLogIsNotSplit(t *testing.T) {
	d := newDesk()
	d.put(2)
	b := d.sends(t, 1)
	d.gives(b[0], unknown, 0)
	d.sends(t, 1)
	d.gives(b[0], tooLarge, 0)
	if len(d.results) != 2 || !errors.Is(d.results[0].Err, ErrUnknownOutcome) || !errors.Is(d.results[1].Err, ErrUnknownOutcome) {
		t.Fatalf("results %+v", d.results)
	}
}

func TestNewIdentityWaitsForWhatIsInFlightUnderTheOldOne(t *testing.T) {
	d := newDesk()
	d.put(1)
	d.put(1)
	b := d.sends(t, 2)
	d.gives(b[0], refused, 0)
	d.put(1)
	d.rests(t)
	d.gives(b[1], gap, 0)
	if m := d.take(d.now, 5); !m.identify {
		t.Fatalf("move %+v, want a new identity", m)
	}
}

func TestUnknownAttemptBehindASequenceThatNeverArrivedIsNumberedAnew(t *testing.T) {
	d := newDesk()
	d.put(1)
	d.put(1)
	b := d.sends(t, 2)
	d.gives(b[0], busy, 0)
	d.gives(b[1], unknown, 0)
	d.sends(t, 2)
	d.gives(b[0], gap, 0)
	d.gives(b[1], gap, 0)
	if m := d.take(d.now, 5); !m.identify {
		t.Fatalf("move %+v, want a new identity", m)
	}
	d.identify(identity{id: 7, epoch: 1, set: true})
	again := d.sends(t, 2)
	if again[0] != b[0] || again[0].first != 0 || again[1].first != 1 || again[1].id.epoch != 1 {
		t.Fatalf("sent %+v and %+v", again[0], again[1])
	}
}

func TestExpiryOfAnUnsentBatchIsDefiniteAndOfAnUndecidedOneUnknown(t *testing.T) {
	d := newDesk()
	d.put(1)
	b := d.sends(t, 1)
	d.put(1)
	d.gives(b[0], unknown, 0)
	d.now = d.now.Add(time.Minute)
	d.rests(t)
	for _, b := range d.pop() {
		b.report()
	}
	if !errors.Is(d.results[0].Err, ErrUnknownOutcome) || errors.Is(d.results[1].Err, ErrUnknownOutcome) || d.results[1].Err == nil {
		t.Fatalf("results %+v", d.results)
	}
}

func TestSplitKeepsTheSequencesOfWhatIsBehind(t *testing.T) {
	d := newDesk()
	d.put(5)
	d.put(1)
	b := d.sends(t, 2)
	d.gives(b[0], tooLarge, 0)
	d.gives(b[1], gap, 0)
	again := d.sends(t, 3)
	for i, want := range []int32{0, 2, 5} {
		if again[i].first != want {
			t.Errorf("batch %d has sequence %d, want %d", i, again[i].first, want)
		}
	}
}

func TestOnlyAnAgentsWordIsDefinite(t *testing.T) {
	for _, test := range []struct {
		code   string
		reason string
		kafka  int32
		want   verdict
	}{
		{"invalid_argument", "INVALID_RECORD", 87, refused}, {"invalid_argument", "MESSAGE_TOO_LARGE", 10, tooLarge},
		{"not_found", "UNKNOWN_TOPIC_OR_PARTITION", 3, refused}, {"unavailable", "NOT_LEADER", 6, busy},
		{"resource_exhausted", "THROTTLING_QUOTA_EXCEEDED", 89, busy}, {"deadline_exceeded", "REQUEST_TIMED_OUT", 7, unknown},
		{"failed_precondition", "OUT_OF_ORDER_SEQUENCE_NUMBER", 45, gap}, {"failed_precondition", "UNKNOWN_PRODUCER_ID", 59, gap},
		{"failed_precondition", "PRODUCER_FENCED", 90, refused}, {"failed_precondition", "DUPLICATE_SEQUENCE_NUMBER", 46, appended},
		{"internal", "", -1, unknown}, {"unknown", "", -1, unknown}, {"canceled", "", -1, unknown}, {"", "", 0, unknown},
		{"unavailable", "REQUEST_TIMED_OUT", 7, unknown},
	} {
		d := detailOf(test.code, test.reason, test.kafka)
		if got := judgeError(errorOfDetail("produce", d)).verdict; got != test.want {
			t.Errorf("%s %s: verdict %d, want %d", test.code, test.reason, got, test.want)
		}
	}
	p := &Producer{}
	s := sentBatch{q: &sendQueue{topic: "matches"}}
	if got := p.judgeCall(s, errors.New("connection reset")).verdict; got != unknown {
		t.Errorf("a broken connection: verdict %d, want unknown", got)
	}
}

func detailOf(code, reason string, kafka int32) *splashdamv1.ErrorDetail {
	return &splashdamv1.ErrorDetail{
		Code: code, Reason: reason, KafkaCode: kafka, Retriable: code == "unavailable" || code == "resource_exhausted",
	}
}
