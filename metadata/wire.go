package metadata

import (
	"math"
	"slices"

	"github.com/splashdam/splashdam/metadata/wire"
)

const (
	nameBytesMax           = 249     // of a topic; Kafka's limit
	partitionsMax          = 100_000 // of one topic: an entry must not make a state of any size
	settingsMax            = 64
	settingBytesMax        = 4096
	positionMax            = math.MaxUint32 // in a segment, so that a row keeps it in four bytes
	offsetMax              = 1 << 62        // nothing the state adds to an offset overflows below it
	maxInt31               = math.MaxInt32
	maxInt63               = math.MaxInt64
	maxInt15               = math.MaxInt16
	maxUint32       uint64 = math.MaxUint32
)

// reader reads, beside what every machine has, what only State has; methods for that stand beside their writers.
type reader struct{ wire.Reader }

func newReader(b []byte) reader { return reader{wire.Reader{B: b}} }

func appendSettings(dst []byte, s Settings) []byte {
	names := make([]string, 0, len(s))
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	dst = wire.AppendInt(dst, len(names))
	for _, name := range names {
		dst = wire.AppendString(wire.AppendString(dst, name), s[name])
	}
	return dst
}

func (r *reader) settings() Settings {
	n := int(r.Bounded("settings", settingsMax))
	if n == 0 {
		return nil
	}
	s := make(Settings, n)
	last := ""
	for i := range n {
		name := r.String("setting", settingBytesMax)
		if i > 0 && name <= last && r.Err == nil {
			r.Fail("settings: %q is out of order", name)
		}
		s[name], last = r.String("setting", settingBytesMax), name
	}
	return s
}
