package client_test

import (
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// zoned are two fakes of one cluster: far is given to the client, near is an agent in its zone.
type zoned struct {
	near, far *fake
	agents    []*splashdamv1.GetClusterResponse_Agent
	client    *client.Client
}

func (z *zoned) describe(f *fake, boot, cluster string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cluster = &splashdamv1.GetClusterResponse{ClusterId: cluster, AnsweredBy: boot, Agents: z.agents}
}

func newZoned(t *testing.T, zone string, change func(z *zoned)) *zoned {
	t.Helper()
	z := &zoned{near: startFake(), far: startFake()}
	t.Cleanup(z.near.close)
	t.Cleanup(z.far.close)
	for _, f := range []*fake{z.near, z.far} {
		f.addTopic("matches", 1)
	}
	z.agents = []*splashdamv1.GetClusterResponse_Agent{
		{BootId: "near", Zone: "a", ClientAddress: z.near.address()},
		{BootId: "far", Zone: "b", ClientAddress: z.far.address()},
	}
	z.describe(z.near, "near", "c")
	z.describe(z.far, "far", "c")
	if change != nil {
		change(z)
	}
	cfg := impatient(z.far)
	cfg.Zone = zone
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	z.client = c
	return z
}

// ask makes one call and answers at which of the two it arrived.
func (z *zoned) ask(t *testing.T) string {
	t.Helper()
	near, far := z.near.count("GetTopic"), z.far.count("GetTopic")
	if _, _, err := z.client.Topic(within(t), "matches"); err != nil {
		t.Fatal(err)
	}
	switch {
	case z.near.count("GetTopic") > near:
		return "near"
	case z.far.count("GetTopic") > far:
		return "far"
	}
	return "nowhere"
}

func TestClientPrefersAgentsOfItsZone(t *testing.T) {
	z := newZoned(t, "a", nil)
	for range 3 {
		if at := z.ask(t); at != "near" {
			t.Fatalf("asked %s, want near", at)
		}
	}
	p, err := z.client.NewProducer(client.ProducerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.ProduceSync(within(t), to(0, 0)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if len(z.near.values("matches", 0)) != 1 || z.far.count("ProduceStream")+z.far.count("Fetch") != 0 {
		t.Error("records went to the other zone")
	}
	if got := z.far.count("GetCluster"); got != 1 {
		t.Errorf("%d calls of GetCluster, want 1", got)
	}
}

func TestClientFallsBackWhenTheAgentOfItsZoneDies(t *testing.T) {
	z := newZoned(t, "a", nil)
	if at := z.ask(t); at != "near" {
		t.Fatalf("asked %s, want near", at)
	}
	z.near.close()
	began := time.Now()
	if at := z.ask(t); at != "far" {
		t.Errorf("asked %s, want far", at)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %v", took)
	}
}

func TestClientStaysAtItsAddressesWithoutAnAgentOfItsZone(t *testing.T) {
	for name, c := range map[string]struct {
		zone   string
		change func(z *zoned)
	}{
		"no zone":       {"", nil},
		"another zone":  {"d", nil},
		"the balancer":  {"a", func(z *zoned) { z.agents[0].ClientAddress = z.far.address() }},
		"no address":    {"a", func(z *zoned) { z.agents[0].ClientAddress = "" }},
		"unreachable":   {"a", func(z *zoned) { z.agents[0].ClientAddress = "127.0.0.1:1" }},
		"draining":      {"a", func(z *zoned) { z.agents[0].Draining = true }},
		"not ready":     {"a", func(z *zoned) { z.agents[0].Problem = "shard 0 has no leader yet" }},
		"other cluster": {"a", func(z *zoned) { z.describe(z.near, "near", "d") }},
		"other agent":   {"a", func(z *zoned) { z.describe(z.near, "next", "c") }},
		"shared by two agents": {"a", func(z *zoned) {
			z.agents = append(z.agents, &splashdamv1.GetClusterResponse_Agent{BootId: "third", Zone: "a", ClientAddress: z.near.address()})
			z.describe(z.far, "far", "c")
		}},
	} {
		z := newZoned(t, c.zone, c.change)
		if at := z.ask(t); at != "far" {
			t.Errorf("%s: asked %s, want far", name, at)
		}
		if c.zone == "" && z.far.count("GetCluster") != 0 {
			t.Errorf("%s: asked for the cluster", name)
		}
	}
}

func TestClientFindsAgentsOfItsZoneThatComeLater(t *testing.T) {
	z := newZoned(t, "a", func(z *zoned) { z.agents[0].Zone = "b" })
	cfg := impatient(z.far)
	cfg.Zone, cfg.ConnectionAge = "a", time.Second
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	z.client = c
	if at := z.ask(t); at != "far" {
		t.Fatalf("asked %s, want far", at)
	}
	z.agents = []*splashdamv1.GetClusterResponse_Agent{{BootId: "near", Zone: "a", ClientAddress: z.near.address()}}
	z.describe(z.far, "far", "c")
	for began := time.Now(); z.ask(t) != "near"; {
		if time.Since(began) > 10*time.Second {
			t.Fatal("never found")
		}
	}
}

func TestZoneTooLongIsRefused(t *testing.T) {
	if _, err := client.New(client.Config{Zone: strings.Repeat("x", 65)}); err == nil || !strings.Contains(err.Error(), "Zone") {
		t.Errorf("got %v", err)
	}
}
