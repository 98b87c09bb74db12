package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

func newGroupDescribe(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "describe GROUP",
		Short: "Show a group, who has which partitions, and what somebody is still to stop",
		Long: `Describe shows how far a group is with its assignment:

  empty        no members
  assigning    members came, went or changed; an assignment is due
  reconciling  some partitions have not reached the member that they are assigned to
  stable       every member works on what it is assigned

A partition goes to another member only when the one that has it stopped it, left, or its session ended. See "splashdam lag GROUP" for
positions.`,
		Args: oneArgument("GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.withClient(func(c *client.Client) error {
				g, err := c.Group(cmd.Context(), args[0])
				if err != nil {
					return groupError("describe", args[0], err)
				}
				return env.showGroup(g)
			})
		},
	}
}

// groupView is a group as it is printed.
type groupView struct {
	Group       string       `json:"group"`
	State       string       `json:"state"`
	Generation  int64        `json:"generation"`
	Coordinator string       `json:"coordinator"`
	Members     []memberView `json:"members"`
	Problems    []problem    `json:"problems"`
}

type memberView struct {
	Member         string                `json:"member"`
	Instance       string                `json:"instance,omitempty"`
	Client         string                `json:"client,omitempty"`
	Host           string                `json:"host,omitempty"`
	Topics         []string              `json:"topics,omitempty"`
	Pattern        string                `json:"pattern,omitempty"`
	SessionTimeout float64               `json:"session_timeout_seconds"`
	Joined         time.Time             `json:"joined"`
	Assigned       []topicPartitionsView `json:"assigned"`
	Stopping       []topicPartitionsView `json:"stopping,omitempty"`
}

type topicPartitionsView struct {
	Topic      string             `json:"topic"`
	TopicID    string             `json:"topic_id"`
	Partitions []client.Partition `json:"partitions"`
}

func viewMember(m client.GroupMember) memberView {
	return memberView{
		Member: m.Member, Instance: m.Instance, Client: m.Client, Host: m.Host, Topics: m.Topics, Pattern: m.Pattern,
		SessionTimeout: m.SessionTimeout.Seconds(), Joined: m.Joined, Assigned: viewPartitions(m.Assigned), Stopping: viewPartitions(m.Stopping),
	}
}

func viewPartitions(list []client.TopicPartitions) []topicPartitionsView {
	views := []topicPartitionsView{}
	for _, t := range list {
		views = append(views, topicPartitionsView{t.Topic, t.TopicID, t.Partitions})
	}
	return views
}

func (env *environment) showGroup(g client.Group) error {
	names := memberNames(g.Members)
	v := groupView{Group: g.Name, State: g.State, Generation: g.Generation, Coordinator: g.Coordinator, Members: []memberView{}, Problems: groupProblems(g, names)}
	var rows [][]string
	for _, m := range g.Members {
		v.Members = append(v.Members, viewMember(m))
		rows = append(rows, []string{names[m.Member], orNone(m.Client), orNone(m.Host), orNone(partitionsText(m.Assigned)), orNone(partitionsText(m.Stopping))})
	}
	return env.print(&v, func() {
		fmt.Fprintf(env.out, "group        %s (%s)\ngeneration   %d\n", v.Group, v.State, v.Generation)
		if v.Coordinator != "" {
			fmt.Fprintf(env.out, "coordinator  agent %s\n", v.Coordinator)
		}
		if len(rows) > 0 {
			env.table([]string{"MEMBER", "CLIENT", "HOST", "PARTITIONS", "STILL TO STOP"}, rows)
		}
		env.showProblems(v.Problems)
	})
}

// groupProblems says what is wrong with a group, or keeps it from being stable, and what to do.
func groupProblems(g client.Group, names map[string]string) []problem {
	found := []problem{}
	tell := func(what, do string) { found = append(found, problem{What: what, Do: do}) }
	if g.Coordinator == "" && len(g.Members) > 0 {
		tell("No agent is known to keep the group's sessions", "an agent takes over within seconds; if none does, see splashdam cluster status")
	}
	idle := g.State == "stable" && len(g.Members) > 0
	for _, m := range g.Members {
		idle = idle && len(m.Assigned) == 0
		if len(m.Stopping) > 0 {
			tell(fmt.Sprintf("%s waits for member %s to stop it", partitionsText(m.Stopping), names[m.Member]),
				"it goes on when that member has finished what it has at hand; one that takes longer than its rebalance timeout is put out of the group")
		}
	}
	if idle {
		tell("No member has a partition", "none of the topics that they ask for is there: see splashdam topic list, and splashdam group members "+g.Name)
	}
	return found
}

// memberNames are what members are called in tables: by their instances, else by the beginning of their ids.
func memberNames(members []client.GroupMember) map[string]string {
	var ids []string
	for _, m := range members {
		ids = append(ids, m.Member)
	}
	names := shortened(ids)
	for _, m := range members {
		names[m.Member] = cmp.Or(m.Instance, names[m.Member])
	}
	return names
}

// partitionsText is a list of partitions as a person reads it: orders/0-3,5 goals/1.
func partitionsText(list []client.TopicPartitions) string {
	var words []string
	for _, t := range list {
		words = append(words, t.Topic+"/"+rangesText(t.Partitions))
	}
	return strings.Join(words, " ")
}

// rangesText is 0-3,5 for 0, 1, 2, 3 and 5.
func rangesText(partitions []client.Partition) string {
	sorted := slices.Sorted(slices.Values(partitions))
	var b strings.Builder
	for i := 0; i < len(sorted); {
		first := i
		for i++; i < len(sorted) && sorted[i] == sorted[i-1]+1; i++ {
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, sorted[first])
		if i-first > 1 {
			fmt.Fprintf(&b, "-%d", sorted[i-1])
		}
	}
	return b.String()
}
