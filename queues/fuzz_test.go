package queues

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/splashdam/splashdam/metadata"
)

// FuzzCommand: no command makes a state panic; one that Prepare lets through applies to every state; and what it makes of a state can be
// written down and read again.
func FuzzCommand(f *testing.F) {
	for _, c := range everyCommand() {
		f.Add(uint8(c.Kind), c.Body)
	}
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		c := metadata.Command{Kind: metadata.Kind(kind), Body: body}
		halfway := newLog(t)
		for _, before := range everyCommand()[:9] {
			halfway.do(raw(before))
		}
		for _, l := range []*log{newLog(t), halfway, settled(t)} {
			l.Reference(c)
			_, refused := l.Prepare(c)
			before := l.encoded()
			result, failure := l.Apply(metadata.Position{Time: 7}, c)
			if refused == nil && failure != nil {
				t.Fatalf("prepared, but not applied: %v", failure)
			}
			after := l.encoded()
			if failure != nil {
				if !bytes.Equal(before, after) {
					t.Fatalf("changed the state and failed: %v", failure)
				}
				continue
			}
			if refused != nil {
				continue // no leader writes it
			}
			if read, err := DecodeResult(EncodeResult(result.(Result))); err != nil || !reflect.DeepEqual(read, result) {
				t.Fatalf("result %+v was read as %+v: %v", result, read, err)
			}
			again := NewState()
			if err := again.Restore(before); err != nil {
				t.Fatal(err)
			}
			replayed, _ := again.Apply(metadata.Position{Time: 7}, c)
			if !reflect.DeepEqual(replayed, result) || !bytes.Equal(again.View().Encode(nil), after) {
				t.Fatal("a restored state takes the command differently")
			}
			if err := again.Restore(after); err != nil || !bytes.Equal(again.View().Encode(nil), after) {
				t.Fatalf("a state that cannot be restored: %v", err)
			}
		}
	})
}

// FuzzRestore: garbage is refused, or restores a state that writes itself down again and goes on.
func FuzzRestore(f *testing.F) {
	f.Add(settled(f).encoded())
	f.Add(newLog(f).encoded())
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewState()
		if s.Restore(b) != nil {
			return
		}
		encoded := s.View().Encode(nil)
		again := NewState()
		if err := again.Restore(encoded); err != nil {
			t.Fatalf("restored, but not from what it wrote: %v", err)
		}
		if !bytes.Equal(again.View().Encode(nil), encoded) {
			t.Fatal("restored twice, encoded differently")
		}
		for _, c := range everyCommand() {
			if _, err := s.Apply(metadata.Position{}, c); err != nil {
				t.Fatalf("apply kind %d: %v", c.Kind, err)
			}
		}
		NewClock().Tick(1, 1, s)
	})
}

// FuzzResult: garbage is refused, or is the result that it is read as.
func FuzzResult(f *testing.F) {
	for _, r := range someResults() {
		f.Add(EncodeResult(r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeResult(b)
		if err != nil {
			return
		}
		again, err := DecodeResult(EncodeResult(r))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v was read as %+v: %v", r, again, err)
		}
	})
}
