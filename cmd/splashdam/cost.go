package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

func newCost(env *environment) *cobra.Command {
	var over time.Duration
	cmd := &cobra.Command{
		Use:   "cost",
		Short: "Show what the stores charge for requests, per hour, by cause and by topic",
		Long: `Cost asks every agent of the cluster what it has asked of the bucket and the table, and multiplies the rates per hour with
prices. With --over it counts for that long; without, since each agent started. Requests are counted by the agents as they send
them, attempts that failed included, and by cause:

  flush     segments are stored           commit    entries are appended to shard logs
  read      segments and logs are read    snapshot  state is stored, read or removed
  lease     leadership is renewed         cluster   everything else, such as heartbeats and self-tests

Flush and commit are shared among topics by the stored bytes that were produced, read by the bytes that were fetched; the rest is
the base cost of a cluster. Only requests are counted: storage, transfer, backups and the agents themselves are not. Stores on the
agent's own machine charge nothing and are not shown.

--prices is the name of a built-in table or the path of a YAML file. Built in is us-east-1: list prices of S3 Standard
(https://aws.amazon.com/s3/pricing/) and DynamoDB on demand (https://aws.amazon.com/dynamodb/pricing/on-demand/) since November
2024, without free tier. A file has these fields, in US dollars; these are the values of us-east-1:

  bucket_write_per_1000: 0.005       # 1,000 PUT, COPY, POST or LIST requests
  bucket_read_per_1000: 0.0004       # 1,000 GET or other requests; DELETE is free
  table_write_per_1000000: 0.625     # 1,000,000 write units, of up to 1 KiB each
  table_read_per_1000000: 0.125      # 1,000,000 read units, of up to 4 KiB each`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if over != 0 && (over < time.Second || over > 24*time.Hour) {
				return usageError("cost: --over %v: want 1s to 24h", over)
			}
			p, err := readPrices(env.config.Prices)
			if err != nil {
				return err
			}
			return env.withClient(func(c *client.Client) error { return env.cost(cmd.Context(), c, p, over) })
		},
	}
	cmd.Flags().DurationVar(&over, "over", 0, "count for so long, 1s to 24h; 0: since the agents started")
	addSettings(cmd, "cost")
	return cmd
}

func (env *environment) cost(ctx context.Context, c *client.Client, p prices, over time.Duration) error {
	agents, missing, err := env.usageOfAgents(ctx, c)
	if err != nil {
		return err
	}
	if over > 0 {
		select {
		case <-time.After(over):
		case <-ctx.Done():
			return ctx.Err()
		}
		var more []notAsked
		agents, more = env.usageSince(ctx, agents)
		missing = append(missing, more...)
	}
	if len(agents) == 0 {
		return &terminalError{op: "ask for usage at", object: env.config.Server, cause: errors.New(causeOfAll(missing)),
			hint: "name agents that can be reached from here with --server"}
	}
	report := costOf(agents, p)
	report.NotAsked = missing
	return env.print(report, func() { env.showCost(report, over) })
}

func causeOfAll(missing []notAsked) string {
	if len(missing) == 0 {
		return "no agent answered"
	}
	return missing[0].Cause
}

// costReport is the result of cost. Rates are per hour, all agents together.
type costReport struct {
	Prices        prices      `json:"prices"` // in dollars
	Agents        []costAgent `json:"agents"`
	NotAsked      []notAsked  `json:"not_asked,omitempty"` // agents that are missing in all figures
	Stores        []storeCost `json:"stores"`
	DollarsPerH   float64     `json:"dollars_per_hour"`
	DollarsPerGiB *float64    `json:"dollars_per_gib_produced,omitempty"` // of stored bytes; absent if there were none
	BasePerH      float64     `json:"base_dollars_per_hour"`              // what no topic has a share of
	Topics        []topicCost `json:"topics"`                             // dearest first; what is not named is last
}

// costAgent is an agent that the figures include.
type costAgent struct {
	Boot    string  `json:"boot"`
	Address string  `json:"address"` // at which it was asked
	Seconds float64 `json:"counted_seconds"`
}

// storeCost is the rate of one store and cause.
type storeCost struct {
	Store    string  `json:"store"`
	Cause    string  `json:"cause"`
	Requests float64 `json:"requests_per_hour"`
	Bytes    float64 `json:"bytes_per_hour"`
	Dollars  float64 `json:"dollars_per_hour"`
}

// topicCost is the rate of one topic.
type topicCost struct {
	Topic    string  `json:"topic"` // empty: those that are not named
	Produced float64 `json:"produced_bytes_per_hour"`
	Fetched  float64 `json:"fetched_bytes_per_hour"`
	Dollars  float64 `json:"dollars_per_hour"`
	Share    float64 `json:"share"` // of dollars_per_hour, 0 to 1
}

// costOf adds up the rates of agents, each over its own time.
func costOf(agents []agentUsage, p prices) costReport {
	r := costReport{Prices: p, Agents: []costAgent{}, Stores: []storeCost{}, Topics: []topicCost{}}
	for _, a := range agents {
		r.Agents = append(r.Agents, costAgent{a.Boot, a.address, a.CountedFor.Seconds()})
		hours := a.CountedFor.Hours()
		if hours <= 0 {
			continue
		}
		for _, l := range a.Requests {
			i := slices.IndexFunc(r.Stores, func(s storeCost) bool { return s.Store == l.Store && s.Cause == l.Cause })
			if i < 0 {
				i, r.Stores = len(r.Stores), append(r.Stores, storeCost{Store: l.Store, Cause: l.Cause})
			}
			s := &r.Stores[i]
			s.Requests += float64(l.Requests) / hours
			s.Bytes += float64(l.Bytes) / hours
			s.Dollars += p.dollars(l.Store, l.Kind, float64(l.Units)/hours)
		}
		for _, t := range a.Topics {
			i := slices.IndexFunc(r.Topics, func(c topicCost) bool { return c.Topic == t.Topic })
			if i < 0 {
				i, r.Topics = len(r.Topics), append(r.Topics, topicCost{Topic: t.Topic})
			}
			r.Topics[i].Produced += float64(t.Produced) / hours
			r.Topics[i].Fetched += float64(t.Fetched) / hours
		}
	}
	slices.SortFunc(r.Stores, func(a, b storeCost) int {
		return cmp.Or(cmp.Compare(a.Store, b.Store), cmp.Compare(causeOrder(a.Cause), causeOrder(b.Cause)), cmp.Compare(a.Cause, b.Cause))
	})
	r.share()
	r.round()
	return r
}

// round keeps the billionths of a dollar: what is behind them is noise of the arithmetic.
func (r *costReport) round() {
	figures := []*float64{&r.DollarsPerH, &r.BasePerH}
	if r.DollarsPerGiB != nil {
		figures = append(figures, r.DollarsPerGiB)
	}
	for i := range r.Stores {
		figures = append(figures, &r.Stores[i].Dollars)
	}
	for i := range r.Topics {
		figures = append(figures, &r.Topics[i].Dollars, &r.Topics[i].Share)
	}
	for _, f := range figures {
		*f = math.Round(*f*1e9) / 1e9
	}
}

// share divides the costs of writing and reading among topics by their bytes. What has no bytes to go by stays in the base.
func (r *costReport) share() {
	var writing, reading, produced, fetched float64
	for _, t := range r.Topics {
		produced += t.Produced
		fetched += t.Fetched
	}
	for _, s := range r.Stores {
		r.DollarsPerH += s.Dollars
		switch {
		case (s.Cause == "flush" || s.Cause == "commit") && produced > 0:
			writing += s.Dollars
		case s.Cause == "read" && fetched > 0:
			reading += s.Dollars
		default:
			r.BasePerH += s.Dollars
		}
	}
	if produced > 0 {
		perGiB := r.DollarsPerH / produced * (1 << 30)
		r.DollarsPerGiB = &perGiB
	}
	for i := range r.Topics {
		t := &r.Topics[i]
		if produced > 0 {
			t.Dollars += writing * t.Produced / produced
		}
		if fetched > 0 {
			t.Dollars += reading * t.Fetched / fetched
		}
		if r.DollarsPerH > 0 {
			t.Share = t.Dollars / r.DollarsPerH
		}
	}
	slices.SortFunc(r.Topics, func(a, b topicCost) int {
		if (a.Topic == "") != (b.Topic == "") {
			return cmp.Compare(b.Topic, a.Topic)
		}
		return cmp.Or(cmp.Compare(b.Dollars, a.Dollars), cmp.Compare(b.Produced+b.Fetched, a.Produced+a.Fetched), cmp.Compare(a.Topic, b.Topic))
	})
}

func (env *environment) showCost(r costReport, over time.Duration) {
	for _, m := range r.NotAsked {
		fmt.Fprintf(env.out, "Not included: agent %s at %s: %s.\n", m.Boot, cmp.Or(m.Address, "(no address)"), m.Cause)
	}
	period := "since they started"
	if over > 0 {
		period = "over " + over.String()
	}
	if len(r.Stores) == 0 {
		fmt.Fprintf(env.out, "No requests that a store charges for: %s, %s.\n", countAgents(len(r.Agents)), period)
		return
	}
	fmt.Fprintf(env.out, "Requests to the stores: %s, %s, prices of %s.\n\n", countAgents(len(r.Agents)), period, r.Prices.Table)
	var rows [][]string
	for _, s := range r.Stores {
		rows = append(rows, []string{s.Store, s.Cause, humanCount(int64(s.Requests + 0.5)), humanBytes(s.Bytes), dollars(s.Dollars)})
	}
	rows = append(rows, []string{"total", "", "", "", dollars(r.DollarsPerH)})
	env.table([]string{"STORE", "CAUSE", "REQUESTS/H", "BYTES/H", "$/H"}, rows)
	if r.DollarsPerGiB != nil {
		fmt.Fprintf(env.out, "\n$%s per GiB produced, as stored.\n", dollars(*r.DollarsPerGiB))
	}
	fmt.Fprintln(env.out)
	rows = nil
	for _, t := range r.Topics {
		rows = append(rows, []string{cmp.Or(t.Topic, "(others)"), humanBytes(t.Produced), humanBytes(t.Fetched), dollars(t.Dollars), percent(t.Share)})
	}
	share := 0.0
	if r.DollarsPerH > 0 {
		share = r.BasePerH / r.DollarsPerH
	}
	rows = append(rows, []string{"(base)", "", "", dollars(r.BasePerH), percent(share)})
	env.table([]string{"TOPIC", "PRODUCED/H", "FETCHED/H", "$/H", "SHARE"}, rows)
	fmt.Fprintln(env.out, "\nRequests only: storage and transfer are not counted.")
}

func countAgents(n int) string {
	if n == 1 {
		return "1 agent"
	}
	return fmt.Sprintf("%d agents", n)
}

func dollars(d float64) string { return fmt.Sprintf("%.6f", d) }

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }
