package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	metamem "github.com/splashdam/splashdam/metadata/mem"
	objmem "github.com/splashdam/splashdam/objectlog/mem"
)

func TestRestartedAgentLeadsAtOnceAndAnotherAfterTheLease(t *testing.T) {
	for name, c := range map[string]struct {
		address string // of the second agent; the first has "one:1"
		host    string // the first has none
		longest time.Duration
		least   time.Duration
	}{
		"restarted": {address: "one:1", longest: time.Second},
		"elsewhere": {address: "one:1", host: "b", longest: 10 * time.Second, least: 2 * time.Second},
		"another":   {address: "two:1", longest: 10 * time.Second, least: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStores()
				cfg := testConfig()
				cfg.ExclusiveTable, cfg.PeerAddress = false, "one:1"
				a := start(t, s, cfg)
				a.topic(t, "orders", 1)
				s.failTable(func(metamem.Request) metamem.Fault { return metamem.FailBefore })
				s.failBucket(func(objmem.Request) objmem.Fault { return objmem.FailBefore })
				a.kill()
				s.heal()
				began := time.Now()
				cfg.PeerAddress, cfg.Host = c.address, c.host
				b := start(t, s, cfg)
				if r := b.produce(t, values("orders", 0, "a")); r.Err != nil {
					t.Fatal(r.Err)
				}
				if took := time.Since(began); took > c.longest || took < c.least {
					t.Errorf("the next agent acknowledged after %s, want %s to %s", took, c.least, c.longest)
				}
			})
		})
	}
}

func TestAgentThatDoesNotLeadIsNotReadyUntilItDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStores()
		cfg := testConfig()
		cfg.ExclusiveTable = false
		a := start(t, s, cfg)
		b, err := Open(t.Context(), cfg, s.bucket, s.table)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx) }()
		<-time.After(20 * time.Second)
		wantNotReady(t, running{Agent: b}, "stands by", a.presence.info.Boot)
		a.stop()
		<-time.After(5 * time.Second)
		wantErr(t, "the next leader", b.Ready(), nil)
		cancel()
		wantErr(t, "run", <-ended, nil)
	})
}
