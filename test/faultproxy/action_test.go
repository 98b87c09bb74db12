package faultproxy

import (
	"bytes"
	"errors"
	"io"
	"math/bits"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestDropBeforeReachesNoTarget(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL, Rule{Match{Kind: "put", Nth: 2}, Action{Do: DropBefore}})
	same(t, "first put", do(t, c, "PUT", p.Endpoint+"/b/one", "1"), "200 ")
	same(t, "second put", do(t, c, "PUT", p.Endpoint+"/b/two", "2"), "error")
	same(t, "third put", do(t, c, "PUT", p.Endpoint+"/b/three", "3"), "200 ")
	same(t, "landed", s.saw(), "PUT /b/one, PUT /b/three")
	same(t, "counts", p.Counts()["put"], Count{Seen: 3, Forwarded: 2, RequestBytes: 2})
}

func TestDropReplyLandsExactlyOnce(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL, Rule{Match{KeyContains: "seg/"}, Action{Do: DropReply}})
	same(t, "put", do(t, c, "PUT", p.Endpoint+"/b/seg/1", "1"), "error")
	same(t, "landed", s.saw(), "PUT /b/seg/1")
	same(t, "fault", p.Faults()[0].Answer, "200")
	same(t, "second put", do(t, c, "PUT", p.Endpoint+"/b/seg/1", "1"), "error")
	same(t, "fault", p.Faults()[1].Answer, "412 PreconditionFailed")
}

func TestHeldRequestsLandInOrderWhenReleased(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL, Rule{Match{Kind: "PutItem", KeyContains: "ring"}, Action{Do: Hold}})
	for _, key := range []string{"ring/1", "ring/2", "ring/3"} {
		same(t, "put of "+key, do(t, c, "POST", p.Endpoint+"/"+key, putItem(key), toTable("PutItem")...), "error")
	}
	same(t, "other put", do(t, c, "PUT", p.Endpoint+"/b/barrier", "b"), "200 ")
	same(t, "landed before", s.saw(), "PUT /b/barrier")
	same(t, "held", p.Held(), 3)

	late := p.Release(1)
	same(t, "landed after one", s.saw(), "POST /ring/1")
	if len(late) != 1 || late[0].Key != "ring/1/0" || late[0].N != 1 || late[0].Answer != "200" {
		t.Errorf("late answers: %+v", late)
	}
	same(t, "late answers to all", len(p.ReleaseAll()), 2)
	same(t, "landed after all", s.saw(), "POST /ring/2, POST /ring/3")
	same(t, "held", p.Held(), 0)
	same(t, "late answers to none", len(p.ReleaseAll()), 0)
}

func TestHoldCanLeaveTheClientWaiting(t *testing.T) {
	s := newStore(t)
	p, _ := front(t, s.URL, Rule{Action: Action{Do: Hold, Hang: true}})
	fault := noticed(p)
	conn, _ := talk(t, p, "PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nv")
	<-fault
	same(t, "held", p.Held(), 1)
	silent(t, conn)
	p.ReleaseAll()
	same(t, "landed", s.saw(), "PUT /b/k")
	silent(t, conn)
}

func TestHoldKeepsNoMoreThanItsBounds(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL, Rule{Action: Action{Do: Hold}})
	big := strings.Repeat("x", heldBytesMax/2+1)
	same(t, "first", do(t, c, "PUT", p.Endpoint+"/b/1", big), "error")
	same(t, "second", do(t, c, "PUT", p.Endpoint+"/b/2", big), "error")
	same(t, "held", p.Held(), 1)
	same(t, "fault", p.Faults()[1].Answer, "not kept: "+errTooLong.Error())
	p.ReleaseAll()
	same(t, "held", p.Held(), 0)
	for range heldMax + 1 {
		do(t, c, "PUT", p.Endpoint+"/b/3", "")
	}
	same(t, "held", p.Held(), heldMax)
	p.Close() // waits for the end of both exchanges
	same(t, "memory still taken", p.held.bytes, 0)
}

func TestTwiceGivesTheSecondAnswer(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL, Rule{Action: Action{Do: Twice}})
	same(t, "put", do(t, c, "PUT", p.Endpoint+"/b/k", "v"), "412 <Error><Code>PreconditionFailed</Code></Error>")
	same(t, "landed", s.saw(), "PUT /b/k, PUT /b/k")
	same(t, "fault", p.Faults()[0].Answer, "200, then 412")
	same(t, "forwarded", p.Counts()["put"].Forwarded, 2)
	p.Close() // waits for the end of both exchanges
	same(t, "memory still taken", p.held.bytes, 0)
}

func TestStatusSpeaksTheLanguageOfTheStore(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL)
	for _, test := range []struct {
		action       Action
		bucket, item string
	}{
		{Action{Status: 503}, "503 <Code>SlowDown<", "503 ServiceUnavailable"},
		{Action{Status: 409}, "409 <Code>ConditionalRequestConflict<", ""},
		{Action{Status: 412}, "412 <Code>PreconditionFailed<", ""},
		{Action{Status: 500}, "500 <Code>InternalError<", "500 com.amazonaws.dynamodb.v20120810#InternalServerError"},
		{Action{Error: "ExpiredToken"}, "400 <Code>ExpiredToken<", ""},
		{Action{Error: "ThrottlingException"}, "", "400 com.amazon.coral.service#ThrottlingException"},
		{Action{Error: "ProvisionedThroughputExceededException"}, "", "400 com.amazonaws.dynamodb.v20120810#ProvisionedThroughput"},
		{Action{Error: "InvalidSignatureException"}, "", "400 com.amazon.coral.service#InvalidSignatureException"},
		{Action{Error: "Teapot", Status: 418}, "418 <Code>Teapot<", "418 com.amazonaws.dynamodb.v20120810#Teapot"},
	} {
		test.action.Do = Status
		if err := p.SetRules(Rule{Action: test.action}); err != nil {
			t.Fatal(err)
		}
		check := func(got, want string) {
			t.Helper()
			status, text, _ := strings.Cut(want, " ")
			if want != "" && (!strings.HasPrefix(got, status) || !strings.Contains(got, text)) {
				t.Errorf("%+v: got %q, want %q", test.action, got, want)
			}
		}
		check(do(t, c, "PUT", p.Endpoint+"/b/k", "v"), test.bucket)
		check(do(t, c, "POST", p.Endpoint+"/", putItem("k"), toTable("PutItem")...), test.item)
		same(t, "answer to HEAD", do(t, c, "HEAD", p.Endpoint+"/b/k", "")[3:], " ")
	}
	same(t, "landed", s.saw(), "")
}

func TestStatusCanLandAllTheSame(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL, Rule{Action: Action{Do: Status, Status: 500, Forwarded: true}})
	if got := do(t, c, "PUT", p.Endpoint+"/b/k", "v"); !strings.HasPrefix(got, "500 ") {
		t.Errorf("got %s", got)
	}
	same(t, "landed", s.saw(), "PUT /b/k")
	same(t, "fault", p.Faults()[0].Action+": "+p.Faults()[0].Answer, "status 500 forwarded: 200")
}

func TestDelayComesBeforeTheTargetSeesTheRequest(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL, Rule{Action: Action{DelayMillis: 30, JitterMillis: 20}})
	start := time.Now()
	same(t, "put", do(t, c, "PUT", p.Endpoint+"/b/k", "v"), "200 ")
	if took := time.Since(start); took < 30*time.Millisecond {
		t.Errorf("took %s", took)
	}
}

func TestBandwidthLimitsBothWays(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL, Rule{Action: Action{BytesPerSecond: 100_000}})
	body := strings.Repeat("x", 10_000)
	for _, method := range []string{"PUT", "GET"} {
		start := time.Now()
		do(t, c, method, p.Endpoint+"/b/k", map[string]string{"PUT": body}[method])
		if took := time.Since(start); took < 100*time.Millisecond {
			t.Errorf("%s of %d bytes took %s", method, len(body), took)
		}
	}
	same(t, "stored", string(s.objects["/b/k"]), body)
}

func TestCutRefusesEverythingUntilMended(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL)
	same(t, "before", do(t, c, "PUT", p.Endpoint+"/b/1", ""), "200 ")
	p.Cut()
	same(t, "while cut", do(t, c, "PUT", p.Endpoint+"/b/2", ""), "error")
	same(t, "while cut", do(t, c, "PUT", p.Endpoint+"/b/3", ""), "error")
	p.Mend()
	same(t, "after", do(t, c, "PUT", p.Endpoint+"/b/4", ""), "200 ")
	same(t, "landed", s.saw(), "PUT /b/1, PUT /b/4")
}

func TestBlackholeNeverAnswers(t *testing.T) {
	s := newStore(t)
	p, _ := front(t, s.URL, Rule{Action: Action{Do: Blackhole}})
	fault := noticed(p)
	conn, _ := talk(t, p, "GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n")
	<-fault
	silent(t, conn)
	same(t, "landed", s.saw(), "")
}

func TestHTMLIsALoginPage(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL, Rule{Action: Action{Do: HTML}})
	if got := do(t, c, "GET", p.Endpoint+"/b/k", ""); !strings.HasPrefix(got, "200 <!DOCTYPE html>") {
		t.Errorf("got %s", got)
	}
	same(t, "landed", s.saw(), "")
}

func TestTruncateEndsInTheMiddleOfTheBody(t *testing.T) {
	s := newStore(t)
	s.objects["/b/k"] = []byte("0123456789")
	p, c := front(t, s.URL, Rule{Action: Action{Do: Truncate}})
	same(t, "get", do(t, c, "GET", p.Endpoint+"/b/k", ""), "200 01234 error")
}

func TestFlipBitChangesOneBitOfTheAnswer(t *testing.T) {
	s := newStore(t)
	object := bytes.Repeat([]byte{0x55}, 200_000)
	s.objects["/b/k"] = object
	p, c := front(t, s.URL, Rule{Action: Action{Do: FlipBit}})
	for range 5 {
		resp, err := c.Get(p.Endpoint + "/b/k")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(got) != len(object) {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
		wrong := 0
		for i := range got {
			wrong += bits.OnesCount8(got[i] ^ object[i])
		}
		same(t, "wrong bits", wrong, 1)
	}
}

func TestUnprocessedAnswersTheWholeBatch(t *testing.T) {
	s := newStore(t)
	p, c := front(t, s.URL, Rule{Match{Kind: "BatchWriteItem", KeyContains: "b/2", Count: 1}, Action{Do: Unprocessed}})
	batch := `{"RequestItems":{"t":[{"PutRequest":{"Item":{"pk":{"S":"a"},"sk":{"S":"1"}}}},{"DeleteRequest":{"Key":{"pk":{"S":"b"},"sk":{"S":"2"}}}}]}}`
	want := `200 {"UnprocessedItems":` + batch[len(`{"RequestItems":`):]
	same(t, "first", do(t, c, "POST", p.Endpoint+"/", batch, toTable("BatchWriteItem")...), want)
	same(t, "key", p.Faults()[0].Key, "a/1 b/2")
	same(t, "landed", s.saw(), "")
	same(t, "second", do(t, c, "POST", p.Endpoint+"/", batch, toTable("BatchWriteItem")...), "200 "+batch)
	same(t, "landed", s.saw(), "POST /")
}

// silent checks that nothing comes from the proxy and that it keeps the connection open.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes, %v", n, err)
	}
}

// noticed answers a channel that gets a value for each fault, as soon as it is noted.
func noticed(p *Proxy) <-chan struct{} {
	c := make(signal, 100)
	p.record.mu.Lock()
	defer p.record.mu.Unlock()
	p.record.log = c
	return c
}

type signal chan struct{}

func (s signal) Write(b []byte) (int, error) {
	s <- struct{}{}
	return len(b), nil
}
