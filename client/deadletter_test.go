package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
)

// buried is a bench with n dead letters in matches-dlq.
func buried(t *testing.T, n int) *bench {
	t.Helper()
	b := newBench(t, 1)
	b.fill("matches", 0, n, n)
	q := b.queue(t, client.QueueConfig{})
	if err := q.Reject(within(t), "no such customer", pullN(t, q, n)...); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDeadLettersAreCountedAndListedByPage(t *testing.T) {
	b := buried(t, 5)
	b.onCall("CountDeadLetters", cut, unavailable)
	counts, err := b.client.DeadLetterCounts(within(t), "matches-dlq", "nowhere")
	if err != nil || len(counts) != 2 || counts[0].DeadLetters != 5 || counts[0].Err != nil || !errors.Is(counts[1].Err, client.ErrUnknownTopic) {
		t.Errorf("%+v, %v", counts, err)
	}
	query := client.DeadLetterQuery{Topic: "matches-dlq", Limit: 2}
	var all []client.DeadLetter
	for pages := 1; ; pages++ {
		page, err := b.client.DeadLetters(within(t), query)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.DeadLetters...)
		if query.PageToken = page.NextPageToken; query.PageToken == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	d := all[3]
	if len(all) != 5 || d.Topic != "matches-dlq" || d.Partition != 0 || d.Offset != 3 || d.SourceTopic != "matches" || d.SourcePartition != 0 ||
		d.SourceOffset != 3 || d.Group != "workers" || d.Deliveries != 1 || d.Reason != "rejected" || d.Error != "no such customer" ||
		time.Since(d.FirstFailure) > time.Minute || time.Since(d.LastFailure) > time.Minute || string(d.Value) != value(0, 3) || d.Redriving {
		t.Errorf("%d, the fourth %+v", len(all), d)
	}
	page, err := b.client.DeadLetters(within(t), client.DeadLetterQuery{Topic: "matches-dlq", Only: []client.DeadLetterPosition{{Offset: 4}}})
	if err != nil || len(page.DeadLetters) != 1 || page.DeadLetters[0].Offset != 4 {
		t.Errorf("only one: %+v, %v", page, err)
	}
}

func TestRedriveIsRepeatedAndSendsEachOnce(t *testing.T) {
	b := buried(t, 3)
	b.onCall("RedriveDeadLetters", unavailable, cut, loseReply, undecided)
	done, err := b.client.Redrive(within(t), client.RedriveRequest{Topic: "matches-dlq", MaxRecords: 2})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(b.values("matches", 0)); got != 6 || done.Remaining != 0 {
		t.Errorf("%d records, want 3 and each once again; %+v", got, done)
	}
	b = buried(t, 3)
	done, err = b.client.Redrive(within(t), client.RedriveRequest{
		Topic: "matches-dlq", Only: []client.DeadLetterPosition{{Offset: 1}}, ToTopic: "mended", Edited: true, EditedValue: []byte("a customer"),
	})
	if err != nil || done.Redriven != 1 || len(done.Refused) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if got := b.values("mended", 0); len(got) != 1 || got[0] != "a customer" {
		t.Errorf("got %v", got)
	}
	done, err = b.client.Redrive(within(t), client.RedriveRequest{Topic: "matches-dlq", Only: []client.DeadLetterPosition{{Offset: 9}}})
	if err != nil || len(done.Refused) != 1 || done.Refused[0].Offset != 9 || done.Refused[0].Err == nil {
		t.Errorf("%+v, %v", done, err)
	}
	b.queueFault = func(string) fault { return undecided }
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := b.client.Redrive(ctx, client.RedriveRequest{Topic: "matches-dlq"}); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("got %v, want an unknown outcome", err)
	}
}

func TestDiscardIsNotRepeatedBehindAnUnknownOutcome(t *testing.T) {
	b := buried(t, 3)
	b.onCall("DiscardDeadLetters", unavailable, none, loseReply)
	discard := func() (client.Discarded, error) {
		return b.client.Discard(within(t), client.DiscardRequest{Topic: "matches-dlq", Only: []client.DeadLetterPosition{{Offset: 1}}})
	}
	if done, err := discard(); err != nil || done.Discarded != 1 || len(done.Refused) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := discard(); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Errorf("got %v, want an unknown outcome", err)
	}
	if done, err := discard(); err != nil || len(done.Refused) != 1 || done.Refused[0].Offset != 1 || b.count("DiscardDeadLetters") != 4 {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestSendDeadLetterIsRepeatedUntilItIsDecided(t *testing.T) {
	b := newBench(t, 1)
	b.fill("matches", 0, 2, 2)
	b.onCall("SendDeadLetter", cut, loseReply, undecided, unavailable)
	g := client.GivenUp{Group: "readers", Topic: "matches", Offset: 1, Committed: client.NoOffset, Attempts: 5, Error: "\xff"}
	if err := b.client.SendDeadLetter(within(t), g); err != nil {
		t.Fatal(err)
	}
	if got := b.values("matches-dlq", 0); len(got) != 1 || got[0] != value(0, 1) || b.count("SendDeadLetter") != 5 {
		t.Errorf("got %v by %d calls", got, b.count("SendDeadLetter"))
	}
}
