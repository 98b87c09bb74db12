package client_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/client"
)

// mishap is what a load balancer makes of one request whose agent dies.
type mishap int

const (
	forwarded  mishap = iota
	noServer          // a page: nobody could take the request
	badGateway        // a page: the agent did what was asked, its answer was lost
	timedOut          // the same after a time
	resetFirst        // the connection is cut before the agent has the request
	resetLast         // the connection is cut when the agent begins to answer
	resetHalf         // the connection is cut within the answer
	goAway            // answered, and the connection takes no more requests
	mishaps
)

// unreliable stands before next as a load balancer whose agents die.
func unreliable(next http.Handler, decide func(*http.Request) mishap) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := decide(r)
		if strings.HasSuffix(r.URL.Path, "Stream") && (what == badGateway || what == timedOut) {
			what = resetLast // the answers of a stream are not waited for
		}
		page := func(status int) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<html><body><h1>No server is available to handle this request.</h1></body></html>\n"))
		}
		switch what {
		case noServer:
			page(http.StatusServiceUnavailable)
		case badGateway, timedOut:
			next.ServeHTTP(httptest.NewRecorder(), r)
			page(map[mishap]int{badGateway: http.StatusBadGateway, timedOut: http.StatusGatewayTimeout}[what])
		case resetFirst:
			panic(http.ErrAbortHandler)
		case resetLast:
			next.ServeHTTP(&cutShort{ResponseWriter: w}, r)
		case resetHalf:
			next.ServeHTTP(&cutShort{ResponseWriter: w, left: 20}, r)
		case goAway:
			w.Header().Set("Connection", "close")
			fallthrough
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// cutShort cuts the connection behind so many bytes of the answer.
type cutShort struct {
	http.ResponseWriter
	left int
}

func (c *cutShort) Write(b []byte) (int, error) {
	if len(b) > c.left {
		_, _ = c.ResponseWriter.Write(b[:c.left])
		c.Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

func (c *cutShort) Flush() { _ = http.NewResponseController(c.ResponseWriter).Flush() }

// behindBalancer puts random mishaps, one in so many requests, before a fake.
func behindBalancer(f *fake, seed uint64, every int) {
	random := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	f.server.Config.Handler = unreliable(f.server.Config.Handler, func(r *http.Request) mishap {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/readyz" || random.IntN(every) > 0 {
			return forwarded
		}
		return mishap(random.IntN(int(mishaps)))
	})
}

func TestWhatALoadBalancerMakesOfDeadAgentsNeverFailsARecord(t *testing.T) {
	for name, change := range map[string]func(*client.Config, *client.ProducerConfig){
		"stream":   func(*client.Config, *client.ProducerConfig) {},
		"unary":    func(_ *client.Config, p *client.ProducerConfig) { p.Unary = true },
		"HTTP/1.1": func(c *client.Config, _ *client.ProducerConfig) { c.HTTP = client.HTTP1 },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(6) {
				f := startFake()
				defer f.close()
				f.addTopic("matches", 2)
				behindBalancer(f, seed, 2)
				cfg := impatient(f)
				p := client.ProducerConfig{Partitioner: client.Manual, BatchBytes: 1 << 10}
				change(&cfg, &p)
				c, err := client.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				producer, err := c.NewProducer(p)
				if err != nil {
					t.Fatal(err)
				}
				exactlyOnce(t, f, produceAll(t, producer, 2, 300), 300)
			}
		})
	}
}

func TestConsumerGoesOnAtItsOffsetWhateverALoadBalancerMakesOfItsFetches(t *testing.T) {
	for seed := range uint64(6) {
		b := newBench(t, 3)
		behindBalancer(b.fake, seed, 2)
		for p := range 3 {
			b.fill("matches", p, 200, 20)
		}
		c := b.consumer(t, client.ConsumerConfig{FetchBytes: 4 << 10, FetchWait: 20 * time.Millisecond})
		next := map[client.Partition]client.Offset{}
		read(t, c, next, 600, 50)
		for p := range 3 {
			b.fill("matches", p, 20, 7)
		}
		read(t, c, next, 60, 100)
	}
}

func TestPageOfALoadBalancerIsNoAnswer(t *testing.T) {
	b := newBench(t, 1)
	b.server.Config.Handler = unreliable(b.server.Config.Handler, func(r *http.Request) mishap {
		if r.URL.Path == "/readyz" {
			return forwarded
		}
		return noServer
	})
	// A page may hide that the topic was created: the change is not repeated.
	_, err := b.client.CreateTopic(within(t), client.Topic{Name: "goals"})
	if !errors.Is(err, client.ErrUnknownOutcome) || !strings.Contains(err.Error(), "503 Service Unavailable, which is not an agent's answer") {
		t.Errorf("got %v, want an unknown outcome that names the page", err)
	}
}

func TestAgentThatStopsIsLeftAtOnce(t *testing.T) {
	for _, unary := range []bool{false, true} {
		one, other := startFake(), startFake()
		defer one.close()
		defer other.close()
		one.addTopic("matches", 1)
		other.addTopic("matches", 1)
		cfg := impatient(one)
		cfg.Addresses = append(cfg.Addresses, other.address())
		// Whoever waits for another attempt is too late.
		cfg.RetryDelayMin, cfg.RetryDelayMax = time.Minute, time.Minute
		c, err := client.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx := within(t)
		if _, _, err := c.Topic(ctx, "matches"); err != nil {
			t.Fatal(err)
		}
		stops, stays := one, other
		if other.count("GetTopic") > 0 {
			stops, stays = other, one
		}
		stops.mu.Lock()
		stops.refuse = func(call string) error {
			if strings.HasPrefix(call, "Produce") {
				return failure(connect.CodeUnavailable, detail("unavailable", "DRAINING", 15, true))
			}
			return nil
		}
		stops.mu.Unlock()
		p, err := c.NewProducer(client.ProducerConfig{Partitioner: client.Manual, Unary: unary})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := p.ProduceSync(ctx, to(0, 0)); err != nil || r[0].Offset != 0 {
			t.Errorf("unary %t: got %+v %v", unary, r, err)
		}
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
		if got := len(stays.values("matches", 0)); got != 1 {
			t.Errorf("unary %t: %d records at the agent that stays, want 1", unary, got)
		}
	}
}

func TestProducerWaitsOutALoadBalancerWithoutAgents(t *testing.T) {
	b := newBench(t, 1)
	var mu sync.Mutex
	pages := 0
	b.server.Config.Handler = unreliable(b.server.Config.Handler, func(*http.Request) mishap {
		mu.Lock()
		defer mu.Unlock()
		if pages++; pages <= 100 {
			return noServer
		}
		return forwarded
	})
	p := b.producer(t, client.ProducerConfig{Partitioner: client.Manual, Unary: true})
	exactlyOnce(t, b.fake, produceAll(t, p, 1, 10), 10)
}

func TestProducerNeverTakesAPageForARefusal(t *testing.T) {
	b := newBench(t, 1)
	p := b.producer(t, client.ProducerConfig{Partitioner: client.Manual, Unary: true, DeliveryTimeout: 200 * time.Millisecond})
	if _, err := p.ProduceSync(within(t), to(0, 0)); err != nil {
		t.Fatal(err)
	}
	b.server.Config.Handler = unreliable(b.server.Config.Handler, func(*http.Request) mishap { return noServer })
	began := time.Now()
	_, err := p.ProduceSync(within(t), to(0, 1))
	if took := time.Since(began); !errors.Is(err, client.ErrUnknownOutcome) || took < 200*time.Millisecond {
		t.Errorf("after %v: %v, want an unknown outcome at the delivery timeout", took, err)
	}
	if err := p.Close(within(t)); err != nil {
		t.Error(err)
	}
}
