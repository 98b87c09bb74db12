package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/splashdam/splashdam/agent"
)

// queueMetrics shows what an agent tells of queues and dead letters without asking anybody.
type queueMetrics struct {
	queues      func() agent.QueueUsage
	deadLetters func() agent.DeadLetterUsage
}

var (
	queueCount   = prometheus.NewDesc("splashdam_queues", "Queues, a group on a topic each, that have partitions in shards that this agent leads.", nil, nil)
	queueLag     = prometheus.NewDesc("splashdam_queue_lag", "Records that are not finished, in partitions whose shards this agent leads: of the 100 queues with the most.", []string{"group", "topic"}, nil)
	queueRecords = prometheus.NewDesc("splashdam_queue_records", "Of them those that are locked, and those that failed and are on their way to the dead-letter topic.", []string{"group", "topic", "state"}, nil)
	queueEvents  = prometheus.NewDesc("splashdam_queue_events_total", "Records that this agent was asked to hand out, and that were said to be accepted, released or rejected, and locks that ended here.", []string{"event"}, nil)

	deadLetters          = prometheus.NewDesc("splashdam_dead_letters", "Dead letters in partitions whose shards this agent leads: of the 100 topics with the most.", []string{"topic"}, nil)
	deadLettersRedriving = prometheus.NewDesc("splashdam_dead_letters_redriving", "Of them those on their way to another topic.", []string{"topic"}, nil)
	deadLettersMoved     = prometheus.NewDesc("splashdam_dead_letters_moved_total", "Records that this agent wrote as leader: to dead-letter topics, and redriven out of them.", []string{"direction"}, nil)
	deadLettersStuck     = prometheus.NewDesc("splashdam_dead_letters_stuck", "Records on their way to or from a dead-letter topic that this agent can't write, or that wait behind such a one.", nil, nil)
)

func (queueMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queueCount, queueLag, queueRecords, queueEvents, deadLetters, deadLettersRedriving, deadLettersMoved, deadLettersStuck} {
		out <- d
	}
}

func (m queueMetrics) Collect(out chan<- prometheus.Metric) {
	show := func(d *prometheus.Desc, kind prometheus.ValueType, value int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, float64(value), labels...)
	}
	q := m.queues()
	show(queueCount, prometheus.GaugeValue, int64(q.Queues))
	for _, s := range q.Largest {
		show(queueLag, prometheus.GaugeValue, s.Lag, s.Group, s.Topic)
		show(queueRecords, prometheus.GaugeValue, s.Locked, s.Group, s.Topic, "locked")
		show(queueRecords, prometheus.GaugeValue, s.Dying, s.Group, s.Topic, "failed")
	}
	show(queueEvents, prometheus.CounterValue, q.Acquired, "acquired")
	show(queueEvents, prometheus.CounterValue, q.Accepted, "accepted")
	show(queueEvents, prometheus.CounterValue, q.Released, "released")
	show(queueEvents, prometheus.CounterValue, q.Rejected, "rejected")
	show(queueEvents, prometheus.CounterValue, q.Expired, "expired")
	d := m.deadLetters()
	for _, t := range d.Topics {
		show(deadLetters, prometheus.GaugeValue, t.Records, t.Topic)
		show(deadLettersRedriving, prometheus.GaugeValue, t.Redriving, t.Topic)
	}
	show(deadLettersMoved, prometheus.CounterValue, d.Written, "in")
	show(deadLettersMoved, prometheus.CounterValue, d.Redriven, "out")
	show(deadLettersStuck, prometheus.GaugeValue, int64(d.Stuck))
}
