package queues

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWhatIsKeptOfAnErrorMayBeSettled(t *testing.T) {
	for _, said := range []string{"", "timeout", "panic: x\n\tgoroutine 1 [running]:\x00\x7f", strings.Repeat("e", 1000), strings.Repeat("é", 200), "x" + strings.Repeat("é", 200),
		"\xff\xfe", strings.Repeat("\xff", 1000), strings.Repeat("\n", 257), strings.Repeat("x", 511) + "é"} {
		kept := CutError(said)
		if len(kept) > ErrorBytesMax || !utf8.ValidString(kept) || said != "" && kept == "" {
			t.Errorf("of %.20q (%d bytes) %q is kept", said, len(said), kept)
		}
		c := Settle{Key: Key{Group: "g"}, Items: []Settlement{{To: 1, Lock: 1, Verdict: Release, Error: kept}}}
		if _, err := NewState().Prepare(c.Command()); err != nil {
			t.Errorf("%.20q: %v", said, err)
		}
	}
	want := "a  b " // a stack has lines
	if got := CutError("a\n\tb\n"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
