package faultproxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/quick"
)

func TestFirstRuleThatMatchesWins(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL,
		Rule{Match{Kind: "get", Count: 1}, Action{}}, // the first passes whatever follows
		Rule{Match{Kind: "get", Every: 2}, Action{Do: Status, Status: 503}},
		Rule{Match{KeyContains: "k"}, Action{Do: Status, Status: 500}})
	var got []string
	for range 5 {
		got = append(got, do(t, c, "GET", p.Endpoint+"/b/k", "")[:3])
	}
	same(t, "answers", strings.Join(got, " "), "200 500 503 500 503")
	same(t, "faults", len(p.Faults()), 4)
}

func TestASeedRepeatsItsDecisions(t *testing.T) {
	list := []Rule{
		{Match{Kind: "put", Probability: 0.3}, Action{Do: DropReply, JitterMillis: 100}},
		{Match{Probability: 0.5, Count: 40}, Action{Do: FlipBit}},
	}
	decide := func(seed uint64) string {
		r := rules{seed: seed}
		if err := r.set(list); err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for i := range 200 {
			d, found := r.decide([]string{"put", "get"}[i%2], "k")
			fmt.Fprintln(&all, found, d.String(), d.draw)
		}
		return all.String()
	}
	repeats := func(seed uint64) bool {
		once, again := decide(seed), decide(seed)
		return once == again && once != decide(seed+1)
	}
	if err := quick.Check(repeats, &quick.Config{MaxCount: 20}); err != nil {
		t.Error(err)
	}
}

func TestWrongRulesAreRefusedAndChangeNothing(t *testing.T) {
	s := newStore(t)
	p, _ := front(t, s.URL, Rule{Action: Action{Do: HTML}})
	for _, rule := range []Rule{
		{Match: Match{Kind: "putt"}},
		{Match: Match{Nth: -1}},
		{Match: Match{Probability: 1.5}},
		{Action: Action{Do: "explode"}},
		{Action: Action{Do: Status}},
		{Action: Action{Do: Status, Status: 99}},
		{Action: Action{Do: Status, Error: "NoSuchError"}},
		{Action: Action{Do: DropReply, Status: 500}},
		{Action: Action{Do: Twice, Hang: true}},
		{Action: Action{Do: Unprocessed}},
	} {
		if err := p.SetRules(rule); err == nil {
			t.Errorf("%+v was taken", rule)
		}
	}
	if list := p.rules.current(); len(list) != 1 || list[0].Action.Do != HTML {
		t.Errorf("rules now: %+v", list)
	}
}

func TestKindsAndKeysOfRequests(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL, Rule{Action: Action{DelayMillis: 1}}) // a fault, so that it is noted
	for _, test := range []struct{ method, path, body, header, want string }{
		{"PUT", "/b/seg/a%2Fb", "v", "", "put seg/a/b"},
		{"GET", "/b/k?partNumber=1", "", "", "get k"},
		{"HEAD", "/b/k", "", "", "head k"},
		{"DELETE", "/b/k", "", "", "delete k"},
		{"GET", "/b/?list-type=2&prefix=seg%2F", "", "", "list seg/"},
		{"GET", "/b", "", "", "list "},
		{"GET", "/b/?lifecycle=", "", "", "bucket b"},
		{"GET", "/", "", "", "bucket "},
		{"HEAD", "/b", "", "", "bucket b"},
		{"PUT", "/b/", "", "", "bucket b"},
		{"POST", "/b/?delete=", "x", "", "multi-delete b"},
		{"PUT", "/b/k", "", "X-Amz-Copy-Source: /b/o", "copy k"},
		{"POST", "/b/k?uploads=", "", "", "create-upload k"},
		{"PUT", "/b/k?partNumber=1&uploadId=u", "x", "", "upload-part k"},
		{"POST", "/b/k?uploadId=u", "x", "", "complete-upload k"},
		{"DELETE", "/b/k?uploadId=u", "", "", "abort-upload k"},
		{"POST", "/", putItem("ring/1"), "X-Amz-Target: D.PutItem", "PutItem ring/1/0"},
		{"POST", "/", `{"Key":{"pk":{"S":"p"},"sk":{"S":"s"}}}`, "X-Amz-Target: D.GetItem", "GetItem p/s"},
		{"POST", "/", `{"ExpressionAttributeValues":{":0":{"S":"p"},":1":{"S":"s"},":2":{"N":"1"}}}`, "X-Amz-Target: D.Query", "Query p s"},
		{"POST", "/", `{"RequestItems":{"t":{"Keys":[{"pk":{"S":"p"},"sk":{"S":"s"}}]}}}`, "X-Amz-Target: D.BatchGetItem", "BatchGetItem p/s"},
		{"POST", "/", `{"TableName":"t"}`, "X-Amz-Target: D.DescribeTable", "DescribeTable "},
		{"POST", "/", `no JSON`, "X-Amz-Target: D.PutItem", "PutItem "},
	} {
		name, value, _ := strings.Cut(test.header, ": ")
		do(t, c, test.method, p.Endpoint+test.path, test.body, []string{name, value}[:2*min(1, len(name))]...)
		faults := p.Faults()
		f := faults[len(faults)-1]
		same(t, test.method+" "+test.path, f.Kind+" "+f.Key, test.want)
	}
	same(t, "puts", p.Counts()["put"].Seen, 1)
	for kind := range p.Counts() {
		if !knownKind(kind) {
			t.Errorf("kind %q can be counted but not matched", kind)
		}
	}
}

func TestControlDoesWhatTheMethodsDo(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL)
	h := newControl(t, p)
	same(t, "set", do(t, c, "PUT", h+"/rules", `[{"match":{"kind":"put","count":2},"action":{"do":"hold"}}]`), "200 ")
	same(t, "rules", do(t, c, "GET", h+"/rules", ""), `200 [{"match":{"kind":"put","count":2},"action":{"do":"hold"}}]`+"\n")
	for _, wrong := range []string{`[{"macth":{}}]`, `[{"action":{"do":"explode"}}]`, `{`} {
		if got := do(t, c, "PUT", h+"/rules", wrong); !strings.HasPrefix(got, "400 ") {
			t.Errorf("%s: %s", wrong, got)
		}
	}
	same(t, "put", do(t, c, "PUT", p.Endpoint+"/b/1", "v"), "error")
	same(t, "put", do(t, c, "PUT", p.Endpoint+"/b/2", "v"), "error")
	same(t, "held", do(t, c, "GET", h+"/held", ""), "200 2\n")
	if got := do(t, c, "POST", h+"/release?n=1", ""); !strings.Contains(got, `"n":1,"kind":"put","key":"1","action":"released","answer":"200"}]`) {
		t.Errorf("released: %s", got)
	}
	same(t, "release none", do(t, c, "POST", h+"/release?n=x", "")[:3], "400")
	do(t, c, "POST", h+"/release", "")
	same(t, "landed", s.saw(), "PUT /b/1, PUT /b/2")
	same(t, "clear", do(t, c, "DELETE", h+"/rules", ""), "200 ")
	same(t, "rules", do(t, c, "GET", h+"/rules", ""), "200 []\n")
	do(t, c, "PUT", h+"/cut", "")
	same(t, "while cut", do(t, c, "GET", p.Endpoint+"/b/1", ""), "error")
	do(t, c, "DELETE", h+"/cut", "")
	same(t, "mended", do(t, c, "GET", p.Endpoint+"/b/1", ""), "200 v")
	want := `200 {"get":{"seen":1,"forwarded":1,"requestBytes":0,"answerBytes":1},"put":{"seen":2,"forwarded":2,"requestBytes":2,"answerBytes":0}}` + "\n"
	same(t, "counts", do(t, c, "GET", h+"/counts", ""), want)
	same(t, "faults", strings.Count(do(t, c, "GET", h+"/faults", ""), `"atMillis"`), 4)
}

func TestStartRefusesWhatItCannotStandInFrontOf(t *testing.T) {
	for _, target := range []string{"", "127.0.0.1:9000", "https://127.0.0.1:9000", "http://127.0.0.1", "http://127.0.0.1:9000/b"} {
		if p, err := Start(Config{Target: target}); err == nil {
			p.Close()
			t.Errorf("%q was taken", target)
		}
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	s := newStore(t)
	for _, action := range []Action{{Do: Blackhole}, {Do: Hold, Hang: true}, {DelayMillis: 3_600_000}, {BytesPerSecond: 1}} {
		p, c := front(t, s.URL, Rule{Action: action})
		done := make(chan string)
		go func() { done <- do(t, c, http.MethodPut, p.Endpoint+"/b/k", "0123456789") }()
		await(t, p, "put", func(n Count) bool { return n.Seen == 1 })
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		same(t, fmt.Sprintf("%+v", action), <-done, "error")
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		same(t, "released after Close", len(p.ReleaseAll()), 0)
	}
	same(t, "landed", s.saw(), "")
}
