package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// integerLimit bounds the numbers of a json payload: from 2^53 on, neighbouring integers are one number to a
// protobuf Value, so what was meant is lost before anybody can look.
const integerLimit = 1 << 53

// payloadBytes is what is stored: nil for an absent payload, never nil for a present one.
func payloadBytes(p *v1.Payload) ([]byte, error) {
	if p == nil {
		return nil, nil
	}
	switch kind := p.Kind.(type) {
	case *v1.Payload_Data:
		return notNil(kind.Data), nil
	case *v1.Payload_Text:
		return notNil([]byte(kind.Text)), nil
	case *v1.Payload_Json:
		return appendJSON(nil, kind.Json)
	}
	return nil, errors.New("want one of data, text, json; leave the payload out for a null")
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// appendJSON appends the value as encoding/json writes it: compact, keys sorted. That package alone would want the value as maps and
// interfaces first; here it writes only the strings and numbers that are not plain.
func appendJSON(dst []byte, v *structpb.Value) ([]byte, error) {
	switch kind := v.GetKind().(type) {
	case *structpb.Value_NullValue:
		return append(dst, "null"...), nil
	case *structpb.Value_BoolValue:
		return strconv.AppendBool(dst, kind.BoolValue), nil
	case *structpb.Value_NumberValue:
		return appendJSONNumber(dst, kind.NumberValue)
	case *structpb.Value_StringValue:
		return appendJSONString(dst, kind.StringValue)
	case *structpb.Value_StructValue:
		fields := kind.StructValue.GetFields()
		return appendJSONList(dst, '{', '}', slices.Sorted(maps.Keys(fields)), func(dst []byte, key string) ([]byte, error) {
			dst, err := appendJSONString(dst, key)
			if err != nil {
				return dst, err
			}
			return appendJSON(append(dst, ':'), fields[key])
		})
	case *structpb.Value_ListValue:
		return appendJSONList(dst, '[', ']', kind.ListValue.GetValues(), appendJSON)
	}
	return dst, errors.New("json: a value without a kind")
}

func appendJSONList[T any](dst []byte, open, end byte, list []T, appendOne func([]byte, T) ([]byte, error)) ([]byte, error) {
	dst = append(dst, open)
	for i, element := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendOne(dst, element); err != nil {
			return dst, err
		}
	}
	return append(dst, end), nil
}

func appendJSONNumber(dst []byte, f float64) ([]byte, error) {
	if !(math.Abs(f) < integerLimit) { // so that NaN is refused too
		return dst, fmt.Errorf("json: the number %v is 2^53 or beyond and would lose digits: send the payload as text", f)
	}
	if n := int64(f); float64(n) == f && n != 0 { // 0 may be -0
		return strconv.AppendInt(dst, n, 10), nil
	}
	return appendEncoded(dst, f)
}

func appendJSONString(dst []byte, s string) ([]byte, error) {
	for i := range len(s) {
		// 0xe2 begins U+2028 and U+2029, which are escaped, among others.
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c == 0xe2 {
			return appendEncoded(dst, s)
		}
	}
	if !utf8.ValidString(s) {
		return appendEncoded(dst, s)
	}
	return append(append(append(dst, '"'), s...), '"'), nil
}

func appendEncoded(dst []byte, v any) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return dst, fmt.Errorf("json: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// recordsOf converts a producer's records. The error names the record and the field.
func recordsOf(list *v1.RecordList) ([]objectlog.Record, error) {
	records := make([]objectlog.Record, len(list.GetRecords()))
	for i, r := range list.GetRecords() {
		var err error
		if records[i], err = recordOf(r); err != nil {
			return nil, fmt.Errorf("records[%d].%w", i, err)
		}
	}
	return records, nil
}

func recordOf(r *v1.Record) (objectlog.Record, error) {
	out := objectlog.Record{Timestamp: objectlog.NoTimestamp}
	var err error
	if out.Key, err = payloadBytes(r.GetKey()); err != nil {
		return out, fmt.Errorf("key: %w", err)
	}
	if out.Value, err = payloadBytes(r.GetValue()); err != nil {
		return out, fmt.Errorf("value: %w", err)
	}
	for i, h := range r.GetHeaders() {
		value, err := payloadBytes(h.GetValue())
		if err != nil {
			return out, fmt.Errorf("headers[%d].value: %w", i, err)
		}
		out.Headers = append(out.Headers, objectlog.Header{Key: h.GetKey(), Value: value})
	}
	if r.GetTimestamp() != nil {
		if out.Timestamp, err = timestampOf(r.GetTimestamp()); err != nil {
			return out, fmt.Errorf("timestamp: %w", err)
		}
	}
	return out, nil
}

// timestampOf cuts to the millisecond.
func timestampOf(t *timestamppb.Timestamp) (objectlog.Timestamp, error) {
	if err := t.CheckValid(); err != nil {
		return 0, fmt.Errorf("seconds %d, nanos %d: outside the years 1 to 9999", t.GetSeconds(), t.GetNanos())
	}
	if t.GetSeconds() < 0 {
		return 0, fmt.Errorf("%s: before 1970", t.AsTime().Format(time.RFC3339))
	}
	return objectlog.Timestamp(t.AsTime().UnixMilli()), nil
}

// protoTime is nil for NoTimestamp.
func protoTime(t objectlog.Timestamp) *timestamppb.Timestamp {
	if t == objectlog.NoTimestamp {
		return nil
	}
	return timestamppb.New(time.UnixMilli(int64(t)))
}

func fetchedRecord(offset objectlog.Offset, r objectlog.Record) *v1.FetchedRecord {
	out := &v1.FetchedRecord{
		Offset:    new(int64(offset)),
		Key:       dataPayload(r.Key),
		Value:     dataPayload(r.Value),
		Timestamp: protoTime(r.Timestamp),
	}
	for _, h := range r.Headers {
		// A protobuf string is UTF-8; Kafka's clients mean the same by header names but nobody checks it.
		out.Headers = append(out.Headers, &v1.Header{Key: strings.ToValidUTF8(h.Key, "\uFFFD"), Value: dataPayload(h.Value)})
	}
	return out
}

func dataPayload(b []byte) *v1.Payload {
	if b == nil {
		return nil
	}
	return &v1.Payload{Kind: &v1.Payload_Data{Data: b}}
}

// present gives every payload of an answer the first kind that fits, for people who read JSON.
func present(answer proto.Message) {
	partitions := func(list []*v1.FetchResponse_Partition) {
		for _, p := range list {
			for _, r := range p.GetRecords() {
				presentRecord(r)
			}
		}
	}
	switch m := answer.(type) {
	case *v1.FetchResponse:
		partitions(m.Partitions)
	case *v1.TailResponse:
		partitions(m.Partitions)
	case *v1.PullResponse:
		for _, r := range m.Records {
			presentRecord(r.Record)
		}
	case *v1.ListDeadLettersResponse:
		for _, l := range m.DeadLetters {
			presentRecord(l.Record)
		}
	}
}

func presentRecord(r *v1.FetchedRecord) {
	presentPayload(r.Key)
	presentPayload(r.Value)
	for _, h := range r.Headers {
		presentPayload(h.Value)
	}
}

func presentPayload(p *v1.Payload) {
	data, ok := p.GetKind().(*v1.Payload_Data)
	if !ok || !utf8.Valid(data.Data) {
		return
	}
	if v, ok := structured(data.Data); ok {
		p.Kind = &v1.Payload_Json{Json: v}
		return
	}
	p.Kind = &v1.Payload_Text{Text: string(data.Data)}
}

// structured parses an object or array; false for anything else, and where a protobuf Value would not say the same.
func structured(b []byte) (*structpb.Value, bool) {
	trimmed := bytes.TrimLeft(b, " \t\r\n")
	if len(trimmed) == 0 || trimmed[0] != '{' && trimmed[0] != '[' || !json.Valid(b) || !numbersFit(b) {
		return nil, false
	}
	v := new(structpb.Value)
	if err := v.UnmarshalJSON(b); err != nil { // e.g. a key twice
		return nil, false
	}
	return v, true
}

// numbersFit says whether every number of the valid JSON text b survives as a float64.
func numbersFit(b []byte) bool {
	tokens := json.NewDecoder(bytes.NewReader(b))
	tokens.UseNumber()
	for {
		token, err := tokens.Token()
		if err != nil {
			return true // the end
		}
		number, ok := token.(json.Number)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(string(number), 64)
		if err != nil || math.Abs(f) >= integerLimit || len(number) > 17 {
			return false
		}
	}
}
