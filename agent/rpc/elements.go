package rpc

import (
	"bytes"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// elementsMax bounds the messages, list items and JSON values in one request. Such an element can be two bytes long and takes some hundred
// when it is decoded, so the request's size alone bounds nothing: a body of 32 KiB that unpacks to 32 MiB of empty batches would take 8 GiB.
const elementsMax = 1 << 20

var errElements = fmt.Errorf("more than %d messages, list items and values: send fewer at once", elementsMax)

// elements counts in protobuf's binary form, before anything is decoded. Bytes that are not a message are left for the
// parser to complain about.
func elements(b []byte, d protoreflect.MessageDescriptor) (int, error) {
	count := 0
	err := countElements(b, d, &count, 0)
	return count, err
}

func countElements(b []byte, d protoreflect.MessageDescriptor, count *int, depth int) error {
	if depth > depthMax {
		return errors.New("nested too deeply")
	}
	for fields := d.Fields(); len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return nil
		}
		value := b[:n]
		b = b[n:]
		field := fields.ByNumber(number)
		if field == nil || kind != protowire.BytesType || field.Message() == nil && !field.IsList() {
			continue
		}
		if *count++; *count > elementsMax {
			return errElements
		}
		if field.Message() == nil {
			continue
		}
		inner, _ := protowire.ConsumeBytes(value)
		if err := countElements(inner, field.Message(), count, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// elementsJSON counts in a JSON text: every object, every array and every comma outside of strings.
func elementsJSON(b []byte) (int, error) {
	count := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += stringEnd(b[i+1:]) + 1
		case '{', '[', ',':
			if count++; count > elementsMax {
				return count, errElements
			}
		}
	}
	return count, nil
}

// stringEnd finds the quote that ends the string which b begins in; the end of b when there is none.
func stringEnd(b []byte) int {
	for from := 0; ; {
		n := bytes.IndexByte(b[from:], '"')
		if n < 0 {
			return len(b)
		}
		end := from + n
		escapes := 0
		for end-escapes > from && b[end-escapes-1] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return end
		}
		from = end + 1
	}
}
