package dynamo

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestCheckRefusesATableThatIsUnfit(t *testing.T) {
	keys := func(pk, kind string) string {
		return `{"Table":{"TableName":"orders","TableStatus":"ACTIVE","AttributeDefinitions":[{"AttributeName":"` + pk + `","AttributeType":"` + kind + `"},
			{"AttributeName":"sk","AttributeType":"S"}],"KeySchema":[{"AttributeName":"` + pk + `","KeyType":"HASH"},{"AttributeName":"sk","KeyType":"RANGE"}]}}`
	}
	for name, test := range map[string]struct{ describe, ttl, want string }{
		"other key":       {describe: keys("id", "S"), want: "not pk (S) and sk (S)"},
		"number key":      {describe: keys("pk", "N"), want: "not pk (S) and sk (S)"},
		"no sort key":     {describe: `{"Table":{"TableName":"orders","TableStatus":"ACTIVE","AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"}],"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"}]}}`, want: "not pk (S) and sk (S)"},
		"creating":        {describe: strings.Replace(described(""), "ACTIVE", "CREATING", 1), want: "status is CREATING"},
		"deleting":        {describe: strings.Replace(described(""), "ACTIVE", "DELETING", 1), want: "status is DELETING"},
		"updating":        {describe: strings.Replace(described(""), "ACTIVE", "UPDATING", 1)},
		"another table":   {describe: strings.Replace(described(""), `"orders"`, `"other"`, 1), want: "describes no table of this name"},
		"replica":         {describe: described(`,"Replicas":[{"RegionName":"eu-west-1","ReplicaStatus":"ACTIVE"}]`), want: "remove the replicas"},
		"eventual":        {describe: described(`,"MultiRegionConsistency":"EVENTUAL","Replicas":[{"RegionName":"eu-west-1"}]`), want: "two writers can both win"},
		"witness":         {describe: described(`,"GlobalTableWitnesses":[{"RegionName":"eu-west-1"}]`), want: "global table"},
		"global version":  {describe: described(`,"GlobalTableVersion":"2017.11.29"`), want: "global table"},
		"strong replicas": {describe: described(`,"MultiRegionConsistency":"STRONG","Replicas":[{"RegionName":"eu-west-1"}]`)},
		"expiry":          {ttl: `{"TimeToLiveDescription":{"AttributeName":"until","TimeToLiveStatus":"ENABLED"}}`, want: `expire by attribute "until"`},
		"expiry soon":     {ttl: `{"TimeToLiveDescription":{"AttributeName":"until","TimeToLiveStatus":"ENABLING"}}`, want: "turn time to live off"},
		"no replica":      {describe: described(`,"Replicas":[]`)},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t)
			f.lie = func(action string, _ int, _ *http.Request, _ []byte) *reply {
				switch {
				case action == "DescribeTable" && test.describe != "":
					return &reply{status: 200, body: test.describe}
				case action == "DescribeTimeToLive" && test.ttl != "":
					return &reply{status: 200, body: test.ttl}
				}
				return nil
			}
			_, err := f.open(t, Config{}).Check(t.Context())
			wantError(t, err, test.want)
			if put := f.count("PutItem") > 0; put != (test.want == "") {
				t.Errorf("self-test done: %v", put)
			}
		})
	}
}

func wantError(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		if len(want) > 0 && want[0] != "" {
			t.Errorf("no error, want %q", want)
		}
		return
	}
	for _, w := range want {
		if w == "" || !strings.Contains(err.Error(), w) {
			t.Errorf("error %q, want %q in it", err, w)
		}
	}
}

func TestCheckOfAGoodTableAnswersItsIdentityAndLeavesNothing(t *testing.T) {
	for _, showOld := range []bool{true, false} {
		f := startFake(t)
		f.showOld = showOld
		id, err := f.open(t, Config{}).Check(t.Context())
		if err != nil || id != "11111111-2222-3333-4444-555555555555" || len(f.items) != 0 {
			t.Errorf("%q, %v, %d items left", id, err, len(f.items))
		}
		if n := f.count("PutItem"); n != 1+selfTestRounds*selfTestWriters {
			t.Errorf("%d puts", n)
		}
	}
}

func TestCheckPassesWhereTheEngineHasNoTimeToLive(t *testing.T) {
	f := startFake(t)
	f.lie = lieTo("DescribeTimeToLive", func(int) *reply { return fault(400, "UnknownOperationException", "") })
	if _, err := f.open(t, Config{}).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// item is the item of a request's body.
func itemOf(body []byte) attributes {
	var in struct{ Item attributes }
	_ = json.Unmarshal(body, &in)
	return in.Item
}

func TestSelfTestFindsATableThatLetsTwoWin(t *testing.T) {
	var once atomic.Bool
	says := map[string]string{
		"the condition is ignored": "64 of 64 writers won", "one put that does not fit its condition wins": "2 of 64 writers won",
		"losers see what was there before": "shown another item", "nobody wins": "none of 64", "reads are stale": "read does not show", "queries are stale": "query does not show",
	}
	lies := map[string]func(f *fake, action string, n int, body []byte) *reply{
		"the condition is ignored": func(f *fake, action string, n int, body []byte) *reply {
			if action == "PutItem" {
				return applied
			}
			return nil
		},
		"one put that does not fit its condition wins": func(f *fake, action string, n int, body []byte) *reply {
			if action != "PutItem" || n < 200 {
				return nil
			}
			a := f.serve(action, body)
			if a.status == 400 && once.CompareAndSwap(false, true) {
				f.force(itemOf(body))
				return applied
			}
			return a
		},
		"losers see what was there before": func(f *fake, action string, n int, body []byte) *reply {
			if action != "PutItem" || n != 100 {
				return nil
			}
			item := itemOf(body)
			item["value"]["B"] = "cml2YWw=" // a rival's, as if it had won
			return refusedBy(item)
		},
		"nobody wins": func(f *fake, action string, n int, body []byte) *reply {
			if action != "PutItem" || n < 66 {
				return nil
			}
			item := itemOf(body)
			item["rev"]["N"] = "99"
			return refusedBy(item)
		},
		"reads are stale": func(f *fake, action string, n int, body []byte) *reply {
			if action == "GetItem" {
				return absent
			}
			return nil
		},
		"queries are stale": func(f *fake, action string, n int, body []byte) *reply {
			if action == "Query" {
				return &reply{status: 200, body: `{"Items":[],"Count":0,"ConsumedCapacity":` + readUnits + `}`}
			}
			return nil
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			f := startFake(t)
			f.lie = func(action string, n int, _ *http.Request, body []byte) *reply { return lie(f, action, n, body) }
			_, err := f.open(t, Config{}).Check(t.Context())
			if !errors.Is(err, errNotConditional) {
				t.Errorf("%v, want errNotConditional", err)
			}
			wantError(t, err, says[name])
		})
	}
}

// Throttled or lost answers say nothing about the table: neither that it is unfit, nor that it is fit.
func TestSelfTestGoesOnAfterThrottlingAndCuts(t *testing.T) {
	f := startFake(t)
	f.lie = func(action string, n int, _ *http.Request, body []byte) *reply {
		switch {
		case action != "PutItem":
			return nil
		case n == 1, n == 10, n == 11, n == 68:
			return fault(400, "ThrottlingException", "Rate exceeded")
		case n == 140: // applied, or not: nobody hears of it
			f.serve(action, body)
			return &reply{cut: true}
		case n == 141:
			return &reply{cut: true}
		}
		return nil
	}
	if _, err := f.open(t, Config{}).Check(t.Context()); err != nil || len(f.items) != 0 {
		t.Errorf("%v, %d items left", err, len(f.items))
	}
}

func TestSelfTestPassesWhereOneAnswerInTwentyIsLost(t *testing.T) {
	f := startFake(t)
	f.lie = func(action string, n int, _ *http.Request, body []byte) *reply {
		if n%20 != 0 {
			return nil
		}
		f.serve(action, body)
		return &reply{cut: true}
	}
	if _, err := f.open(t, Config{}).Check(t.Context()); err != nil || len(f.items) != 0 {
		t.Errorf("%v, %d items left", err, len(f.items))
	}
}

func TestSelfTestPassesWhereRequestsArriveTwice(t *testing.T) {
	f := startFake(t)
	f.lie = func(action string, n int, _ *http.Request, body []byte) *reply {
		if action == "PutItem" && n%5 == 0 {
			f.serve(action, body)
		}
		return nil
	}
	if _, err := f.open(t, Config{}).Check(t.Context()); err != nil || len(f.items) != 0 {
		t.Errorf("%v, %d items left", err, len(f.items))
	}
}

// A whole round is lost on its way, and one of its puts arrives in the next: it must not look like a winner that nobody knows.
func TestSelfTestIsNotMisledByAPutOfAnEarlierRound(t *testing.T) {
	f := startFake(t)
	const second = 1 + selfTestWriters                   // puts before the second round
	const third = second + selfTestTries*selfTestWriters // and before what follows it
	var late atomic.Pointer[[]byte]
	f.lie = func(action string, n int, _ *http.Request, body []byte) *reply {
		switch {
		case action != "PutItem":
		case n > second && n <= third:
			late.Store(&body)
			return &reply{cut: true}
		case n == third+1, n == third+2:
			f.serve(action, *late.Load())
		}
		return nil
	}
	if _, err := f.open(t, Config{}).Check(t.Context()); err != nil || len(f.items) != 0 {
		t.Errorf("%v, %d items left", err, len(f.items))
	}
}

func TestSelfTestThatIsThrottledForeverSaysSo(t *testing.T) {
	f := startFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.lie = lieTo("PutItem", func(n int) *reply {
		if n == 3 {
			time.AfterFunc(pollEvery, cancel) // while it waits
		}
		return fault(400, "ProvisionedThroughputExceededException", "x")
	})
	_, err := f.open(t, Config{}).Check(ctx)
	if !isThrottled(err) || errors.Is(err, errNotConditional) {
		t.Errorf("%v, want throttled", err)
	}
}

func TestCheckNamesThePermissionThatIsMissing(t *testing.T) {
	for _, action := range []string{"DescribeTable", "DescribeTimeToLive", "PutItem", "GetItem", "Query", "DeleteItem"} {
		f := startFake(t)
		f.lie = lieTo(action, func(int) *reply { return fault(400, "AccessDeniedException", "User: x is not authorized") })
		_, err := f.open(t, Config{}).Check(t.Context())
		wantError(t, err, "AccessDeniedException", "the action dynamodb:"+action+" on table orders")
		if f.count(action) > selfTestWriters {
			t.Errorf("%s: %d requests", action, f.count(action))
		}
	}
}

func TestCreateWaitsForTheTableAndItsBackups(t *testing.T) {
	f := startFake(t)
	missing := fault(400, "ResourceNotFoundException", "Requested resource not found")
	f.lie = func(action string, n int, _ *http.Request, body []byte) *reply {
		switch {
		case action == "DescribeTable" && n <= 2: // before it is made, and just after
			return missing
		case action == "DescribeTable" && n == 3:
			return &reply{status: 200, body: strings.Replace(described(""), "ACTIVE", "CREATING", 1)}
		case action == "DescribeTable":
			return &reply{status: 200, body: described(`,"DeletionProtectionEnabled":true`)}
		case action == "CreateTable" && n == 1: // made, but nobody hears of it
			return &reply{cut: true}
		case action == "CreateTable":
			return fault(400, "ResourceInUseException", "Table already exists")
		case action == "UpdateContinuousBackups" && n == 1:
			return fault(400, "ContinuousBackupsUnavailableException", "Backups are being enabled")
		}
		return &reply{status: 200, body: `{}`}
	}
	warnings, err := f.open(t, Config{}).Create(t.Context())
	if err != nil || len(warnings) != 0 {
		t.Errorf("%q, %v", warnings, err)
	}
	if n := f.count("UpdateContinuousBackups"); n != 2 {
		t.Errorf("%d requests for backups, want 2", n)
	}
}

func TestCreateLeavesATableThatExistsAsItIs(t *testing.T) {
	f := startFake(t)
	warnings, err := f.open(t, Config{}).Create(t.Context())
	if err != nil || len(warnings) != 0 || f.count("CreateTable") != 0 || f.count("UpdateContinuousBackups") != 0 {
		t.Errorf("%q, %v, %v", warnings, err, f.sent)
	}
}

func TestCreateDoesNotWaitForATableWhoseSettingsAreBeingChanged(t *testing.T) {
	f := startFake(t)
	f.lie = lieTo("DescribeTable", func(int) *reply {
		return &reply{status: 200, body: strings.Replace(described(""), "ACTIVE", "UPDATING", 1)}
	})
	ctx, cancel := contextFor(t, 5*time.Second)
	defer cancel()
	if _, err := f.open(t, Config{}).Create(ctx); err != nil || f.count("DescribeTable") != 2 {
		t.Errorf("%v after %d requests", err, f.count("DescribeTable"))
	}
}

func TestCreateSaysWhatKeepsItFromProtectingTheTable(t *testing.T) {
	f := startFake(t)
	f.lie = func(action string, n int, _ *http.Request, body []byte) *reply {
		switch {
		case action == "DescribeTable" && n == 1:
			return fault(400, "ResourceNotFoundException", "x")
		case action == "CreateTable" && strings.Contains(string(body), "DeletionProtectionEnabled"):
			return fault(400, "ValidationException", "unknown parameter")
		case action == "UpdateContinuousBackups":
			return fault(400, "AccessDeniedException", "not authorized")
		}
		return nil
	}
	warnings, err := f.open(t, Config{}).Create(t.Context())
	if err != nil || len(warnings) != 2 || !strings.Contains(warnings[0], "no deletion protection") || !strings.Contains(warnings[1], "dynamodb:UpdateContinuousBackups") {
		t.Errorf("%q, %v", warnings, err)
	}
}

func TestCreateThatIsNotAllowedNamesThePermission(t *testing.T) {
	f := startFake(t)
	f.lie = func(action string, n int, _ *http.Request, body []byte) *reply {
		if action == "CreateTable" {
			return fault(400, "AccessDeniedException", "not authorized")
		}
		return fault(400, "ResourceNotFoundException", "x")
	}
	_, err := f.open(t, Config{}).Create(t.Context())
	wantError(t, err, "dynamodb:CreateTable")
	if n := f.count("CreateTable"); n != 1 {
		t.Errorf("%d requests, want one", n)
	}
}
