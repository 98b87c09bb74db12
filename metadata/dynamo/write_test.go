package dynamo

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

var update = flag.Bool("update", false, "write testdata anew")

func travelling(t testing.TB, item map[string]types.AttributeValue) attributes {
	out := attributes{}
	for name, value := range item {
		switch v := value.(type) {
		case *types.AttributeValueMemberS:
			out[name] = map[string]string{"S": v.Value}
		case *types.AttributeValueMemberN:
			out[name] = map[string]string{"N": v.Value}
		case *types.AttributeValueMemberB:
			out[name] = map[string]string{"B": base64.StdEncoding.EncodeToString(v.Value)}
		default:
			t.Fatalf("attribute %s is a %T", name, value)
		}
	}
	return out
}

// A refusal that shows no item is followed by one read, and what that read can mislead about is unknown.
func TestRefusalWithoutItemIsDecidedByOneRead(t *testing.T) {
	old, won, later := slotItem(-4095, "old"), slotItem(1, "winner"), slotItem(4097, "a lap later")
	for name, test := range map[string]struct {
		there *metadata.Item
		cond  metadata.If
		read  *reply // in place of what is there
		want  metadata.Outcome
	}{
		"refused by what is there":                    {there: &won, cond: metadata.RevIs(-4095), want: metadata.Refused},
		"refused by what came later":                  {there: &later, cond: metadata.RevIs(-4095), want: metadata.Refused},
		"the read shows what the condition wants":     {there: &old, cond: metadata.RevIs(-4095), want: metadata.Unknown},
		"absent, a revision was wanted":               {cond: metadata.RevIs(-4095), want: metadata.Refused},
		"absent, absence was wanted":                  {cond: metadata.If{}, want: metadata.Unknown},
		"there, absence was wanted":                   {there: &won, cond: metadata.If{}, want: metadata.Refused},
		"the read fails":                              {there: &won, cond: metadata.RevIs(-4095), read: fault(500, "InternalServerError", "x"), want: metadata.Unknown},
		"the read is throttled":                       {there: &won, cond: metadata.RevIs(-4095), read: fault(400, "ThrottlingException", "x"), want: metadata.Unknown},
		"the read is damaged":                         {there: &won, cond: metadata.RevIs(-4095), read: &reply{status: 200, body: `{"Item":{"pk":{"S":"ring#r#1"}}}`}, want: metadata.Unknown},
		"the read shows another key":                  {there: &won, cond: metadata.RevIs(-4095), read: &reply{status: 200, body: `{"Item":{"pk":{"S":"x"},"sk":{"S":"y"},"rev":{"N":"1"},"value":{"B":""}}}`}, want: metadata.Unknown},
		"the read is cut":                             {there: &won, cond: metadata.RevIs(-4095), read: &reply{cut: true}, want: metadata.Unknown},
		"the read answers an object without an item":  {there: &won, cond: metadata.If{}, read: absent, want: metadata.Unknown},
		"the read answers an empty object":            {there: &won, cond: metadata.RevIs(-4095), read: &reply{status: 200, body: `{}`}, want: metadata.Unknown},
		"the read answers the item with no attribute": {there: &won, cond: metadata.RevIs(5), read: &reply{status: 200, body: `{"Item":{}}`}, want: metadata.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			for method, write := range writes {
				f := startFake(t)
				f.lie = func(action string, n int, _ *http.Request, _ []byte) *reply {
					if action == "GetItem" {
						return test.read
					}
					return fault(400, "ConditionalCheckFailedException", "The conditional request failed")
				}
				table := f.open(t, Config{})
				if test.there != nil {
					f.hold(t, *test.there)
				}
				r := write(table, test.cond)
				if r.Outcome != test.want || (r.Err == nil) != (test.want == metadata.Refused) {
					t.Errorf("%s: %+v, want outcome %d", method, r, test.want)
				}
				if test.want == metadata.Refused && test.there != nil && !sameItem(r.Current, test.there) || test.want == metadata.Unknown && r.Current != nil {
					t.Errorf("%s: current %+v, want %+v", method, r.Current, test.there)
				}
				if writes, reads := f.count(method), f.count("GetItem"); writes != 1 || reads != 1 {
					t.Errorf("%s: %d writes and %d reads, want one of each", method, writes, reads)
				}
			}
		})
	}
}

var writes = map[string]func(*Table, metadata.If) metadata.PutResult{
	"PutItem": func(t *Table, cond metadata.If) metadata.PutResult {
		return t.Put(context.Background(), slotItem(1, "mine"), cond)
	},
	"DeleteItem": func(t *Table, cond metadata.If) metadata.PutResult {
		return t.Delete(context.Background(), slotKey, cond)
	},
}

func TestRefusalShowsTheItemInOneRequest(t *testing.T) {
	for method, write := range writes {
		f := startFake(t)
		table := f.open(t, Config{})
		there := slotItem(9, "there")
		f.hold(t, there)
		for _, cond := range []metadata.If{{}, metadata.RevIs(8)} {
			if r := write(table, cond); r.Outcome != metadata.Refused || !sameItem(r.Current, &there) {
				t.Errorf("%s if %+v: %+v", method, cond, r)
			}
		}
		if n := f.count("GetItem"); n != 0 {
			t.Errorf("%s: %d reads, want none", method, n)
		}
	}
}

func TestRefusalByAnItemThatFitsTheConditionIsUnknown(t *testing.T) {
	for method, write := range writes {
		f := startFake(t)
		f.lie = always(&reply{status: 400, body: `{"__type":"ConditionalCheckFailedException","Item":{"pk":{"S":"ring#r#1"},"sk":{"S":"000001"},"rev":{"N":"7"},"value":{"B":""}}}`})
		if r := write(f.open(t, Config{}), metadata.RevIs(7)); r.Outcome != metadata.Unknown || !errors.Is(r.Err, errContradiction) {
			t.Errorf("%s: %+v, want Unknown", method, r)
		}
	}
}

func TestThrottlingIsUnknownAndSaysSo(t *testing.T) {
	for _, code := range []string{"ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"} {
		f := startFake(t)
		f.lie = always(fault(400, code, "Rate exceeded"))
		table := f.open(t, Config{})
		for method, write := range writes {
			if r := write(table, metadata.RevIs(1)); r.Outcome != metadata.Unknown || !errors.Is(r.Err, objectlog.ErrThrottled) {
				t.Errorf("%s, %s: %+v", method, code, r)
			}
			if n := f.count(method); n != 1 {
				t.Errorf("%s, %s: %d requests, want one", method, code, n)
			}
		}
		if _, _, err := table.Get(t.Context(), slotKey); !errors.Is(err, objectlog.ErrThrottled) {
			t.Errorf("get, %s: %v", code, err)
		}
		if _, err := table.Query(t.Context(), slotKey.PK, "", 1); !errors.Is(err, objectlog.ErrThrottled) {
			t.Errorf("query, %s: %v", code, err)
		}
		ctx, cancel := contextFor(t, 500*time.Millisecond)
		defer cancel()
		if r := table.CreateAll(ctx, []metadata.Item{slotItem(1, "x")}); r.Outcome != metadata.Unknown || !errors.Is(r.Err, objectlog.ErrThrottled) {
			t.Errorf("create all, %s: %+v", code, r)
		}
	}
}

// Whatever is not a whole answer of DynamoDB decides nothing, and no read takes it for an absent item. Nothing is sent twice.
func TestEveryOtherAnswerIsUnknown(t *testing.T) {
	html := map[string]string{"Content-Type": "text/html", "X-Amz-Crc32": ""}
	for name, a := range map[string]*reply{
		"server error":          fault(500, "InternalServerError", "x"),
		"unavailable":           {status: 503, body: "<html>busy</html>", header: html},
		"empty 500":             {status: 500},
		"page with 200":         {status: 200, body: "<html>log in</html>", header: html},
		"page with 404":         {status: 404, body: "<html>not here</html>", header: html},
		"empty 200":             {status: 200},
		"list":                  {status: 200, body: "[]"},
		"accepted":              {status: 202, body: "{}"},
		"redirect":              {status: 307, header: map[string]string{"Location": "/elsewhere"}},
		"error without a code":  {status: 400, body: `{"message":"no"}`},
		"unknown error":         fault(400, "NewException", "x"),
		"transaction conflict":  fault(400, "TransactionConflictException", "x"),
		"replica conflict":      fault(400, "ReplicatedWriteConflictException", "x"),
		"validation":            fault(400, "ValidationException", "x"),
		"empty object":          {status: 200, body: `{}`},
		"error with 200":        {status: 200, body: `{"error":"upstream rate limited, try later"}`},
		"type with 200":         {status: 200, body: `{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"x"}`},
		"throttled with 200":    {status: 200, body: `{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"x"}`},
		"error beside units":    {status: 200, body: `{"ConsumedCapacity":` + wroteUnits + `,"error":"x"}`},
		"units of another":      {status: 200, body: `{"ConsumedCapacity":{"CapacityUnits":1,"TableName":"other"}}`},
		"no units":              {status: 200, body: `{"ConsumedCapacity":{"TableName":"orders"}}`},
		"two objects":           {status: 200, body: applied.body + applied.body},
		"cut":                   {cut: true},
		"cut in the answer":     {status: 200, body: `{"Attributes":{}}`, stop: 8},
		"cut in a short answer": {status: 200, body: applied.body + `          `, stop: len(applied.body)},
		"half of the JSON":      {status: 200, body: `{"Attributes":{"pk"`},
		"wrong checksum":        {status: 200, body: applied.body, header: map[string]string{"X-Amz-Crc32": "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t)
			f.lie = always(a)
			table := f.open(t, Config{})
			for method, write := range writes {
				if r := write(table, metadata.RevIs(1)); r.Outcome != metadata.Unknown || r.Err == nil || errors.Is(r.Err, objectlog.ErrThrottled) {
					t.Errorf("%s: %+v", method, r)
				}
				if n := f.count(method); n != 1 {
					t.Errorf("%s: %d requests, want one", method, n)
				}
			}
			ctx, cancel := contextFor(t, 500*time.Millisecond)
			defer cancel()
			if r := table.CreateAll(ctx, []metadata.Item{slotItem(1, "x")}); r.Outcome != metadata.Unknown || r.Err == nil {
				t.Errorf("create all: %+v", r)
			}
			if _, _, err := table.Get(t.Context(), slotKey); err == nil {
				t.Error("get: no error")
			}
			if _, err := table.Query(t.Context(), slotKey.PK, "", 1); err == nil {
				t.Error("query: no error")
			}
		})
	}
}

func TestAppliedPutWhoseAnswerIsLostIsUnknownThenItsOwnRefusal(t *testing.T) {
	f := startFake(t)
	f.lie = func(action string, n int, _ *http.Request, body []byte) *reply {
		if action == "PutItem" && n == 1 {
			f.serve(action, body)
			return &reply{cut: true}
		}
		return nil
	}
	table, mine := f.open(t, Config{}), slotItem(1, "mine")
	if r := table.Put(t.Context(), mine, metadata.If{}); r.Outcome != metadata.Unknown {
		t.Errorf("first: %+v", r)
	}
	if r := table.Put(t.Context(), mine, metadata.If{}); r.Outcome != metadata.Refused || !sameItem(r.Current, &mine) {
		t.Errorf("second: %+v", r)
	}
	if n := f.count("PutItem"); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestPutWithoutAnswerEndsAtItsDeadline(t *testing.T) {
	f := startFake(t)
	release := make(chan struct{})
	defer close(release)
	f.lie = func(string, int, *http.Request, []byte) *reply {
		<-release
		return &reply{cut: true}
	}
	table := f.open(t, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := table.Put(ctx, slotItem(1, "x"), metadata.If{})
	if r.Outcome != metadata.Unknown || !errors.Is(r.Err, context.DeadlineExceeded) || !strings.Contains(r.Err.Error(), "no answer in time") {
		t.Errorf("%+v", r)
	}
}

func TestPutThatCannotBeStoredIsNotSent(t *testing.T) {
	f := startFake(t)
	table := f.open(t, Config{})
	for _, item := range []metadata.Item{
		{Key: slotKey, Value: make([]byte, valueBytesMax+1)}, {Key: metadata.Key{SK: "x"}}, {Key: metadata.Key{PK: "x"}},
		{Key: metadata.Key{PK: strings.Repeat("x", pkBytesMax+1), SK: "x"}}, {Key: metadata.Key{PK: "x", SK: strings.Repeat("x", skBytesMax+1)}},
	} {
		if r := table.Put(t.Context(), item, metadata.If{}); r.Outcome != metadata.Unknown || r.Err == nil {
			t.Errorf("%+v", r)
		}
	}
	if n := f.count("PutItem"); n != 0 {
		t.Errorf("%d requests, want none", n)
	}
}

// The requests and answers of a put, a put that is refused with its item, and one that is refused without.
func TestRequestsOfAPutAreTheReviewedOnes(t *testing.T) {
	f := startFake(t)
	table := f.open(t, Config{})
	outcome := func(r metadata.PutResult, want metadata.Outcome) {
		t.Helper()
		if r.Outcome != want {
			t.Fatalf("%+v, want %d", r, want)
		}
	}
	var b strings.Builder
	step := func(name string) {
		b.WriteString("# " + name + "\n" + strings.Join(f.wire, "") + "\n")
		f.wire = nil
	}
	outcome(table.Put(t.Context(), slotItem(-4095, ""), metadata.If{}), metadata.Applied)
	step("put if absent")
	outcome(table.Put(t.Context(), slotItem(1, "entry 1"), metadata.RevIs(-4095)), metadata.Applied)
	step("put if the revision is −4095")
	outcome(table.Put(t.Context(), slotItem(1, "entry 1"), metadata.RevIs(-4095)), metadata.Refused)
	step("the same again, refused with the item")
	f.showOld = false
	outcome(table.Put(t.Context(), slotItem(1, "entry 1"), metadata.RevIs(-4095)), metadata.Refused)
	step("the same again, refused without the item")
	outcome(table.Delete(t.Context(), slotKey, metadata.RevIs(1)), metadata.Applied)
	step("delete if the revision is 1")

	const golden = "testdata/transcript.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("requests changed; if that is meant, run with -update:\n%s", b.String())
	}
}
