package queues

import (
	"reflect"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

func headers(pairs ...string) []objectlog.Header {
	var all []objectlog.Header
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, objectlog.Header{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return all
}

func TestDeadLetterSaysWhereItWasAndWhatWentWrong(t *testing.T) {
	k := Key{Partition: 3, Group: "email"}
	p := Piece{From: 42, To: 43, Phase: Failed, Deliveries: 5, Failure: Failure{First: 1_700_000_000_001, Last: 1_700_000_060_000, Cause: CauseRejected, Error: "no such user"}}
	was := objectlog.Record{Key: []byte("k"), Value: []byte("v"), Timestamp: 7,
		Headers: headers("trace", "1", "splashdam-dlq-group", "old", "splashdam-dlq-error", "old", RedrivenFrom, "a/0/1", "splashdam-dlq-own", "2")}
	kept := was.Headers[1].Key
	l := LetterOf("orders", k, p)
	got := l.Write(was)
	want := objectlog.Record{Key: []byte("k"), Value: []byte("v"), Timestamp: 7, Headers: headers("trace", "1", RedrivenFrom, "a/0/1", "splashdam-dlq-own", "2",
		"splashdam-dlq-topic", "orders", "splashdam-dlq-partition", "3", "splashdam-dlq-offset", "42", "splashdam-dlq-group", "email", "splashdam-dlq-deliveries", "5",
		"splashdam-dlq-first-failure", "2023-11-14T22:13:20.001Z", "splashdam-dlq-last-failure", "2023-11-14T22:14:20.000Z", "splashdam-dlq-reason", "rejected",
		"splashdam-dlq-error", "no such user")}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if was.Headers[1].Key != kept {
		t.Error("the record that it was made of is another one now")
	}
	if read := ReadLetter(got); read != l {
		t.Errorf("read back %+v, want %+v", read, l)
	}
	l.Error = ""
	if got := l.Write(was); len(got.Headers) != len(want.Headers)-1 {
		t.Errorf("a letter without an error has headers %q", got.Headers)
	}
}

func TestRedrivenRecordSaysWhereItWasADeadLetter(t *testing.T) {
	was := Letter{Topic: "orders", First: 1, Last: 2}.Write(objectlog.Record{Value: []byte("v"), Headers: headers("trace", "1", RedrivenFrom, "x/0/1")})
	p := Piece{From: 9, To: 10, Phase: Moving, Move: &Move{}}
	want := objectlog.Record{Value: []byte("v"), Headers: headers("trace", "1", RedrivenFrom, "orders-dlq/2/9")}
	if got := Redriven(was, "orders-dlq", Key{Partition: 2}, p); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	p.Move.Edited, p.Move.HasEdited = []byte("mended"), true
	if got := Redriven(was, "orders-dlq", Key{Partition: 2}, p); string(got.Value) != "mended" {
		t.Errorf("edited to %q", got.Value)
	}
}

func TestWhatHeadersDoNotSayIsLeftEmpty(t *testing.T) {
	none := Letter{Offset: objectlog.NoOffset, First: objectlog.NoTimestamp, Last: objectlog.NoTimestamp}
	for _, h := range [][]objectlog.Header{
		nil,
		headers("splashdam-dlq-topic", "orders", "splashdam-dlq-partition", "3"),
		headers("splashdam-dlq-topic", "orders", "splashdam-dlq-partition", "-3", "splashdam-dlq-offset", "4"),
		headers("splashdam-dlq-topic", "orders", "splashdam-dlq-partition", "100000", "splashdam-dlq-offset", "4"),
		headers("splashdam-dlq-partition", "3", "splashdam-dlq-offset", "4", "splashdam-dlq-last-failure", "yesterday", "splashdam-dlq-deliveries", "many"),
		headers("splashdam-dlq-topic", "orders", "splashdam-dlq-partition", "3", "splashdam-dlq-offset", "9223372036854775807"),
	} {
		if got := ReadLetter(objectlog.Record{Headers: h}); got != none {
			t.Errorf("%q: read %+v", h, got)
		}
	}
}
