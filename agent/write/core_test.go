package write

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// rig steps a core and keeps the effects of the last step apart by kind.
type rig struct {
	t    *testing.T
	core *Core
	now  time.Duration

	uploads   []Upload
	proposals []Propose
	answers   []Answer
	appended  []Appended
	wakes     []time.Duration
	full      bool
	room      bool
}

func newRig(t *testing.T, change func(*Config)) *rig {
	cfg := Config{Shards: 3, BufferBytesMax: 1000, SegmentBytesMax: 100, FlushRate: 4, FlushBurst: 2, Timeout: 30 * time.Second, UploadsMax: 8}
	if change != nil {
		change(&cfg)
	}
	return &rig{t: t, core: NewCore(cfg)}
}

func (r *rig) step(e Event) {
	r.uploads, r.proposals, r.answers, r.appended, r.wakes, r.full, r.room = nil, nil, nil, nil, nil, false, false
	for _, e := range r.core.Step(r.now, e) {
		switch e := e.(type) {
		case Upload:
			r.uploads = append(r.uploads, e)
		case Propose:
			r.proposals = append(r.proposals, e)
		case Answer:
			r.answers = append(r.answers, e)
		case Appended:
			r.appended = append(r.appended, e)
		case Wake:
			r.wakes = append(r.wakes, e.At)
		case Full:
			r.full = true
		case Room:
			r.room = true
		default:
			r.t.Fatalf("unknown effect %T", e)
		}
	}
}

// batchOf is a batch of one record for partition 0 of the shard's own topic.
func batchOf(shard objectlog.Shard, bytes int64) *Batch {
	return &Batch{Shard: shard, Topic: objectlog.UUID{byte(shard + 1)}, Records: []objectlog.Record{{Value: []byte("v"), Timestamp: 1}},
		BytesMax: 1 << 20, Stamp: objectlog.NoTimestamp, Bytes: bytes}
}

func (r *rig) submit(batches ...*Batch) { r.step(Submit{Batches: batches}) }

// upload answers the one upload that the last step asked for.
func (r *rig) upload() Upload {
	r.t.Helper()
	if len(r.uploads) != 1 {
		r.t.Fatalf("%d uploads, want 1", len(r.uploads))
	}
	return r.uploads[0]
}

// stored tells that the upload succeeded.
func (r *rig) stored(u Upload) {
	e := u.Encoded
	if e == nil {
		e = Encode(u.Batches)
	}
	r.step(Uploaded{Counter: u.Counter, Encoded: e})
}

// proposed answers the counters of the one proposal that the last step asked for.
func (r *rig) proposed(shard objectlog.Shard) []uint64 {
	r.t.Helper()
	if len(r.proposals) != 1 || r.proposals[0].Shard != shard {
		r.t.Fatalf("proposals %+v, want one to shard %d", r.proposals, shard)
	}
	var counters []uint64
	for _, c := range r.proposals[0].Commits {
		counters = append(counters, c.Counter)
	}
	return counters
}

// accepted decides a proposal: every commit has one batch, at base offsets from base on.
func (r *rig) accepted(shard objectlog.Shard, commits int, base objectlog.Offset) {
	var results []any
	for i := range commits {
		results = append(results, metadata.CommitResult{Batches: []metadata.BatchResult{{Base: base + objectlog.Offset(i)}}})
	}
	r.step(Decided{Shard: shard, Results: results})
}

func (r *rig) check(what string, ok bool) {
	r.t.Helper()
	if !ok {
		r.t.Errorf("%s does not hold", what)
	}
}

func TestLoneRecordLeavesAtOnce(t *testing.T) {
	r := newRig(t, nil)
	r.submit(batchOf(0, 10))
	if u := r.upload(); u.Counter != 1 || len(u.Batches) != 1 {
		t.Errorf("upload %+v, want counter 1 with one batch", u)
	}
}

func TestBusyAgentSealsAtTheFlushRate(t *testing.T) {
	r := newRig(t, nil)
	seals := 0
	for ; r.now < 10*time.Second; r.now += 10 * time.Millisecond {
		r.submit(batchOf(0, 1))
		for _, u := range slices.Clone(r.uploads) {
			seals++
			r.stored(u)
			r.accepted(0, 1, 0)
		}
	}
	if seals < 40 || seals > 43 {
		t.Errorf("%d seals in 10 s, want 4 a second and the burst of 2", seals)
	}
}

func TestWaitingForATokenAsksForAWake(t *testing.T) {
	r := newRig(t, func(c *Config) { c.FlushBurst = 1 })
	r.submit(batchOf(0, 1))
	r.submit(batchOf(0, 1))
	r.check("no upload without a token", len(r.uploads) == 0)
	r.now = slices.Min(r.wakes)
	if r.now < 250*time.Millisecond || r.now > 251*time.Millisecond {
		t.Errorf("woken after %v, want 250 ms", r.now)
	}
	r.step(Tick{})
	r.upload()
}

func TestFullSegmentIsSealedWithoutWaiting(t *testing.T) {
	r := newRig(t, func(c *Config) { c.FlushBurst = 1 })
	r.submit(batchOf(0, 1))
	r.submit(batchOf(0, 60))
	r.check("60 of 100 bytes wait", len(r.uploads) == 0)
	r.submit(batchOf(0, 60))
	if n := len(r.upload().Batches); n != 1 {
		t.Errorf("segment of %d batches, want 1: the second would exceed the size", n)
	}
}

func TestFreeFlushSealsWheneverNoUploadIsInFlight(t *testing.T) {
	r := newRig(t, func(c *Config) { c.FlushFreely, c.FlushRate = true, 0 })
	r.submit(batchOf(0, 1))
	first := r.upload()
	r.submit(batchOf(0, 1))
	r.submit(batchOf(0, 1))
	r.check("nothing is sealed beside an upload", len(r.uploads) == 0)
	r.stored(first)
	if n := len(r.upload().Batches); n != 2 {
		t.Errorf("second segment of %d batches, want the 2 that came meanwhile", n)
	}
}

func TestUploadsInFlightAreBounded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.UploadsMax = 2 })
	for range 5 {
		r.submit(batchOf(0, 100))
	}
	if r.core.uploads != 2 || len(r.core.open) != 3 {
		t.Errorf("%d uploads, %d open; want 2 and 3", r.core.uploads, len(r.core.open))
	}
}

func TestUndecidedSegmentsAreBounded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.BufferBytesMax, c.UploadsMax = 1<<20, 1000 })
	for range undecidedMax + 10 {
		r.submit(batchOf(0, 100))
	}
	if n := len(r.core.segments); n != undecidedMax {
		t.Errorf("%d undecided segments, want %d", n, undecidedMax)
	}
}

func TestFullBufferRefusesAndSaysWhenThereIsRoom(t *testing.T) {
	r := newRig(t, nil)
	r.submit(batchOf(0, 900))
	first := r.upload()
	late := batchOf(0, 101)
	r.submit(late)
	r.check("a full buffer refuses", r.full && len(r.core.open) == 0)
	r.stored(first)
	r.check("stored is not room: the records may have to be sent again", !r.room)
	r.accepted(0, 1, 0)
	r.check("decided is room", r.room)
	r.submit(late)
	r.check("what fits is taken", !r.full)
}

func TestRequestLargerThanTheBufferIsRefusedWhateverTheBufferHolds(t *testing.T) {
	r := newRig(t, nil)
	refused := func(when string) {
		t.Helper()
		r.submit(batchOf(0, 600), batchOf(1, 401))
		if len(r.answers) != 2 || r.full || len(r.uploads) != 0 {
			t.Fatalf("%s: %d answers, full %v, %d uploads", when, len(r.answers), r.full, len(r.uploads))
		}
		for _, a := range r.answers {
			if text := a.Err.Error(); !errors.Is(a.Err, objectlog.ErrTooLarge) || !strings.Contains(text, "1001 bytes") || !strings.Contains(text, "1000") {
				t.Errorf("%s: error %q, want both sizes", when, text)
			}
		}
	}
	refused("empty")
	r.check("nothing is held", r.core.used == 0 && r.core.Empty())
	r.submit(batchOf(0, 600), batchOf(1, 400))
	r.check("one that fits exactly is taken", !r.full && len(r.answers) == 0 && len(r.uploads) == 2)
	refused("full")
}

func TestSegmentThatIsGivenUpSaysWhyItIsNotStored(t *testing.T) {
	r := newRig(t, nil)
	r.submit(batchOf(0, 10))
	u := r.upload()
	for _, cause := range []error{errors.New("slow down"), errors.New("no space left")} {
		r.step(Uploaded{Counter: 1, Encoded: Encode(u.Batches), Err: cause})
		r.now += time.Second
		r.step(Tick{})
	}
	r.check("it is still to be stored", r.core.Storing())
	r.now += 30 * time.Second
	r.step(Tick{})
	if len(r.answers) != 1 || !errors.Is(r.answers[0].Err, ErrUnknown) || !strings.Contains(r.answers[0].Err.Error(), "no space left") {
		t.Errorf("answers %+v, want an unknown outcome with the last cause", r.answers)
	}
	r.check("nothing is to be stored", !r.core.Storing())
}

func TestMemoryIsHeldUntilEveryShardDecided(t *testing.T) {
	r := newRig(t, nil)
	r.submit(batchOf(0, 10), batchOf(2, 10))
	r.stored(r.upload())
	r.check("both shards are asked at once", len(r.proposals) == 2)
	r.accepted(0, 1, 0)
	if r.core.used != 20 {
		t.Errorf("%d bytes in use after one of two shards, want 20", r.core.used)
	}
	r.accepted(2, 1, 0)
	r.check("nothing is held", r.core.used == 0 && r.core.Empty())
}

func TestNothingIsAnsweredBeforeTheAppendIsAccepted(t *testing.T) {
	r := newRig(t, nil)
	b := batchOf(1, 10)
	r.submit(b)
	r.check("not on submit", len(r.answers) == 0)
	r.stored(r.upload())
	r.check("not when stored", len(r.answers) == 0)
	r.step(Decided{Shard: 1})
	r.check("not when nothing was decided", len(r.answers) == 0)
	r.now += time.Second
	r.step(Tick{})
	r.accepted(1, 1, 77)
	want := Part{Records: 1, Base: 77, AppendTime: objectlog.NoTimestamp}
	if len(r.answers) != 1 || r.answers[0].Batch != b || r.answers[0].Err != nil || !slices.Equal(r.answers[0].Parts, []Part{want}) {
		t.Errorf("answers %+v, want %+v", r.answers, want)
	}
}

func TestSealOrderOfAShardIsCommitOrder(t *testing.T) {
	r := newRig(t, nil)
	r.submit(batchOf(0, 100))
	first := r.upload()
	r.submit(batchOf(0, 50), batchOf(1, 50))
	second := r.upload()
	r.stored(second)
	if got := r.proposed(1); !slices.Equal(got, []uint64{2}) {
		t.Errorf("shard 1 is asked for %v, want segment 2 alone: segment 1 does not touch it", got)
	}
	r.stored(first)
	if got := r.proposed(0); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("shard 0 is asked for %v, want 1 then 2", got)
	}
}

func TestOneProposalIsInFlightPerShardAndTheNextTakesWhatIsReady(t *testing.T) {
	r := newRig(t, nil)
	var uploads []Upload
	for range 4 {
		r.submit(batchOf(0, 100))
		uploads = append(uploads, r.upload())
	}
	r.stored(uploads[0])
	if got := r.proposed(0); !slices.Equal(got, []uint64{1}) {
		t.Fatalf("proposed %v", got)
	}
	r.stored(uploads[2])
	r.stored(uploads[1])
	r.check("no second proposal in flight", len(r.proposals) == 0)
	r.accepted(0, 1, 0)
	if got := r.proposed(0); !slices.Equal(got, []uint64{2, 3}) {
		t.Errorf("proposed %v, want 2 and 3 together", got)
	}
}

func TestUploadOfUnknownOutcomeIsRepeatedWithTheSameBytes(t *testing.T) {
	r := newRig(t, nil)
	r.submit(batchOf(0, 10))
	u := r.upload()
	e := Encode(u.Batches)
	e.Nonce = objectlog.UUID{7}
	r.step(Uploaded{Counter: u.Counter, Encoded: e, Err: errors.New("timeout")})
	r.check("not at once", len(r.uploads) == 0)
	r.now = slices.Min(r.wakes)
	r.step(Tick{})
	if again := r.upload(); again.Encoded != e || again.Counter != u.Counter || len(e.Body) == 0 {
		t.Errorf("repeated as %+v", again)
	}
}

func TestSegmentThatIsNotStoredInTimeIsUnknownAndDoesNotBlock(t *testing.T) {
	r := newRig(t, nil)
	b := batchOf(0, 100)
	r.submit(b)
	first := r.upload()
	r.now = 20 * time.Second
	r.submit(batchOf(0, 100))
	second := r.upload()
	r.stored(second)
	r.check("segment 2 waits for segment 1", len(r.proposals) == 0)
	r.now = 30 * time.Second
	r.step(Tick{})
	if len(r.answers) != 1 || r.answers[0].Batch != b || !errors.Is(r.answers[0].Err, ErrUnknown) {
		t.Fatalf("answers %+v, want the first batch as unknown", r.answers)
	}
	r.check("its memory is in use while the upload is", r.core.used == 200)
	if got := r.proposed(0); !slices.Equal(got, []uint64{2}) {
		t.Errorf("proposed %v, want 2 alone", got)
	}
	r.step(Uploaded{Counter: first.Counter, Encoded: Encode(first.Batches)})
	r.check("a late success is not proposed any more", len(r.proposals) == 0 && r.core.used == 100)
}

func TestRefusedKeyIsADefiniteFailure(t *testing.T) {
	r := newRig(t, nil)
	r.submit(batchOf(0, 10))
	u := r.upload()
	r.step(Uploaded{Counter: u.Counter, Encoded: Encode(u.Batches), Err: fmt.Errorf("%w: key taken", ErrNotWritten)})
	if len(r.answers) != 1 || !errors.Is(r.answers[0].Err, ErrNotWritten) || !r.core.Empty() {
		t.Errorf("answers %+v", r.answers)
	}
}

func TestUndecidedProposalIsSentAgainFromTheLowestCounter(t *testing.T) {
	r := newRig(t, nil)
	r.submit(batchOf(0, 100))
	first := r.upload()
	r.submit(batchOf(0, 100))
	second := r.upload()
	r.stored(first)
	sent := r.proposals[0].Commits[0]
	r.stored(second)
	r.step(Decided{Shard: 0})
	r.check("not at once", len(r.proposals) == 0)
	r.now = slices.Min(r.wakes)
	r.step(Tick{})
	if got := r.proposed(0); !slices.Equal(got, []uint64{1, 2}) {
		t.Fatalf("proposed %v, want 1 again and 2", got)
	}
	if again := r.proposals[0].Commits[0]; again.Name != sent.Name || again.Section.Ref != sent.Section.Ref {
		t.Errorf("sent again as %+v, was %+v", again, sent)
	}
}

func TestGivenUpProposalIsUnknownAndItsLateDecisionIsIgnored(t *testing.T) {
	r := newRig(t, nil)
	r.submit(batchOf(0, 10))
	r.stored(r.upload())
	r.now = 30 * time.Second
	r.step(Tick{})
	if len(r.answers) != 1 || !errors.Is(r.answers[0].Err, ErrUnknown) {
		t.Fatalf("answers %+v", r.answers)
	}
	r.accepted(0, 1, 5)
	r.check("answered once", len(r.answers) == 0 && r.core.Empty())
	r.check("not counted", len(r.appended) == 0)
}

func TestWhatWasNeverSealedIsNotWritten(t *testing.T) {
	r := newRig(t, func(c *Config) { c.UploadsMax = 1 })
	r.submit(batchOf(0, 10))
	b := batchOf(0, 10)
	r.submit(b)
	r.now = 30 * time.Second
	r.step(Tick{})
	i := slices.IndexFunc(r.answers, func(a Answer) bool { return a.Batch == b })
	if i < 0 || !errors.Is(r.answers[i].Err, ErrNotWritten) {
		t.Errorf("answers %+v, want the unsealed batch as not written", r.answers)
	}
}

func TestCommitDecidedAsUnknownOrRefusedIsAnsweredSo(t *testing.T) {
	refused := errors.New("refused")
	for _, c := range []struct {
		result any
		want   error
	}{{metadata.CommitResult{Unknown: true}, ErrUnknown}, {refused, refused}, {nil, ErrUnknown}} {
		r := newRig(t, nil)
		r.submit(batchOf(0, 10))
		r.stored(r.upload())
		r.step(Decided{Shard: 0, Results: []any{c.result}})
		if len(r.answers) != 1 || !errors.Is(r.answers[0].Err, c.want) || !r.core.Empty() {
			t.Errorf("result %v: answers %+v, want %v", c.result, r.answers, c.want)
		}
	}
}

func TestReasonsAreAnsweredPerBatch(t *testing.T) {
	r := newRig(t, nil)
	good, bad := batchOf(0, 10), batchOf(0, 10)
	bad.Partition = 1
	r.submit(good, bad)
	r.stored(r.upload())
	r.step(Decided{Shard: 0, Results: []any{metadata.CommitResult{Batches: []metadata.BatchResult{
		{Base: 4}, {Base: 9, Reason: metadata.ReasonOffsetMismatch}}}}})
	for _, a := range r.answers {
		p := a.Parts[0]
		if a.Batch == good && (p.Reason != metadata.ReasonNone || p.Base != 4) || a.Batch == bad && (p.Reason != metadata.ReasonOffsetMismatch || p.Base != 9) {
			t.Errorf("answer %+v", a)
		}
	}
	r.check("both answered", len(r.answers) == 2)
}

func TestFlushSealsWithoutTokensAndEmptySaysWhenItIsOver(t *testing.T) {
	r := newRig(t, func(c *Config) { c.FlushBurst = 1 })
	r.submit(batchOf(0, 1))
	first := r.upload()
	r.submit(batchOf(0, 1))
	r.step(Flush{})
	second := r.upload()
	r.stored(first)
	r.accepted(0, 1, 0)
	r.check("not empty yet", !r.core.Empty())
	r.stored(second)
	r.accepted(0, 1, 0)
	r.check("empty", r.core.Empty())
}

func TestSegmentsOfCompressibleRecordsGrowToTheStoredSize(t *testing.T) {
	r := newRig(t, func(c *Config) { c.BufferBytesMax, c.FlushBurst = 1<<20, 1 })
	last := 0
	for range 40 {
		b := batchOf(0, 99)
		r.submit(b)
		for _, u := range slices.Clone(r.uploads) {
			last = len(u.Batches)
			e := Encode(u.Batches)
			e.Body = make([]byte, 33*len(u.Batches)) // a third of the memory
			r.step(Uploaded{Counter: u.Counter, Encoded: e})
			r.accepted(0, 1, 0)
		}
	}
	if last < 2 {
		t.Errorf("segments of %d batches of 33 stored bytes, want 2 or 3 for 100 bytes", last)
	}
}

func TestWhatWasAppendedIsCountedOncePerTopic(t *testing.T) {
	r := newRig(t, func(c *Config) { c.FlushBurst, c.FlushRate = 1, 1 })
	r.submit(batchOf(1, 10))
	first := r.upload()
	refused, other, elsewhere := batchOf(0, 10), batchOf(0, 10), batchOf(1, 10)
	refused.Partition = 1
	other.Topic, other.Partition = objectlog.UUID{9}, 2
	r.submit(batchOf(0, 10), batchOf(0, 10), refused, other, elsewhere) // the first two share a stored batch
	r.now = time.Second
	r.step(Tick{})
	u := r.upload()
	u.Encoded = Encode(u.Batches)
	var sizes []int64
	for _, s := range u.Encoded.Sections {
		runs, err := objectlog.DecodeSection(s.Bytes, s.Ref)
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range runs {
			sizes = append(sizes, int64(run.Rows[0].Bytes))
		}
	}
	r.stored(first)
	r.step(Decided{Shard: 1, Results: []any{metadata.CommitResult{Batches: []metadata.BatchResult{{Duplicate: true}}}}})
	r.check("a duplicate is not counted", len(r.appended) == 0)
	r.stored(u)
	r.step(Decided{Shard: 0, Results: []any{metadata.CommitResult{Batches: []metadata.BatchResult{
		{Base: 4}, {Base: 9, Reason: metadata.ReasonOffsetMismatch}, {Base: 7}}}}})
	if want := []Appended{{objectlog.UUID{1}, sizes[0]}, {objectlog.UUID{9}, sizes[2]}}; !slices.Equal(r.appended, want) {
		t.Errorf("appended %+v, want %+v", r.appended, want)
	}
	r.accepted(1, 1, 0)
	if want := []Appended{{elsewhere.Topic, sizes[3]}}; !slices.Equal(r.appended, want) {
		t.Errorf("appended %+v, want %+v", r.appended, want)
	}
}
