package rpc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// decode reads a JSON text.
func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func TestGroupsShowWhoHasWhatAndWhatMoves(t *testing.T) {
	w := start(t)
	w.topic("a", 2)
	id := w.id("a")
	of := func(partitions string) string {
		return `[{"topic":"a","topicId":"` + id + `","partitions":[` + partitions + `]}]`
	}
	member := func(id, more string) string {
		return `{"member":"` + id + `","host":"127.0.0.1","topics":["a"],"sessionTimeout":"10s","joinTime":"2023-11-14T22:13:20Z"` + more + `}`
	}
	w.post("GroupService/Heartbeat", `{"group":"g","member":"m1","topics":["a"]}`)
	w.want("GroupService/GetGroup", `{"group":"g"}`, `{"group":{"group":"g","state":"GROUP_STATE_STABLE","generation":"1","members":[`+
		member("m1", `,"assigned":`+of("0,1"))+`],"coordinator":"boot"}}`)
	w.fake.groups.still = true
	w.post("GroupService/Heartbeat", `{"group":"g","member":"m2","topics":["a"]}`)
	w.want("GroupService/GetGroup", `{"group":"g"}`, `{"group":{"group":"g","state":"GROUP_STATE_ASSIGNING","generation":"1","members":[`+
		member("m1", `,"assigned":`+of("0,1"))+`,`+member("m2", ``)+`],"coordinator":"boot"}}`)
	w.fake.groups.still = false
	w.post("GroupService/Heartbeat", `{"group":"g","member":"m2","topics":["a"]}`)
	var group struct {
		Group struct {
			State   string
			Members []struct {
				Assigned, Stopping []struct{ Partitions []int32 }
			}
		}
	}
	_, answer := w.get("/splashdam.v1.GroupService/GetGroup?connect=v1&encoding=json&message=" + url.QueryEscape(`{"group":"g"}`))
	decode(t, answer, &group)
	if m := group.Group.Members; group.Group.State != "GROUP_STATE_RECONCILING" || len(m) != 2 || len(m[0].Stopping) != 1 || len(m[0].Assigned) != 1 || len(m[1].Assigned)+len(m[1].Stopping) != 0 {
		t.Errorf("got %s, want one partition that m1 is to stop", answer)
	}
}

func TestListGroupsPagesToTheEndWhateverTheirIDs(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	ids := []string{"/", "a b", "a%2F", "é", "日本"}
	for _, id := range ids {
		if status, answer := w.post("GroupService/CommitOffsets", fmt.Sprintf(`{"group":%q,"offsets":[{"topic":"a","partition":0,"offset":"0"}]}`, id)); status != http.StatusOK {
			t.Fatalf("got %d %s", status, answer)
		}
	}
	var got []string
	token := ""
	for range 10 {
		var list struct {
			Groups        []struct{ Group, State string }
			NextPageToken string
		}
		_, answer := w.post("GroupService/ListGroups", fmt.Sprintf(`{"pageSize":2,"pageToken":%q}`, token))
		decode(t, answer, &list)
		for _, g := range list.Groups {
			if got = append(got, g.Group); g.State != "GROUP_STATE_EMPTY" {
				t.Errorf("got %v, want it empty", g)
			}
		}
		got = append(got, "|")
		if token = list.NextPageToken; token == "" {
			break
		}
	}
	if want := "/,a b,|,a%2F,é,|,日本,|"; strings.Join(got, ",") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if status, answer := w.get("/splashdam.v1.GroupService/ListGroups?connect=v1&encoding=json&message=" + url.QueryEscape(`{"pageSize":1}`)); status != http.StatusOK || !strings.HasPrefix(answer, `{"groups":[{"group":"/","state":"GROUP_STATE_EMPTY"}],"nextPageToken":`) {
		t.Errorf("by GET: got %d %s", status, answer)
	}
	for body, want := range map[string]string{
		`{"pageSize":1001}`:                          `list groups: page_size: 1001 is not in 0 to 1000`,
		`{"pageSize":-1}`:                            `list groups: page_size: `,
		`{"pageToken":"nobody"}`:                     `list groups: page_token: not one that this service gave`,
		`{"pageToken":"` + pageToken("a\x00") + `"}`: `list groups: page_token: `,
	} {
		if status, answer := w.post("GroupService/ListGroups", body); status != http.StatusBadRequest || !strings.Contains(answer, want) {
			t.Errorf("%s: got %d %s, want %s", body, status, answer, want)
		}
	}
}

func TestOnlyAGroupWithoutMembersIsDeleted(t *testing.T) {
	w := start(t)
	w.topic("a", 1)
	w.post("GroupService/Heartbeat", `{"group":"g","member":"m","topics":["a"]}`)
	for _, c := range []struct {
		procedure, body string
		status          int
		want            string
	}{
		{"DeleteGroup", `{"group":"g"}`, http.StatusBadRequest, `"reason":"NON_EMPTY_GROUP"`},
		{"Heartbeat", `{"group":"g","member":"m","leave":true}`, http.StatusOK, `{}`},
		{"DeleteGroup", `{"group":"g"}`, http.StatusOK, `{}`},
		{"DeleteGroup", `{"group":"g"}`, http.StatusNotFound, `"reason":"GROUP_ID_NOT_FOUND"`},
		{"GetGroup", `{"group":"g"}`, http.StatusNotFound, `"kafkaCode":69`},
		{"DeleteGroup", `{}`, http.StatusBadRequest, `"reason":"INVALID_GROUP_ID"`},
		{"GetGroup", `{"group":"\u0001"}`, http.StatusBadRequest, `"reason":"INVALID_GROUP_ID"`},
		{"FetchOffsets", `{"group":""}`, http.StatusBadRequest, `"reason":"INVALID_GROUP_ID"`},
		{"FetchOffsets", `{"group":"g","topics":[` + strings.Repeat(`"a",`, 1000) + `"a"]}`, http.StatusBadRequest, `fetch offsets: topics: 1001 at once`},
	} {
		if status, answer := w.post("GroupService/"+c.procedure, c.body); status != c.status || !strings.Contains(answer, c.want) {
			t.Errorf("%s %.100s: got %d %s, want %d %s", c.procedure, c.body, status, answer, c.status, c.want)
		}
	}
}
