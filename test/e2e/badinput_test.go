package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

func TestWrongRequestOverHTTPIsRefusedWithItsReason(t *testing.T) {
	b := startBroker(t, filepath.Join(t.TempDir(), "data"), "", "--auto-create=false")
	b.mustRun(nil, "topic", "create", "orders")
	record := `{"value":{"text":"x"}}`
	for _, c := range []struct {
		name, method, body string
		status             int
		want               []string // in the body
	}{
		{"not JSON", "LogService/Produce", `{`, 400, []string{"invalid_argument"}},
		{"unknown field", "LogService/Produce", `{"batches":[],"acknowledge":true}`, 400, []string{"invalid_argument", "acknowledge"}},
		{"no topic", "LogService/Produce", `{"batches":[{"topic":"absent","records":{"records":[` + record + `]}}]}`, 200, []string{"UNKNOWN_TOPIC_OR_PARTITION", "not_found"}},
		{"no partition", "LogService/Produce", `{"batches":[{"topic":"orders","partition":7,"records":{"records":[` + record + `]}}]}`, 200, []string{"UNKNOWN_TOPIC_OR_PARTITION"}},
		{"negative partition", "LogService/Produce", `{"batches":[{"topic":"orders","partition":-1,"records":{"records":[` + record + `]}}]}`, 200, []string{"invalid_argument"}},
		{"expected offset without partition", "LogService/Produce", `{"batches":[{"topic":"orders","expectedNextOffset":"0","records":{"records":[` + record + `]}}]}`, 200, []string{"invalid_argument", "partition"}},
		{"other expected offset", "LogService/Produce", `{"batches":[{"topic":"orders","partition":0,"expectedNextOffset":"9","records":{"records":[` + record + `]}}]}`, 200, []string{"OFFSET_MISMATCH", `"actual"`, "aborted"}},
		{"garbage as a batch", "LogService/Produce", `{"batches":[{"topic":"orders","partition":0,"encoded":"Z2FyYmFnZQ=="}]}`, 200, []string{"CORRUPT_MESSAGE"}},
		{"wait too long", "LogService/Fetch", `{"partitions":[{"topic":"orders"}],"maxWait":"31s"}`, 400, []string{"invalid_argument", "30"}},
		{"offset beyond the end", "LogService/Fetch", `{"partitions":[{"topic":"orders","partition":0,"start":{"offset":"5"}}]}`, 200, []string{"OFFSET_OUT_OF_RANGE", "high_watermark"}},
		{"bad topic name", "TopicService/CreateTopic", `{"topic":{"name":"a/b"}}`, 400, []string{"INVALID_TOPIC_EXCEPTION"}},
		{"no topic name", "TopicService/CreateTopic", `{"topic":{}}`, 400, []string{"INVALID_TOPIC_EXCEPTION"}},
		{"too many partitions", "TopicService/CreateTopic", `{"topic":{"name":"many","partitions":100001}}`, 400, []string{"invalid_argument"}},
		{"unknown setting", "TopicService/CreateTopic", `{"topic":{"name":"t","settings":{"retention":"1"}}}`, 400, []string{"INVALID_CONFIG", "retention"}},
		{"taken name", "TopicService/CreateTopic", `{"topic":{"name":"orders"}}`, 409, []string{"TOPIC_ALREADY_EXISTS"}},
		{"unknown topic", "TopicService/GetTopic", `{"name":"absent"}`, 404, []string{"UNKNOWN_TOPIC_OR_PARTITION"}},
		{"unknown method", "TopicService/Frobnicate", `{}`, 404, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := http.Post("http://"+b.address+"/splashdam.v1."+c.method, "application/json", strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != c.status {
				t.Errorf("status %d, want %d: %s", r.StatusCode, c.status, body)
			}
			for _, want := range c.want {
				if !strings.Contains(string(body), want) {
					t.Errorf("the answer does not say %s: %s", want, body)
				}
			}
		})
	}
	if got := offsetsOf(t, b, "orders"); len(got) != 1 || got[0] != 0 {
		t.Errorf("after refusals only, next offsets are %v, want [0]", got)
	}
}

func TestWrongCommandIsOneLineThatSaysWhatToDo(t *testing.T) {
	b := startBroker(t, filepath.Join(t.TempDir(), "data"), "", "--auto-create=false")
	b.mustRun(nil, "topic", "create", "orders")
	for _, c := range []struct {
		name  string
		stdin string
		args  []string
		code  int
		want  string
	}{
		{"no topic argument", "", []string{"produce"}, 2, "TOPIC is missing"},
		{"two topic arguments", "", []string{"consume", "a", "b"}, 2, "unexpected argument"},
		{"unknown flag", "", []string{"produce", "orders", "--frob"}, 2, "--frob"},
		{"unknown verb", "", []string{"prodce", "orders"}, 2, "unknown command"},
		{"no such topic", "x\n", []string{"produce", "absent"}, 1, "absent"},
		{"no such topic to read", "", []string{"consume", "absent"}, 1, "absent"},
		{"no such topic to describe", "", []string{"topic", "describe", "absent"}, 1, "absent"},
		{"taken name", "", []string{"topic", "create", "orders"}, 1, "orders"},
		{"bad topic name", "", []string{"topic", "create", "a/b"}, 1, "a/b"},
		{"bad setting", "", []string{"topic", "create", "x", "--set", "retention=1"}, 1, "retention"},
		{"setting without value", "", []string{"topic", "create", "x", "--set", "retention.ms"}, 2, "name=value"},
		{"no partitions", "", []string{"topic", "create", "x", "--partitions", "0"}, 2, "1 to 100000"},
		{"line without key", "x\n", []string{"produce", "orders", "--key-separator", ":"}, 1, "line 1"},
		{"line that is no JSON", "{\"match\":\"a\"}\nx\n", []string{"produce", "orders", "--key-field", "match"}, 1, "line 2"},
		{"line without the field", "{\"a\":1}\n", []string{"produce", "orders", "--key-field", "match"}, 1, `no field "match"`},
		{"bad compression", "x\n", []string{"produce", "orders", "--compression", "rar"}, 2, "rar"},
		{"bad acks", "x\n", []string{"produce", "orders", "--acks", "all"}, 2, "durable or none"},
		{"bad header", "x\n", []string{"produce", "orders", "--header", "x"}, 2, "name=value"},
		{"no such partition", "x\n", []string{"produce", "orders", "--partition", "9"}, 1, "orders"},
		{"no such file", "", []string{"produce", "orders", "--file", "/nonexistent"}, 1, "no such file"},
		{"bad start", "", []string{"consume", "orders", "--from", "yesterday"}, 2, "yesterday"},
		{"start beyond the end", "", []string{"consume", "orders", "--from", "1000"}, 1, "orders"},
		{"bad format", "", []string{"consume", "orders", "--format", "xml"}, 2, "xml"},
		{"bad time", "", []string{"offsets", "orders", "--at", "noon"}, 2, "noon"},
		{"bad server", "", []string{"topic", "list", "--server", "localhost"}, 2, "host:port"},
		{"no segment", "", []string{"segment", "dump", "/nonexistent"}, 1, "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := b.run
			if c.name == "bad server" || c.name == "unknown verb" || c.args[0] == "segment" {
				run = func(stdin io.Reader, args ...string) ran { return runBinary(t, stdin, args...) }
			}
			r := run(strings.NewReader(c.stdin), c.args...)
			if r.code != c.code {
				t.Errorf("exit %d, want %d: %s", r.code, c.code, r.stderr)
			}
			if strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "splashdam: ") || !strings.Contains(r.stderr, c.want) {
				t.Errorf("got %q, want one line with %q", r.stderr, c.want)
			}
		})
	}
}

func TestCommandWithoutBrokerSaysHowToStartOne(t *testing.T) {
	address := freeAddress(t)
	for _, args := range [][]string{{"topic", "list"}, {"consume", "orders"}, {"offsets", "orders"}, {"produce", "orders"}} {
		r := runBinary(t, strings.NewReader("x\n"), append(args, "--server", address, "--timeout", "1s")...)
		if r.code != 1 || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, address) || !strings.Contains(r.stderr, "splashdam dev") {
			t.Errorf("splashdam %s without a broker: exit %d, %q; want one line with the address and what to start", strings.Join(args, " "), r.code, r.stderr)
		}
	}
}

// offsetsOf answers the next offset of each partition.
func offsetsOf(t *testing.T, b *broker, topic string) []int64 {
	t.Helper()
	var views []struct{ Latest int64 }
	if err := json.Unmarshal([]byte(b.mustRun(nil, "offsets", topic, "-o", "json")), &views); err != nil {
		t.Fatal(fmt.Errorf("offsets of %s: %w", topic, err))
	}
	var next []int64
	for _, v := range views {
		next = append(next, v.Latest)
	}
	return next
}
