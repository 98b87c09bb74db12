package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/splashdam/splashdam/client"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
)

// fakeGroups answers calls about groups with what it is told to.
type fakeGroups struct {
	splashdamv1connect.UnimplementedGroupServiceHandler
	groups  []*splashdamv1.Group
	offsets map[string][]*splashdamv1.FetchOffsetsResponse_Offset // by group
	moved   []*splashdamv1.ResetOffsetsResponse_Offset
	refuse  map[string][2]string // code and reason, by call

	mu    sync.Mutex
	reset *splashdamv1.ResetOffsetsRequest // the latest
}

// serve answers the address at which the fake answers.
func (f *fakeGroups) serve(t *testing.T) string {
	t.Helper()
	_, handler := splashdamv1connect.NewGroupServiceHandler(f)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		why, refused := f.refuse[path.Base(r.URL.Path)]
		if !refused {
			handler.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"code":%q,"message":"told","details":[{"type":"splashdam.v1.ErrorDetail","value":%q}]}`, why[0], detailBytes(why[0], why[1], "told"))
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// detailBytes is an ErrorDetail with its first fields, in base64.
func detailBytes(fields ...string) string {
	var b []byte
	for i, s := range fields {
		b = append(append(b, byte(i+1)<<3|2, byte(len(s))), s...)
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

func (f *fakeGroups) ListGroups(context.Context, *splashdamv1.ListGroupsRequest) (*splashdamv1.ListGroupsResponse, error) {
	res := &splashdamv1.ListGroupsResponse{}
	for _, g := range f.groups {
		res.Groups = append(res.Groups, &splashdamv1.ListGroupsResponse_Listed{Group: g.GetGroup(), State: g.GetState(), Members: int32(len(g.GetMembers())), Generation: g.GetGeneration()})
	}
	return res, nil
}

func (f *fakeGroups) GetGroup(_ context.Context, r *splashdamv1.GetGroupRequest) (*splashdamv1.GetGroupResponse, error) {
	i := slices.IndexFunc(f.groups, func(g *splashdamv1.Group) bool { return g.GetGroup() == r.GetGroup() })
	return &splashdamv1.GetGroupResponse{Group: f.groups[i]}, nil
}

func (f *fakeGroups) FetchOffsets(_ context.Context, r *splashdamv1.FetchOffsetsRequest) (*splashdamv1.FetchOffsetsResponse, error) {
	return &splashdamv1.FetchOffsetsResponse{Offsets: f.offsets[r.GetGroup()]}, nil
}

func (f *fakeGroups) ResetOffsets(_ context.Context, r *splashdamv1.ResetOffsetsRequest) (*splashdamv1.ResetOffsetsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reset = r
	return &splashdamv1.ResetOffsetsResponse{Offsets: f.moved}, nil
}

func (f *fakeGroups) DeleteGroup(context.Context, *splashdamv1.DeleteGroupRequest) (*splashdamv1.DeleteGroupResponse, error) {
	return &splashdamv1.DeleteGroupResponse{}, nil
}

func has(topic string, partitions ...int32) []*splashdamv1.TopicPartitions {
	return []*splashdamv1.TopicPartitions{{Topic: topic, TopicId: "t-" + topic, Partitions: partitions}}
}

// mailers are a group of two members of which one is told to stop a partition, and an empty group.
func mailers() *fakeGroups {
	one := &splashdamv1.Group_Member{Member: "aaaaaaaa-1111", Client: "mailer", Host: "h1", Topics: []string{"orders"}, Assigned: has("orders", 0, 1, 2, 5), Stopping: has("orders", 4)}
	two := &splashdamv1.Group_Member{Member: "bbbbbbbb-2222", Instance: "mailer-2", Pattern: "ord.*", Assigned: has("orders", 3)}
	for _, m := range []*splashdamv1.Group_Member{one, two} {
		made(&m.SessionTimeout).Seconds = 10
		made(&m.JoinTime).Seconds = 1781208000
	}
	return &fakeGroups{groups: []*splashdamv1.Group{
		{Group: "analytics", State: splashdamv1.GroupState_GROUP_STATE_EMPTY, Generation: 3},
		{Group: "email", State: splashdamv1.GroupState_GROUP_STATE_RECONCILING, Generation: 7, Coordinator: "cccccccc-3333", Members: []*splashdamv1.Group_Member{one, two}},
	}}
}

// prints runs a verb and checks all that it prints.
func prints(t *testing.T, want string, args ...string) {
	t.Helper()
	code, stdout, stderr, _ := runFor(t, nil, args...)
	if code != exitDone || stdout != want || stderr != "" {
		t.Errorf("splashdam %s: exit %d, error %q, got\n%s\nwant\n%s", strings.Join(args, " "), code, stderr, stdout, want)
	}
}

// printsJSON runs a verb with -o json, checks that it prints one line, and reads it into v.
func printsJSON(t *testing.T, v any, args ...string) {
	t.Helper()
	code, stdout, stderr, _ := runFor(t, nil, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(stdout), v); code != exitDone || err != nil || strings.Count(stdout, "\n") != 1 {
		t.Errorf("splashdam %s: exit %d, %v: %s%s", strings.Join(args, " "), code, err, stdout, stderr)
	}
}

// fails runs a verb and checks the one line that it fails with.
func fails(t *testing.T, exit int, want string, args ...string) {
	t.Helper()
	code, stdout, stderr, _ := runFor(t, nil, args...)
	if code != exit || stdout != "" || stderr != "splashdam: "+want+"\n" {
		t.Errorf("splashdam %s: exit %d, output %q, error %q; want exit %d and %q", strings.Join(args, " "), code, stdout, stderr, exit, want)
	}
}

func TestGroupsAreListedWithTheirStates(t *testing.T) {
	at := mailers().serve(t)
	prints(t, `GROUP      STATE        MEMBERS  GENERATION
analytics  empty        0        3
email      reconciling  2        7
`, "group", "list", "--server", at)
	var got []map[string]any
	printsJSON(t, &got, "group", "list", "--server", at)
	if len(got) != 2 || got[1]["group"] != "email" || got[1]["members"] != 2.0 || got[1]["generation"] != 7.0 {
		t.Errorf("got %v", got)
	}
	printsJSON(t, &got, "group", "list", "--server", new(fakeGroups).serve(t))
	if got == nil || len(got) != 0 {
		t.Errorf("no groups: got %v, want []", got)
	}
}

func TestDescribedGroupShowsWhoHasWhatAndWhatIsStillToStop(t *testing.T) {
	f := mailers()
	at := f.serve(t)
	prints(t, `group        email (reconciling)
generation   7
coordinator  agent cccccccc-3333
MEMBER    CLIENT  HOST  PARTITIONS    STILL TO STOP
aaaaaaaa  mailer  h1    orders/0-2,5  orders/4
mailer-2  -       -     orders/3      -
orders/4 waits for member aaaaaaaa to stop it: it goes on when that member has finished what it has at hand; one that takes longer than its rebalance timeout is put out of the group
`, "group", "describe", "email", "--server", at)
	prints(t, "group        analytics (empty)\ngeneration   3\n", "group", "describe", "analytics", "--server", at)
	var got groupView
	printsJSON(t, &got, "group", "describe", "email", "--server", at)
	if len(got.Members) != 2 || len(got.Problems) != 1 || got.Coordinator != "cccccccc-3333" || got.Members[0].SessionTimeout != 10 ||
		got.Members[0].Assigned[0].TopicID != "t-orders" || got.Members[0].Stopping[0].Partitions[0] != 4 || got.Members[1].Pattern != "ord.*" {
		t.Errorf("got %+v", got)
	}
}

func TestMembersWithoutAnythingToReadAreToldWhy(t *testing.T) {
	f := mailers()
	g := f.groups[1]
	g.State, g.Coordinator = splashdamv1.GroupState_GROUP_STATE_STABLE, ""
	for _, m := range g.Members {
		m.Assigned, m.Stopping = nil, nil
	}
	var got groupView
	printsJSON(t, &got, "group", "describe", "email", "--server", f.serve(t))
	if len(got.Problems) != 2 || got.Problems[0].What != "No agent is known to keep the group's sessions" || got.Problems[1].What != "No member has a partition" {
		t.Errorf("got %+v", got.Problems)
	}
}

func TestMembersAreShownWithWhatTheyAskFor(t *testing.T) {
	at := mailers().serve(t)
	prints(t, `MEMBER         INSTANCE  CLIENT  HOST  ASKS FOR       SESSION  JOINED                PARTITIONS
aaaaaaaa-1111  -         mailer  h1    orders         10s      2026-06-11T20:00:00Z  orders/0-2,5
bbbbbbbb-2222  mailer-2  -       -     pattern ord.*  10s      2026-06-11T20:00:00Z  orders/3
`, "group", "members", "email", "--server", at)
	var got []memberView
	printsJSON(t, &got, "group", "members", "analytics", "--server", at)
	if got == nil || len(got) != 0 {
		t.Errorf("no members: got %v, want []", got)
	}
}

func TestDeletedGroupIsConfirmed(t *testing.T) {
	at := mailers().serve(t)
	prints(t, "group analytics is deleted\n", "group", "delete", "analytics", "--server", at)
	prints(t, "{\"deleted\":\"analytics\"}\n", "group", "delete", "analytics", "--server", at, "-o", "json")
}

func TestGroupThatIsNotThereOrNotEmptyIsOneLineWithWhatToDo(t *testing.T) {
	f := mailers()
	missing, full := [2]string{"not_found", "GROUP_ID_NOT_FOUND"}, [2]string{"failed_precondition", "NON_EMPTY_GROUP"}
	f.refuse = map[string][2]string{"GetGroup": missing, "DeleteGroup": full, "ResetOffsets": full}
	at := f.serve(t)
	const unknown = `group x: there is no such group (see "splashdam group list"; a group begins with its first member or committed position)`
	fails(t, exitFailed, "describe "+unknown, "group", "describe", "x", "--server", at)
	fails(t, exitFailed, "describe "+unknown, "group", "members", "x", "--server", at)
	fails(t, exitFailed, "describe "+unknown, "lag", "x", "--server", at)
	fails(t, exitFailed, `delete group email: it has members (stop them first, "splashdam group members email" has them)`, "group", "delete", "email", "--server", at)
	fails(t, exitFailed, `reset group email: it has members (stop them first, "splashdam group members email" has them; with --force those that run go on where they are, and commit that)`,
		"group", "reset", "email", "--topic", "orders", "--to-latest", "--server", at)
	f.refuse["ResetOffsets"] = [2]string{"invalid_argument", "INVALID_REQUEST"}
	fails(t, exitFailed, "reset offsets of group email: told", "group", "reset", "email", "--topic", "orders", "--to-latest", "--server", at)
}

func TestRangesAreCompactAndReadBack(t *testing.T) {
	for want, partitions := range map[string][]client.Partition{
		"": nil, "0": {0}, "0-1": {1, 0}, "0-2,5": {0, 1, 2, 5}, "3,5-7,9": {9, 3, 5, 6, 7},
	} {
		got := rangesText(partitions)
		back, err := parsePartitions(got)
		slices.Sort(partitions)
		if got != want || err != nil || !slices.Equal(back, partitions) {
			t.Errorf("%v: got %q, want %q; read back %v, %v", partitions, got, want, back, err)
		}
	}
	for _, wrong := range []string{"a", "1,", "-1", "3-1", "1-", "0-4000000000", "0-100000", "1 ,2"} {
		if got, err := parsePartitions(wrong); err == nil {
			t.Errorf("%q: got %v, want an error", wrong, got)
		}
	}
}
