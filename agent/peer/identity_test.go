package peer

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

func TestStrangersAreRefusedByNameAndNothingIsDone(t *testing.T) {
	address := start(t, &fake{own: identity(calledBoot)}) // every call of the engine is an error
	for what, c := range map[string]struct {
		change   func(*agent.Identity)
		sentence string
	}{
		"cluster":   {func(i *agent.Identity) { i.Cluster = uuid(101) }, "this agent belongs to cluster " + uuid(100).String() + ", the call comes from cluster " + uuid(101).String()},
		"format":    {func(i *agent.Identity) { i.FormatLevel = 2 }, "format level 1 here, 2 there: upgrade"},
		"secret":    {func(i *agent.Identity) { i.Secret = "another" }, "wrong secret"},
		"no secret": {func(i *agent.Identity) { i.Secret = "" }, "wrong secret"},
		"boot":      {func(i *agent.Identity) { i.Boot = objectlog.UUID{} }, "the call comes from boot 00000000"},
		"the first of several": {func(i *agent.Identity) { i.Cluster, i.FormatLevel, i.Secret = uuid(101), 2, "" },
			"the call comes from cluster " + uuid(101).String()},
	} {
		own := identity(callerBoot)
		c.change(&own)
		for call, err := range everyCall(soon(t), connected(t, own), called(address)) {
			if !errors.Is(err, agent.ErrStranger) || errors.Is(err, shardlog.ErrUnknown) || !strings.Contains(err.Error(), c.sentence) || !strings.Contains(err.Error(), address) {
				t.Errorf("%s: %s: %v", what, call, err)
			} else if strings.Contains(err.Error(), identity(calledBoot).Secret) {
				t.Errorf("%s: %s: tells the secret", what, call)
			}
		}
	}
}

func TestACallMeantForAnotherBootIsRefused(t *testing.T) {
	address := start(t, &fake{own: identity(3)})
	for call, err := range everyCall(soon(t), connected(t, identity(callerBoot)), called(address)) {
		if call == "Ping" {
			continue // meant for whoever is there
		}
		if !errors.Is(err, agent.ErrStranger) || errors.Is(err, shardlog.ErrUnknown) || !strings.Contains(err.Error(), "boot "+uuid(3).String()+" now, not "+uuid(calledBoot).String()) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

func TestALargeProposalOfAStrangerIsRefusedBeforeItIsRead(t *testing.T) {
	address := start(t, &fake{own: identity(calledBoot)})
	own := identity(callerBoot)
	own.Secret = "another"
	_, err := connected(t, own).Propose(soon(t), called(address), 0, []metadata.Command{{Footer: make([]byte, 64<<20)}})
	if !errors.Is(err, agent.ErrStranger) {
		t.Error(err)
	}
}

func TestAnAgentWithoutSecretAnswersNobody(t *testing.T) {
	called2, caller := identity(calledBoot), identity(callerBoot)
	called2.Secret, caller.Secret = "", ""
	address := start(t, &fake{own: called2})
	for call, err := range everyCall(soon(t), connected(t, caller), called(address)) {
		if !errors.Is(err, agent.ErrStranger) || !strings.Contains(err.Error(), "no secret") {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// A caller that is no agent is told the same, whatever it sends.
func TestACallWithoutHeadersIsRefused(t *testing.T) {
	address := start(t, &fake{own: identity(calledBoot)})
	c := connected(t, identity(callerBoot))
	for _, path := range []string{"/", "/splashdam.peer.v1.PeerService/Ping"} {
		r, err := http.NewRequestWithContext(soon(t), http.MethodPost, "http://"+address+path, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "comes from cluster (none)") {
			t.Errorf("%s: %d %s", path, answer.StatusCode, body)
		}
	}
}
