package rpc

import (
	"bytes"
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"
)

// What is stored of a json payload must not depend on who writes it.
func FuzzJSONPayloadIsStoredAsEncodingJSONWritesIt(f *testing.F) {
	for _, seed := range []string{
		`null`, `true`, `[]`, `{}`, `0`, `-0`, `-0.0`, `1e20`, `1e-7`, `0.000001`, `123456789.25`, `9007199254740991`, `-9007199254740991`, `5e-324`, `1.5`,
		`""`, `"a\"b\\c"`, `"<&>"`, `"\u0000\b\f\n\r\t\u007f"`, `"\u2028\u2029–é日本"`, `"\ud83d\ude00"`,
		`{"b":[1,2.5,null,"<&>"],"a":{"d":true,"c":-7},"":{},"\"":[[]],"B":0,"é":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v := new(structpb.Value)
		if len(text) > 1<<12 || v.UnmarshalJSON(text) != nil {
			return
		}
		got, err := appendJSON([]byte("x"), v)
		if err != nil {
			return // a number that does not fit
		}
		var want bytes.Buffer
		encoder := json.NewEncoder(&want)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(v.AsInterface()); err != nil {
			t.Fatal(err)
		}
		if string(got)+"\n" != "x"+want.String() {
			t.Errorf("%q is stored as %q, want %q", text, got[1:], want.String())
		}
	})
}
