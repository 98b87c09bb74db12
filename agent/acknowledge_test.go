package agent

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

func TestAcknowledgementIsRefusedUnlessItShowsTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, all := three(t)
		a := all[0]
		a.topic(t, "orders", 2)
		a.topic(t, "gone", 1)
		a.fill(t, "orders", 2, 5)
		a.fill(t, "gone", 1, 1)
		lost, err := a.Pull(t.Context(), PullRequest{Group: "email", Topic: "gone"})
		if err != nil {
			t.Fatal(err)
		}
		var got []held
		for len(got) < 10 {
			got = append(got, a.pulls(t, email(0, 0, time.Minute))...)
		}
		wantHeld(t, "pulled", got, "0/0 0/1 0/2 0/3 0/4 1/0 1/1 1/2 1/3 1/4")
		if err := a.DeleteTopic(t.Context(), "gone", 0); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second) // until its partitions are gone too
		forged := func(change func(*Acknowledgement)) Acknowledgement {
			k := got[0].Acknowledgement
			k.Verdict = queues.Accept
			change(&k)
			return k
		}
		for what, c := range map[string]struct {
			k    Acknowledgement
			want error
		}{
			"another lock":          {forged(func(k *Acknowledgement) { k.Lock++ }), queues.ReasonNotLocked},
			"no lock":               {forged(func(k *Acknowledgement) { k.Lock = 0 }), queues.ReasonNotLocked},
			"an offset to come":     {forged(func(k *Acknowledgement) { k.Offset = 99 }), queues.ReasonNotLocked},
			"a negative offset":     {forged(func(k *Acknowledgement) { k.Offset = -1 }), queues.ReasonNotLocked},
			"a huge offset":         {forged(func(k *Acknowledgement) { k.Offset = 1<<63 - 1 }), queues.ReasonNotLocked},
			"no such partition":     {forged(func(k *Acknowledgement) { k.Partition = 77 }), queues.ReasonNotLocked},
			"an absurd partition":   {forged(func(k *Acknowledgement) { k.Partition = 1 << 30 }), queues.ReasonNotLocked},
			"another partition":     {forged(func(k *Acknowledgement) { k.Partition = 1 - k.Partition }), queues.ReasonNotLocked},
			"no such topic":         {forged(func(k *Acknowledgement) { k.Topic = objectlog.UUID{1} }), queues.ReasonNotLocked},
			"a deleted topic":       {Acknowledgement{Place: lost[0].Place, Lock: lost[0].Lock, Verdict: queues.Accept}, queues.ReasonNotLocked},
			"no verdict":            {forged(func(k *Acknowledgement) { k.Verdict = 0 }), InvalidRequest},
			"an unknown verdict":    {forged(func(k *Acknowledgement) { k.Verdict = queues.Return + 1 }), InvalidRequest},
			"extension by nothing":  {forged(func(k *Acknowledgement) { k.Verdict = queues.Extend }), InvalidRequest},
			"a delay of days":       {forged(func(k *Acknowledgement) { k.Verdict, k.Wait = queues.Release, 99*time.Hour }), InvalidRequest},
			"a delay into the past": {forged(func(k *Acknowledgement) { k.Verdict, k.Wait = queues.Release, -time.Hour }), InvalidRequest},
		} {
			// Nothing of it is in the way of the others.
			errs, err := all[1].Acknowledge(t.Context(), "email", []Acknowledgement{c.k})
			if err != nil || len(errs) != 1 {
				t.Fatal(err)
			}
			wantErr(t, what, errs[0], c.want)
		}
		errs, err := all[1].Acknowledge(t.Context(), "sms", []Acknowledgement{forged(func(*Acknowledgement) {})})
		if err != nil {
			t.Fatal(err)
		}
		wantErr(t, "another group", errs[0], queues.ReasonNotLocked)
		_, err = all[1].Acknowledge(t.Context(), "", nil)
		wantErr(t, "no group", err, InvalidRequest)
		all[2].accepts(t, got...)
	})
}

func TestEachAcknowledgementHasItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newStores(), testConfig())
		a.topic(t, "orders", 3)
		a.fill(t, "orders", 3, 6)
		got := a.pulls(t, email(0, 0, time.Minute))
		at := func(p objectlog.Partition, o objectlog.Offset, v queues.Verdict, said string) Acknowledgement {
			for _, h := range got {
				if h.Partition == p && h.Offset == o {
					k := h.Acknowledgement
					k.Verdict, k.Error = v, said
					return k
				}
			}
			t.Fatalf("%d/%d was not pulled", p, o)
			return Acknowledgement{}
		}
		forged := at(1, 2, queues.Accept, "")
		forged.Lock++
		all := []Acknowledgement{
			at(1, 4, queues.Accept, ""), at(0, 0, queues.Accept, ""), forged, at(1, 2, queues.Release, "first\nand second line"), at(0, 1, queues.Accept, ""),
			at(0, 0, queues.Reject, "second thoughts"), at(2, 5, queues.Reject, strings.Repeat("é", 500)), at(1, 5, queues.Accept, ""), at(0, 0, queues.Accept, ""),
		}
		refused := "2 5 8"
		errs, err := a.Acknowledge(t.Context(), "email", all)
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for i, err := range errs {
			if err != nil {
				wantErr(t, fmt.Sprint(i), err, queues.ReasonNotLocked)
				found = append(found, fmt.Sprint(i))
			}
		}
		want(t, "refused", strings.Join(found, " "), refused)
		for i, err := range a.settles(t, queues.Accept, 0, got...) {
			h := got[i]
			done := h.Partition == 0 && h.Offset < 2 || h.Partition == 1 && (h.Offset == 4 || h.Offset == 5 || h.Offset == 2) || h.Partition == 2 && h.Offset == 5
			if (err != nil) != done {
				t.Errorf("%s, once more: %v, and it was acknowledged before: %v", h, err, done)
			}
		}
		wantHeld(t, "what is left", a.pulls(t, email(0, 0, time.Minute)), "1/2 x2")
	})
}

func TestAcknowledgementsOfManyRecordsAreFewSettlements(t *testing.T) {
	topic := queues.Place{Topic: objectlog.UUID{1}, Partition: 3}
	var all []Acknowledgement
	for o := range objectlog.Offset(10_000) {
		all = append(all, Acknowledgement{Place: topic, Offset: 9_999 - o, Lock: 7, Verdict: queues.Accept, Wait: time.Duration(o)})
	}
	got := settlingsOf("g", all, make([]error, len(all)))
	if len(got) != 1 || len(got[0].Items) != 1 || got[0].Items[0] != (queues.Settlement{To: 10_000, Lock: 7, Verdict: queues.Accept}) {
		t.Errorf("10,000 that fare alike are %d commands: %+v", len(got), got[0].Items)
	}
	for i := range all { // no two alike
		all[i].Verdict, all[i].Error = queues.Release, fmt.Sprint(strings.Repeat("e", 300), i)
		all[i].Wait = time.Duration(i) * time.Millisecond
	}
	got = settlingsOf("g", all, make([]error, len(all)))
	acks := 0
	for _, s := range got {
		acks += len(s.acks)
		if n := len(s.Command().Body); n > commitBytesOnce {
			t.Errorf("a command of %d bytes", n)
		}
	}
	want(t, "acknowledgements", acks, len(all))
	for i := range all { // one record under many locks
		all[i].Offset, all[i].Lock = 5, uint64(i%5000+1)
	}
	errs := make([]error, len(all))
	got = settlingsOf("g", all, errs)
	want(t, "commands for one record under 5,000 locks", len(got), 5000)
	twice := 0
	for i, err := range errs {
		if err != nil {
			if twice++; i < 5000 {
				t.Errorf("%d is the first of its lock: %v", i, err)
			}
		}
	}
	want(t, "of a lock that was there before", twice, 5000)
}
