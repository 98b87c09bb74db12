package localstack_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
)

func startBalancer(t *testing.T, agents ...*toyAgent) *localstack.Server {
	t.Helper()
	cfg := localstack.Config{Engine: localstack.HAProxy}
	for _, a := range agents {
		cfg.Agents = append(cfg.Agents, a.address)
	}
	return localstacktest.Start(t, cfg)
}

// post makes a call and answers the status and what was said.
func post(c *http.Client, url, body string) (status int, answer string, err error) {
	resp, err := c.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// until asks again and again until it is so, or the time is over.
func until(t *testing.T, within time.Duration, what string, so func() bool) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for begin := time.Now(); !so(); <-again.C {
		if time.Since(begin) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func TestBalancerForwardsCallsAndStreamsOnOnePort(t *testing.T) {
	b := startBalancer(t, startToyAgent(t, "one"))
	onBothVersions(t, func(t *testing.T, two bool) {
		c := httpClient(t, two)
		want := map[bool]string{false: "one 100000 HTTP/1.1", true: "one 100000 HTTP/2.0"}[two]
		if status, answer, err := post(c, b.Endpoint+"/call", strings.Repeat("x", 100_000)); err != nil || status != 200 || answer != want {
			t.Errorf("a call: %d %q %v, want %q", status, answer, err, want)
		}
		// A stream both ways: each word comes back before the next one is sent.
		in, out := io.Pipe()
		resp, err := c.Post(b.Endpoint+"/echo", "text/plain", in)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		begin := time.Now()
		for i := range 10 {
			word := fmt.Sprintf("word %d", i)
			go io.WriteString(out, word)
			got := make([]byte, len(word))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != word {
				t.Fatalf("got %q, %v, want %q back", got, err, word)
			}
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("ten words took %v: they are held back", took)
		}
		out.Close()
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
			t.Errorf("at the end of the stream: %q, %v", rest, err)
		}
	})
}

func TestAgentThatIsNotReadyGetsNothingNewAndAnswersWhatItHas(t *testing.T) {
	onBothVersions(t, func(t *testing.T, two bool) {
		agents := map[string]*toyAgent{"one": startToyAgent(t, "one"), "other": startToyAgent(t, "other")}
		b := startBalancer(t, agents["one"], agents["other"])
		polled := make(chan string, 1)
		go func() {
			_, answer, err := post(httpClient(t, two), b.Endpoint+"/poll", "")
			polled <- fmt.Sprint(answer, err)
		}()
		var leaving, staying *toyAgent
		select {
		case <-agents["one"].held:
			leaving, staying = agents["one"], agents["other"]
		case <-agents["other"].held:
			leaving, staying = agents["other"], agents["one"]
		}
		leaving.ready.Store(false)
		inARow := 0
		until(t, time.Second, "new calls go to the other", func() bool {
			status, answer, err := post(httpClient(t, two), b.Endpoint+"/call", "")
			if err != nil || status != 200 {
				t.Fatalf("while an agent is ready: %d %q %v", status, answer, err)
			}
			if inARow++; !strings.HasPrefix(answer, staying.name) {
				inARow = 0
			}
			return inARow == 10
		})
		close(leaving.release)
		if got := <-polled; got != leaving.name+"<nil>" {
			t.Errorf("what the agent had when it became not ready: %s", got)
		}
		leaving.ready.Store(true)
		until(t, 2*time.Second, "the agent gets calls when it is ready again", func() bool {
			_, answer, _ := post(httpClient(t, two), b.Endpoint+"/call", "")
			return strings.HasPrefix(answer, leaving.name)
		})
	})
}

func TestAgentThatStopsInOrderFailsNoCall(t *testing.T) {
	onBothVersions(t, func(t *testing.T, two bool) {
		stopping, staying := startToyAgent(t, "stopping"), startToyAgent(t, "staying")
		b := startBalancer(t, stopping, staying)
		stopped := make(chan struct{})
		var callers sync.WaitGroup
		for range 8 {
			c := httpClient(t, two)
			callers.Go(func() {
				for after := 0; after < 20; {
					status, answer, err := post(c, b.Endpoint+"/call", "x")
					if err != nil || status != 200 {
						t.Errorf("a call failed: %d %q %v", status, answer, err)
						return
					}
					select {
					case <-stopped:
						after++
					default:
					}
				}
			})
		}
		until(t, 5*time.Second, "both have calls", func() bool { return stopping.calls.Load() > 10 && staying.calls.Load() > 10 })
		stopping.ready.Store(false)
		// Ten in a row may go to the other by chance before the balancer has asked, and a connection from then may still wait here.
		until(t, 5*time.Second, "fresh connections go to the other", func() bool {
			asked, before := stopping.refusals.Load() > 0, stopping.calls.Load()
			for range 10 {
				if _, answer, _ := post(httpClient(t, two), b.Endpoint+"/call", ""); !strings.HasPrefix(answer, staying.name) {
					return false
				}
			}
			return asked && (two || stopping.calls.Load() == before)
		})
		if err := stopping.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		close(stopped)
		callers.Wait()
	})
}

func TestCallOfAKilledAgentIsNotMadeTwice(t *testing.T) {
	onBothVersions(t, func(t *testing.T, two bool) {
		agents := []*toyAgent{startToyAgent(t, "one"), startToyAgent(t, "other")}
		b := startBalancer(t, agents...)
		c := httpClient(t, two)
		failed := make(chan string, 1)
		go func() {
			status, answer, err := post(c, b.Endpoint+"/hang", "record")
			if err == nil && status != http.StatusBadGateway {
				failed <- fmt.Sprintf("%d %q", status, answer)
			}
			close(failed)
		}()
		killed, other := agents[0], agents[1]
		select {
		case <-killed.held:
		case <-other.held:
			killed, other = other, killed
		}
		killed.kill()
		if answer, wrong := <-failed; wrong {
			t.Errorf("the call of the killed agent: %s", answer)
		}
		// At once, before a check has found out.
		for range 10 {
			if status, answer, err := post(httpClient(t, two), b.Endpoint+"/call", ""); err != nil || status != 200 {
				t.Fatalf("a new call: %d %q %v", status, answer, err)
			}
		}
		if status, _, err := post(c, b.Endpoint+"/call", ""); err != nil || status != 200 {
			t.Errorf("a new call of the same client: %d %v", status, err)
		}
		if got := killed.calls.Load() + other.calls.Load() - 11; got != 1 {
			t.Errorf("the call was made %d times", got)
		}
	})
}

func TestBalancerSaysThatNoAgentIsReady(t *testing.T) {
	onBothVersions(t, func(t *testing.T, two bool) {
		only := startToyAgent(t, "only")
		only.ready.Store(false)
		b := startBalancer(t, only)
		c := httpClient(t, two)
		until(t, 2*time.Second, "503 with Retry-After", func() bool {
			resp, err := c.Post(b.Endpoint+"/call", "text/plain", nil)
			if err != nil {
				return false // it was taken for ready until the first check, and its connection is ended
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			return resp.StatusCode == 503 && resp.Header.Get("Retry-After") == "1" && string(body) == "no agent is ready\n"
		})
		only.ready.Store(true)
		want := map[bool]string{false: "only 0 HTTP/1.1", true: "only 0 HTTP/2.0"}[two]
		until(t, 2*time.Second, "the same client gets through by its own version", func() bool {
			_, answer, err := post(c, b.Endpoint+"/call", "")
			if err != nil {
				t.Errorf("after 503: %v", err)
			}
			return answer == want
		})
	})
}
