package rpc

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/queues"
)

// tokenHex is the bytes of a token, field by field.
const tokenHex = "01" + "00112233445566778899aabbccddeeff" + "ac02" + "8008" + "0102030405060708"

func goldenToken() deliveryToken {
	t := deliveryToken{Place: queues.Place{Partition: 300}, offset: 1024, lock: 0x0102030405060708}
	for i := range t.Topic {
		t.Topic[i] = byte(i * 0x11)
	}
	return t
}

func TestATokenHasTheBytesThatOthersMayHaveKept(t *testing.T) {
	want := goldenToken()
	if got := hex.EncodeToString(want.bytes()); got != tokenHex {
		t.Errorf("got %s, want %s", got, tokenHex)
	}
	if got, ok := parseToken(want.bytes()); !ok || got != want {
		t.Errorf("got %v %v, want %v", got, ok, want)
	}
	largest := want
	largest.Partition, largest.offset, largest.lock = partitionsMax-1, math.MaxInt64, math.MaxUint64
	if got, ok := parseToken(largest.bytes()); !ok || got != largest {
		t.Errorf("got %v %v, want %v", got, ok, largest)
	}
}

func TestWhatIsNoTokenIsToldFromOne(t *testing.T) {
	whole := goldenToken().bytes()
	for n := range whole {
		if got, ok := parseToken(whole[:n]); ok {
			t.Errorf("cut to %d bytes: got %v", n, got)
		}
	}
	const topic = "00112233445566778899aabbccddeeff"
	for name, text := range map[string]string{
		"one byte more":                tokenHex + "00",
		"another version":              "02" + tokenHex[2:],
		"a partition too far":          "01" + topic + "a08d06" + "00" + "0000000000000001",
		"an offset too far":            "01" + topic + "00" + "80808080808080808001" + "0000000000000001",
		"an offset without end":        "01" + topic + "00" + "ffffffffffffffffffff" + "0000000000000001",
		"no lock":                      "01" + topic + "00" + "00" + "0000000000000000",
		"a partition in a longer form": "01" + topic + "8000" + "00" + "0000000000000001",
		"an offset in a longer form":   "01" + topic + "00" + "818000" + "0000000000000001",
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := parseToken(b); ok {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func FuzzTokensHaveOneForm(f *testing.F) {
	whole := goldenToken().bytes()
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(bytes.Clone(whole), 0))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, tokenBytesMax))
	f.Fuzz(func(t *testing.T, b []byte) {
		token, ok := parseToken(b)
		if !ok {
			return
		}
		if !bytes.Equal(token.bytes(), b) {
			t.Errorf("got %x for %x", token.bytes(), b)
		}
		if token.Partition < 0 || token.Partition >= partitionsMax || token.offset < 0 || token.lock == 0 {
			t.Errorf("got %v, out of bounds", token)
		}
	})
}

func TestNamesAreKeptByIDWithinABound(t *testing.T) {
	var c nameCache
	id := func(i int) objectlog.UUID {
		u, err := objectlog.ParseUUID(fmt.Sprintf("00000000-0000-0000-0000-%012x", i))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	if got := c.name(id(0)); got != "" {
		t.Errorf("got %q of nothing", got)
	}
	for i := range 2*namesMax + 1 {
		c.learn(id(i), fmt.Sprint("t", i))
		if len(c.names) > namesMax {
			t.Fatalf("got %d names, want at most %d", len(c.names), namesMax)
		}
	}
	if got, want := c.name(id(2*namesMax)), fmt.Sprint("t", 2*namesMax); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
