package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/splashdam/splashdam/agent"
)

func busyQueues() queueMetrics {
	return queueMetrics{
		queues: func() agent.QueueUsage {
			return agent.QueueUsage{Queues: 9, Largest: []agent.QueueSize{{Group: "email", Topic: "orders", Locked: 3, Dying: 1, Lag: 40}},
				Acquired: 100, Accepted: 80, Released: 7, Rejected: 5, Expired: 4}
		},
		deadLetters: func() agent.DeadLetterUsage {
			return agent.DeadLetterUsage{Written: 12, Redriven: 6, Stuck: 2, Topics: []agent.DeadLetterCount{{Topic: "orders-dlq", Records: 5, Redriving: 1}, {Topic: "goals-dlq"}}}
		},
	}
}

func TestQueuesAndDeadLettersAreShownAsMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(busyQueues())
	const want = `splashdam_dead_letters{topic="goals-dlq"} 0
splashdam_dead_letters{topic="orders-dlq"} 5
splashdam_dead_letters_moved_total{direction="in"} 12
splashdam_dead_letters_moved_total{direction="out"} 6
splashdam_dead_letters_redriving{topic="goals-dlq"} 0
splashdam_dead_letters_redriving{topic="orders-dlq"} 1
splashdam_dead_letters_stuck 2
splashdam_queue_events_total{event="accepted"} 80
splashdam_queue_events_total{event="acquired"} 100
splashdam_queue_events_total{event="expired"} 4
splashdam_queue_events_total{event="rejected"} 5
splashdam_queue_events_total{event="released"} 7
splashdam_queue_lag{group="email",topic="orders"} 40
splashdam_queue_records{group="email",state="failed",topic="orders"} 1
splashdam_queue_records{group="email",state="locked",topic="orders"} 3
splashdam_queues 9
`
	if got := scrape(r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAlertRulesNameWhatIsThere(t *testing.T) {
	text, err := os.ReadFile("../../deploy/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(busyQueues())
	shown := scrape(r)
	metrics := regexp.MustCompile(`splashdam_[a-z_]+`).FindAllString(string(text), -1)
	for _, m := range metrics {
		if !regexp.MustCompile(`(?m)^` + m + `[{ ]`).MatchString(shown) {
			t.Errorf("no agent shows %s", m)
		}
	}
	root := newRoot(&environment{})
	said := strings.Join(strings.Fields(string(text)), " ") // over the ends of lines
	commands := regexp.MustCompile(`"splashdam ([a-z ]+[a-z])`).FindAllStringSubmatch(said, -1)
	for _, c := range commands {
		words := strings.Fields(c[1])
		if found, _, err := root.Find(words); err != nil || !slices.Equal(strings.Fields(found.CommandPath()), append([]string{"splashdam"}, words...)) {
			t.Errorf("there is no command splashdam %s: %v", c[1], err)
		}
	}
	if len(metrics) < 3 || len(commands) < 5 {
		t.Errorf("looked at the metrics %v and the commands %v only", metrics, commands)
	}
}
