package metadata

import (
	"strings"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

func TestSettingsHaveKafkasDefaults(t *testing.T) {
	var s Settings
	_, own := s.Compression()
	want(t, "compression", own, false)
	want(t, "log append time", s.LogAppendTime(), false)
	want(t, "message bytes", s.MessageBytesMax(), 1_048_588)
	want(t, "retention ms", s.RetentionMillis(), 604_800_000)
	want(t, "retention bytes", s.RetentionBytes(), -1)
	want(t, "dead letters", s.DeadLetters(), false)
}

func TestSettingsAnswerWhatWasSet(t *testing.T) {
	s := Settings{"compression.type": "lz4", "message.timestamp.type": "LogAppendTime", "max.message.bytes": "5",
		"retention.ms": "-1", "retention.bytes": "7", "dead.letters": "true"}
	want(t, "check", CheckSettings(s), nil)
	codec, own := s.Compression()
	want(t, "compression", codec, objectlog.CodecLZ4)
	want(t, "compression", own, true)
	want(t, "log append time", s.LogAppendTime(), true)
	want(t, "message bytes", s.MessageBytesMax(), 5)
	want(t, "retention ms", s.RetentionMillis(), -1)
	want(t, "retention bytes", s.RetentionBytes(), 7)
	want(t, "dead letters", s.DeadLetters(), true)
}

func TestTopicForDeadLettersKeepsThemAndHasRoomForTheirHeaders(t *testing.T) {
	for bytes, room := range map[string]int{"1000": 3000, "2147483647": 0} {
		s := Settings{"max.message.bytes": bytes, "retention.ms": "5", "compression.type": "zstd"}
		for what, own := range map[string]Settings{"made": s.ForDeadLetters(), "used": s.WithDeadLetters()} {
			want(t, what+": check", CheckSettings(own), nil)
			want(t, what+": dead letters", own.DeadLetters(), true)
		}
		made := s.ForDeadLetters()
		want(t, "retention", made.RetentionMillis(), -1)
		if got := made.MessageBytesMax(); got < s.MessageBytesMax()+room {
			t.Errorf("%d bytes of a message for the dead letters of one with %s", got, bytes)
		}
		want(t, "retention of one that is used", s.WithDeadLetters().RetentionMillis(), 5)
		want(t, "the topic's own", s.DeadLetters(), false)
	}
	want(t, "of none", Settings(nil).WithDeadLetters().DeadLetters(), true)
}

func TestCheckSettingsNamesEveryProblemAndWhatIsAccepted(t *testing.T) {
	err := CheckSettings(Settings{"compression.type": "brotli", "message.timestamp.type": "Now", "max.message.bytes": "2147483648",
		"retention.ms": "-2", "retention.bytes": "many", "cleanup.policy": "compact", "dead.letters": "yes"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{`compression.type="brotli"`, "producer, uncompressed, gzip, snappy, lz4, zstd", `"Now"`, "CreateTime, LogAppendTime",
		`"2147483648"`, "0 to 2147483647", `retention.ms="-2"`, "-1 to 9223372036854775807", `"many"`, `"cleanup.policy": unknown`, `dead.letters="yes"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
}

func TestCheckSettingsAcceptsEveryValueItNames(t *testing.T) {
	for name, values := range map[string]string{
		"compression.type":       "producer uncompressed gzip snappy lz4 zstd",
		"message.timestamp.type": "CreateTime LogAppendTime",
		"max.message.bytes":      "0 2147483647",
		"retention.ms":           "-1 0 9223372036854775807",
		"retention.bytes":        "-1 0 9223372036854775807",
		"dead.letters":           "true false",
	} {
		for value := range strings.FieldsSeq(values) {
			if err := CheckSettings(Settings{name: value}); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestTopicNamesFollowKafkasRule(t *testing.T) {
	for _, name := range []string{"a", "A-z_0.9", "...", "a.b", "a_b", strings.Repeat("x", 249)} {
		if err := CheckTopicName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", ".", "..", "a b", "a/b", "ä", "a\x00", strings.Repeat("x", 250)} {
		if CheckTopicName(name) == nil {
			t.Errorf("topic name %q was accepted", name)
		}
	}
}
