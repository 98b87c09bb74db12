package metadata

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/splashdam/splashdam/objectlog"
)

// The settings of a topic, but for one with Kafka's names, ranges and defaults (kafka.apache.org, topic configs). One
// that is absent has its default.
const (
	settingCompression    = "compression.type"
	settingTimestampType  = "message.timestamp.type"
	settingMessageBytes   = "max.message.bytes"
	settingRetentionMs    = "retention.ms"
	settingRetentionBytes = "retention.bytes"
	settingDeadLetters    = "dead.letters" // not Kafka's

	messageBytesDefault   = 1<<20 + 12
	retentionMsDefault    = 7 * 24 * 60 * 60 * 1000
	retentionBytesDefault = -1
)

// codecs are the values of compression.type other than producer.
var codecs = map[string]objectlog.Codec{
	"uncompressed": objectlog.CodecNone,
	"gzip":         objectlog.CodecGzip,
	"snappy":       objectlog.CodecSnappy,
	"lz4":          objectlog.CodecLZ4,
	"zstd":         objectlog.CodecZstd,
}

// CheckSettings validates settings and names every problem; unknown names are refused.
func CheckSettings(s Settings) error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if err := checkSetting(name, s[name]); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func checkSetting(name, value string) error {
	switch name {
	case settingCompression:
		return oneOf(name, value, "producer", "uncompressed", "gzip", "snappy", "lz4", "zstd")
	case settingTimestampType:
		return oneOf(name, value, "CreateTime", "LogAppendTime")
	case settingMessageBytes:
		return within(name, value, 0, math.MaxInt32, "")
	case settingRetentionMs, settingRetentionBytes:
		return within(name, value, -1, math.MaxInt64, ", -1 for no limit")
	case settingDeadLetters:
		return oneOf(name, value, "true", "false")
	}
	return fmt.Errorf("setting %q: unknown; want %s, %s, %s, %s, %s or %s", name,
		settingCompression, settingTimestampType, settingMessageBytes, settingRetentionMs, settingRetentionBytes, settingDeadLetters)
}

func oneOf(name, value string, accepted ...string) error {
	if slices.Contains(accepted, value) {
		return nil
	}
	return fmt.Errorf("setting %s=%q: want one of %s", name, value, strings.Join(accepted, ", "))
}

func within(name, value string, low, high int64, note string) error {
	if v, err := strconv.ParseInt(value, 10, 64); err != nil || v < low || v > high {
		return fmt.Errorf("setting %s=%q: want an integer from %d to %d%s", name, value, low, high, note)
	}
	return nil
}

// Compression is the codec that stored batches must have; ok is false when they keep the producer's.
func (s Settings) Compression() (codec objectlog.Codec, ok bool) {
	codec, ok = codecs[s[settingCompression]]
	return codec, ok
}

// LogAppendTime says whether records bear the time of their arrival instead of the producer's.
func (s Settings) LogAppendTime() bool { return s[settingTimestampType] == "LogAppendTime" }

// MessageBytesMax is the largest stored size of one batch; default 1 MiB + 12.
func (s Settings) MessageBytesMax() int {
	return int(s.integer(settingMessageBytes, messageBytesDefault))
}

// RetentionMillis is how long a batch is kept behind its max timestamp; -1: without limit; default 7 days.
func (s Settings) RetentionMillis() int64 { return s.integer(settingRetentionMs, retentionMsDefault) }

// RetentionBytes is the stored size that a partition is trimmed down to; -1, the default: without limit.
func (s Settings) RetentionBytes() int64 {
	return s.integer(settingRetentionBytes, retentionBytesDefault)
}

// DeadLetters says whether the topic holds records that could not be processed; default: it does not. Topics that are made for
// them have it, and others get it when they are first used so.
func (s Settings) DeadLetters() bool { return s[settingDeadLetters] == "true" }

// WithDeadLetters answers the settings of a topic that holds dead letters.
func (s Settings) WithDeadLetters() Settings {
	s = maps.Clone(s)
	if s == nil {
		s = Settings{}
	}
	s[settingDeadLetters] = "true"
	return s
}

// ForDeadLetters answers the settings of a topic that is made for the dead letters of one with these: they are kept until somebody has looked after
// them, and there is room for what their headers tell.
func (s Settings) ForDeadLetters() Settings {
	const room = 4 << 10
	return Settings{settingDeadLetters: "true", settingRetentionMs: "-1",
		settingMessageBytes: strconv.Itoa(min(s.MessageBytesMax()+room, math.MaxInt32))}
}

// integer answers the default for what does not parse: CheckSettings keeps that out.
func (s Settings) integer(name string, standard int64) int64 {
	if v, err := strconv.ParseInt(s[name], 10, 64); err == nil {
		return v
	}
	return standard
}

// CheckTopicName: 1 to 249 of [a-zA-Z0-9._-], not "." or "..". Names that differ only in "." and "_" are different.
func CheckTopicName(name string) error {
	if name == "." || name == ".." {
		return fmt.Errorf("topic name %q: reserved", name)
	}
	if len(name) < 1 || len(name) > nameBytesMax {
		return fmt.Errorf("topic name of %d characters: want 1 to %d", len(name), nameBytesMax)
	}
	for _, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("topic name %q: want letters, digits, '.', '_' and '-' only", name)
		}
	}
	return nil
}
