package metadata

import (
	"bytes"
	"testing"
)

// FuzzCommand: no command makes a state panic, and one that Prepare lets through applies to every state, in either form.
func FuzzCommand(f *testing.F) {
	for _, c := range everyCommand() {
		f.Add(uint8(c.Kind), c.Body, c.Footer)
	}
	f.Fuzz(func(t *testing.T, kind uint8, body, footer []byte) {
		c := Command{Kind: Kind(kind), Body: body, Footer: footer}
		for _, s := range []*shard{newShard(t, Config{}), settled(t), withPartitions(t, Config{Shards: 4}, 1, 200)} {
			s.Reference(c)
			short, err := s.Prepare(c)
			before := s.encoded()
			result, failure := s.Apply(Position{Time: 7}, c)
			if err == nil && failure != nil {
				t.Fatalf("prepared, but not applied: %v", failure)
			}
			after := s.encoded()
			if failure != nil && !bytes.Equal(before, after) {
				t.Fatalf("changed the state and failed: %v", failure)
			}
			if err != nil {
				continue
			}
			fresh := &shard{State: NewState(s.cfg), t: t}
			if err := fresh.Restore(before); err != nil {
				t.Fatal(err)
			}
			fromShort, failure := fresh.Apply(Position{Time: 7}, short)
			if failure != nil {
				t.Fatalf("short form: %v", failure)
			}
			want(t, "result of the short form", fromShort, result)
			if !bytes.Equal(fresh.encoded(), after) {
				t.Fatal("the short form led to another state")
			}
		}
	})
}

// FuzzRestore: garbage is refused or restores a state that can go on and writes itself down again.
func FuzzRestore(f *testing.F) {
	f.Add(settled(f).encoded())
	f.Add(newShard(f, Config{}).encoded())
	f.Add(filled(f, 200).encoded())
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewState(Config{})
		if s.Restore(b) != nil {
			return
		}
		encoded := s.View().Encode(nil)
		again := NewState(Config{})
		if err := again.Restore(encoded); err != nil {
			t.Fatalf("restored, but not from what it wrote: %v", err)
		}
		if !bytes.Equal(again.View().Encode(nil), encoded) {
			t.Fatal("restored twice, encoded differently")
		}
		for _, c := range everyCommand() {
			if short, err := s.Prepare(c); err == nil {
				if _, err := s.Apply(Position{}, short); err != nil {
					t.Fatalf("apply kind %d: %v", c.Kind, err)
				}
			}
		}
		for _, topic := range s.topics {
			for _, p := range topic.partitions {
				s.Batches(nil, topic.id, p.number, p.logStart, 1<<40)
				s.BatchAtTime(topic.id, p.number, 0)
			}
		}
	})
}
