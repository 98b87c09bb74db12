package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// byteSize is a number of bytes, written with a binary unit: 64KiB, 8MiB, 1GiB, or B.
type byteSize int64

var byteUnits = []struct {
	suffix string
	bytes  byteSize
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String is the form that parseByteSize reads.
func (b byteSize) String() string {
	for _, u := range byteUnits {
		if b >= u.bytes && b%u.bytes == 0 {
			return fmt.Sprintf("%d%s", b/u.bytes, u.suffix)
		}
	}
	return fmt.Sprintf("%dB", int64(b))
}

// parseByteSize refuses a bare number and decimal units: a factor of 1.05 between MB and MiB is a bug that nobody sees.
func parseByteSize(s string) (byteSize, error) {
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/int64(u.bytes) {
			break
		}
		return byteSize(n) * u.bytes, nil
	}
	return 0, errors.New("a size with unit B, KiB, MiB, GiB or TiB, such as 8MiB")
}
