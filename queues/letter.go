package queues

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// The headers of dead letters, behind letterPrefix, and of what was redriven. They are part of the API.
const (
	letterPrefix = "splashdam-dlq-"
	// RedrivenFrom is topic/partition/offset of the dead letter that a record was.
	RedrivenFrom = "splashdam-redriven-from"

	timeLayout = "2006-01-02T15:04:05.000Z07:00" // RFC 3339
)

// Letter is what the headers of a dead letter say.
type Letter struct {
	Topic       string
	Partition   objectlog.Partition
	Offset      objectlog.Offset // NoOffset: they do not say where it was
	Group       string
	Deliveries  int32
	First, Last objectlog.Timestamp // failure; NoTimestamp: they do not say
	Reason      string              // the name of a Cause
	Error       string
}

// LetterOf is what the headers of the dead letter of a piece, which is one record, have to say.
func LetterOf(topic string, k Key, p Piece) Letter {
	return Letter{Topic: topic, Partition: k.Partition, Offset: p.From, Group: k.Group, Deliveries: p.Deliveries,
		First: p.Failure.First, Last: p.Failure.Last, Reason: p.Failure.Cause.String(), Error: p.Failure.Error}
}

// Write answers the record as a dead letter. Headers of an earlier one are gone.
func (l Letter) Write(r objectlog.Record) objectlog.Record {
	r.Headers = slices.DeleteFunc(slices.Clone(r.Headers), isLetterHeader)
	add := func(name, value string) {
		r.Headers = append(r.Headers, objectlog.Header{Key: letterPrefix + name, Value: []byte(value)})
	}
	add("topic", l.Topic)
	add("partition", strconv.Itoa(int(l.Partition)))
	add("offset", strconv.FormatInt(int64(l.Offset), 10))
	add("group", l.Group)
	add("deliveries", strconv.Itoa(int(l.Deliveries)))
	add("first-failure", timeText(l.First))
	add("last-failure", timeText(l.Last))
	add("reason", l.Reason)
	if l.Error != "" {
		add("error", l.Error)
	}
	return r
}

func timeText(t objectlog.Timestamp) string {
	return time.UnixMilli(int64(t)).UTC().Format(timeLayout)
}

var letterHeaders = [...]string{"topic", "partition", "offset", "group", "deliveries", "first-failure", "last-failure", "reason", "error"}

func isLetterHeader(h objectlog.Header) bool {
	name, ok := strings.CutPrefix(h.Key, letterPrefix)
	return ok && slices.Contains(letterHeaders[:], name)
}

// ReadLetter reads the headers of a dead letter. What they do not say, or not so that it can be read, is left empty.
func ReadLetter(r objectlog.Record) Letter {
	l := Letter{Offset: objectlog.NoOffset, First: objectlog.NoTimestamp, Last: objectlog.NoTimestamp}
	partition, offset := int64(-1), int64(-1)
	for _, h := range r.Headers {
		name, ok := strings.CutPrefix(h.Key, letterPrefix)
		if !ok {
			continue
		}
		value := string(h.Value)
		switch name {
		case "topic":
			l.Topic = value
		case "partition":
			partition = number(value, partitionsMax-1)
		case "offset":
			offset = number(value, int64(offsetMax))
		case "group":
			l.Group = value
		case "deliveries":
			l.Deliveries = int32(max(0, number(value, 1<<31-1)))
		case "first-failure":
			l.First = readTime(value)
		case "last-failure":
			l.Last = readTime(value)
		case "reason":
			l.Reason = value
		case "error":
			l.Error = value
		}
	}
	if l.Topic != "" && partition >= 0 && offset >= 0 {
		l.Partition, l.Offset = objectlog.Partition(partition), objectlog.Offset(offset)
	} else {
		l.Topic = ""
	}
	return l
}

// number answers -1 for what is none of [0, limit].
func number(s string, limit int64) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > limit {
		return -1
	}
	return n
}

func readTime(s string) objectlog.Timestamp {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.UnixMilli() < 0 {
		return objectlog.NoTimestamp
	}
	return objectlog.Timestamp(t.UnixMilli())
}

// Redriven answers a dead letter as the record that is sent to where it goes. From is its own topic.
func Redriven(r objectlog.Record, from string, k Key, p Piece) objectlog.Record {
	r.Headers = slices.DeleteFunc(slices.Clone(r.Headers), func(h objectlog.Header) bool { return isLetterHeader(h) || h.Key == RedrivenFrom })
	place := from + "/" + strconv.Itoa(int(k.Partition)) + "/" + strconv.FormatInt(int64(p.From), 10)
	r.Headers = append(r.Headers, objectlog.Header{Key: RedrivenFrom, Value: []byte(place)})
	if p.Move != nil && p.Move.HasEdited {
		r.Value = p.Move.Edited
	}
	return r
}
