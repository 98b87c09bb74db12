package wire

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"
)

func sample() []byte {
	b := AppendInt(nil, 5)
	b = AppendInt(b, int64(1)<<40)
	b = AppendUint32(b, 0xdeadbeef)
	b = AppendString(b, "größe")
	return append(append(b, 0x03), make([]byte, 16)...)
}

func read(r *Reader) (ok bool) {
	ok = r.Bounded("small", 10) == 5
	ok = r.Uvarint("large") == 1<<40 && ok
	ok = r.Uint32("word") == 0xdeadbeef && ok
	ok = r.String("name", 7) == "größe" && ok
	ok = r.Varint("signed") == -2 && ok
	return r.UUID("id").IsZero() && ok
}

func TestWhatIsWrittenIsReadAndWrittenAsEver(t *testing.T) {
	b := sample()
	if got, want := hex.EncodeToString(b), "05808080808020deadbeef076772c3b6c39f6503"+strings.Repeat("00", 16); got != want {
		t.Errorf("wrote %s, want %s", got, want)
	}
	r := &Reader{B: b}
	if !read(r) || r.End() != nil {
		t.Errorf("read otherwise: %v", r.Err)
	}
}

func TestEveryCutIsAFaultThatStays(t *testing.T) {
	b := sample()
	for n := range b {
		r := &Reader{B: b[:n]}
		read(r)
		err := r.End()
		if err == nil || r.Uvarint("more") != 0 || r.Byte("more") != 0 || r.String("more", 9) != "" || r.Err != err {
			t.Errorf("%d bytes: %v, then %v", n, err, r.Err)
		}
	}
	r := &Reader{B: append(b, 0)}
	read(r)
	if r.End() == nil {
		t.Error("a byte that nobody read is no fault")
	}
}

func TestBoundsAreKept(t *testing.T) {
	for name, read := range map[string]func(*Reader){
		"number":            func(r *Reader) { r.Bounded("n", 299) },
		"string":            func(r *Reader) { r.String("n", 299) },
		"list":              func(r *Reader) { r.Count("n", 1) },
		"negative length":   func(r *Reader) { r.Bytes("n", -1) },
		"too long a varint": func(r *Reader) { r.B = bytes.Repeat([]byte{0xff}, 11); r.Uvarint("n") },
	} {
		r := &Reader{B: append(AppendInt(nil, 300), make([]byte, 200)...)}
		if read(r); r.Err == nil || !strings.HasPrefix(r.Err.Error(), "n: ") {
			t.Errorf("%s: %v", name, r.Err)
		}
	}
	r := &Reader{B: AppendInt(nil, -1)}
	if r.Bounded("n", math.MaxInt64); r.Err == nil {
		t.Error("a negative number was read")
	}
}
