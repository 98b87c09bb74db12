package e2e

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
)

const kills = 10

func TestAcknowledgedRecordsSurviveTenKills(t *testing.T) {
	t.Parallel()
	t.Run("dev", func(t *testing.T) {
		surviveKills(t, onFolder(filepath.Join(t.TempDir(), "data")), 50_000, nil)
	})
	t.Run("minio+ministack", func(t *testing.T) {
		t.Parallel()
		surviveKills(t, realStack(t), 5_000, nil)
	})
	// These two keep their data over kill -9 as well.
	for _, engine := range []localstack.Engine{localstack.Dynalite, localstack.Dynoxide} {
		t.Run("minio+"+string(engine), func(t *testing.T) {
			t.Parallel()
			objects, table := startServer(t, localstack.MinIO), startServer(t, engine)
			surviveKills(t, onServers(objects.Endpoint, table.Endpoint).init(t), 5_000, []*server{table, objects})
		})
	}
}

// surviveKills kills the broker ten times, and between those its stores in turn, while records are written.
func surviveKills(t *testing.T, s stack, perSecond int, stores []*server) {
	address := freeAddress(t)
	b := s.start(t, address)
	l := startLoad(t, b, perSecond)
	random := rand.New(rand.NewPCG(4, 4))
	pause := func() { <-time.After(time.Duration(random.Int64N(int64(300 * time.Millisecond)))) }
	for i := range kills {
		pause()
		if len(stores) > 0 && i%2 == 0 {
			stores[i/2%len(stores)].crash()
			pause()
		}
		b.kill()
		killed := time.Now()
		b = s.start(t, address)
		l.awaitAck(startTimeout)
		t.Logf("kill %d: ready again after %s, first acknowledgement %s after the kill", i+1, b.ready.Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
	}
	l.finish(b)
	b.stop()
	l.check(s.start(t, address))
}

// afterKill is what a fault's end may cost at most until the next acknowledgement. The lease of a dead agent, which must be seen not to
// move for 3 s, is the greatest part.
const afterKill = 10 * time.Second

func TestRestartedAgentAcknowledgesSoon(t *testing.T) {
	t.Parallel()
	s, address := realStack(t), freeAddress(t)
	b := s.start(t, address)
	l := startLoad(t, b, 1_000)
	for _, end := range []struct {
		name string
		do   func()
	}{
		{"kill -9", func() { b.kill() }},
		{"stop", func() { b.stop() }},
		{"stop again", func() { b.stop() }},
		{"kill -9 again", func() { b.kill() }},
	} {
		l.awaitAck(startTimeout)
		began := time.Now()
		end.do()
		stopped := time.Since(began)
		restarted := time.Now()
		b = s.start(t, address)
		l.awaitAck(startTimeout)
		took := time.Since(restarted)
		t.Logf("%s: gone after %s, ready %s after the start, first acknowledgement after %s", end.name,
			stopped.Round(time.Millisecond), b.ready.Round(time.Millisecond), took.Round(time.Millisecond))
		if took > afterKill {
			t.Errorf("%s: first acknowledgement %s after the start, want at most %s", end.name, took, afterKill)
		}
	}
	l.finish(b)
}
