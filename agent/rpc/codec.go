package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/splashdam/splashdam/agent"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// A codec's error reaches the client without detail, and no interceptor sees it. So the codecs here don't fail on a
// message that they can't read: they leave it empty but for the reason, in an unknown field of this number, and
// boundary refuses it with everything an error must carry. A client that sends the field only refuses itself.
const refusalField = protowire.MaxValidNumber

func refuse(m proto.Message, reason string) {
	proto.Reset(m)
	field := protowire.AppendTag(nil, refusalField, protowire.BytesType)
	m.ProtoReflect().SetUnknown(protowire.AppendString(field, reason))
}

// refusedBy reads what refuse wrote.
func refusedBy(m proto.Message) error {
	unknown := m.ProtoReflect().GetUnknown()
	number, kind, n := protowire.ConsumeTag(unknown)
	if n < 0 || number != refusalField || kind != protowire.BytesType {
		return nil
	}
	reason, _ := protowire.ConsumeString(unknown[n:])
	return refusal{strings.ToValidUTF8(reason, "\uFFFD"), agent.InvalidRequest}
}

// binaryCodec is protobuf's binary form.
type binaryCodec struct{}

func (binaryCodec) Name() string { return "proto" }

func (binaryCodec) IsBinary() bool { return true }

func (c binaryCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

func (binaryCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, err := protoMessage(message)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, m)
}

func (binaryCodec) MarshalStable(message any) ([]byte, error) {
	m, err := protoMessage(message)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

func (binaryCodec) Unmarshal(b []byte, message any) error {
	m, err := protoMessage(message)
	if err != nil {
		return err
	}
	if err = proto.Unmarshal(b, m); err != nil {
		refuse(m, unreadableMessage(m, err))
	}
	return nil
}

// jsonCodec is protobuf's JSON form, strict: unknown fields are refused, by name. Payloads that are read get the
// first kind that fits, and Start.point and verdicts have short names.
type jsonCodec struct{ name string }

func (c jsonCodec) Name() string { return c.name }

func (jsonCodec) IsBinary() bool { return false }

func (c jsonCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

func (jsonCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	m, err := protoMessage(message)
	if err != nil {
		return nil, err
	}
	present(m)
	return protojson.MarshalOptions{}.MarshalAppend(dst, m)
}

func (c jsonCodec) MarshalStable(message any) ([]byte, error) {
	b, err := c.Marshal(message)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Compact(&out, b)
	return out.Bytes(), err
}

func (jsonCodec) Unmarshal(b []byte, message any) error {
	m, err := protoMessage(message)
	if err != nil {
		return err
	}
	if err = unmarshalJSON(b, m); err != nil {
		refuse(m, unreadableMessage(m, err))
	}
	return nil
}

func unmarshalJSON(b []byte, m proto.Message) error {
	if len(b) == 0 {
		return errors.New(`the body is empty: send at least {}`)
	}
	switch m.(type) {
	case *v1.FetchRequest, *v1.TailRequest, *v1.ListOffsetsRequest:
		b = lengthenPoints(b, "partitions", "[]", "start", "point")
	case *v1.ResetOffsetsRequest, *v1.PullRequest:
		b = lengthenPoints(b, "start", "point")
	case *v1.AcknowledgeRequest:
		b = lengthenVerdicts(b, "items", "[]", "verdict")
	}
	return protojson.Unmarshal(b, m)
}

func protoMessage(message any) (proto.Message, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a protobuf message", message)
	}
	return m, nil
}

// unreadableMessage names the request and drops the library's prefix, whose space varies between builds.
func unreadableMessage(m proto.Message, err error) string {
	cause := strings.TrimPrefix(err.Error(), "proto:")
	return fmt.Sprintf("decode %s: %s", m.ProtoReflect().Descriptor().Name(), strings.TrimLeft(cause, " \u00a0"))
}

// lengthenPoints replaces the short names of the point at the path by those of the schema.
func lengthenPoints(b []byte, path ...string) []byte {
	return lengthen(b, "START_POINT_", []string{"EARLIEST", "LATEST"}, path)
}

// lengthenVerdicts does the same with verdicts.
func lengthenVerdicts(b []byte, path ...string) []byte {
	return lengthen(b, "VERDICT_", []string{"ACCEPT", "RELEASE", "REJECT", "EXTEND", "RETURN"}, path)
}

// lengthen puts the prefix before the short names of an enum at the path, in place of the value only. What isn't JSON is left for the parser to
// complain about.
func lengthen(b []byte, prefix string, short, path []string) []byte {
	if !slices.ContainsFunc(short, func(name string) bool { return bytes.Contains(b, []byte(`"`+name+`"`)) }) {
		return b
	}
	p := nameFinder{tokens: json.NewDecoder(bytes.NewReader(b)), body: b, names: short, path: path}
	p.tokens.UseNumber()
	_ = p.value(nil) // an error is the parser's to tell, in its words, behind what was found so far
	long := make([]byte, 0, len(b)+len(p.found)*len(prefix))
	copied := 0
	for _, at := range p.found {
		long = append(append(long, b[copied:at]...), prefix...)
		copied = at
	}
	return append(long, b[copied:]...)
}

// nameFinder walks a JSON text for the places behind the opening quote of short names.
type nameFinder struct {
	tokens *json.Decoder
	body   []byte
	names  []string // that are looked for
	path   []string // of what is looked for
	found  []int
	depth  int // of the value being read
}

// depthMax is the parser's own bound.
const depthMax = 10_000

// value reads one value, which lies at path.
func (p *nameFinder) value(path []string) error {
	token, err := p.tokens.Token()
	if err != nil {
		return err
	}
	if p.depth++; p.depth > depthMax {
		return errors.New("nested too deeply")
	}
	defer func() { p.depth-- }()
	switch token {
	case json.Delim('{'):
		return p.members(path)
	case json.Delim('['):
		for p.tokens.More() {
			if err := p.value(p.step(path, "[]")); err != nil {
				return err
			}
		}
		_, err = p.tokens.Token()
		return err
	}
	if name, ok := token.(string); ok && slices.Equal(path, p.path) && slices.Contains(p.names, name) {
		start := int(p.tokens.InputOffset()) - len(name) - len(`""`)
		if start >= 0 && p.body[start] == '"' {
			p.found = append(p.found, start+1)
		}
	}
	return nil
}

func (p *nameFinder) members(path []string) error {
	for p.tokens.More() {
		key, err := p.tokens.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string)
		if err := p.value(p.step(path, name)); err != nil {
			return err
		}
	}
	_, err := p.tokens.Token()
	return err
}

// offPath is no beginning of a path that is looked for, and stays so.
var offPath = []string{""}

func (p *nameFinder) step(path []string, name string) []string {
	if len(path) >= len(p.path) || p.path[len(path)] != name || !slices.Equal(path, p.path[:len(path)]) {
		return offPath
	}
	return p.path[:len(path)+1]
}
