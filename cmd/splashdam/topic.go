package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

func newTopic(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "Create, list, describe, alter and delete topics",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	addSettings(cmd, "topic")
	cmd.AddCommand(newTopicCreate(env), newTopicList(env), newTopicDescribe(env), newTopicAlter(env), newTopicDelete(env))
	return cmd
}

// topicView is a topic as it is printed.
type topicView struct {
	Name       string            `json:"name"`
	Partitions int32             `json:"partitions"`
	Settings   map[string]string `json:"settings,omitempty"`
	ID         string            `json:"id"`
	State      string            `json:"state"`
	Created    time.Time         `json:"created"`
	Details    []partitionView   `json:"partition_details,omitempty"`
}

type partitionView struct {
	Partition     int32  `json:"partition"`
	Shard         int32  `json:"shard"`
	LogStart      int64  `json:"log_start"`
	HighWatermark int64  `json:"high_watermark"`
	StoredBytes   int64  `json:"stored_bytes"`
	Error         string `json:"error,omitempty"`
}

func viewTopic(t client.Topic) topicView {
	return topicView{Name: t.Name, Partitions: t.Partitions, Settings: t.Settings, ID: t.ID, State: t.State, Created: t.Created}
}

func newTopicCreate(env *environment) *cobra.Command {
	var (
		partitions int32
		sets       []string
		maybe      bool
	)
	cmd := &cobra.Command{
		Use:     "create TOPIC",
		Short:   "Create a topic",
		Example: "  splashdam topic create matches --partitions 3 --set retention.ms=86400000",
		Args:    oneArgument("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := parseSettings(sets)
			if err != nil {
				return err
			}
			if partitions < 1 {
				return usageError("topic create: --partitions %d: want 1 to 100000", partitions)
			}
			return env.withClient(func(c *client.Client) error {
				t, err := c.CreateTopic(cmd.Context(), client.Topic{Name: args[0], Partitions: partitions, Settings: settings})
				if maybe && errors.Is(err, client.ErrTopicExists) {
					t, _, err = c.Topic(cmd.Context(), args[0])
				}
				if err != nil {
					return err
				}
				return env.print(viewTopic(t), func() {
					fmt.Fprintf(env.out, "topic %s has %d partitions\n", t.Name, t.Partitions)
				})
			})
		},
	}
	cmd.Flags().Int32VarP(&partitions, "partitions", "p", 1, "number of partitions")
	cmd.Flags().StringArrayVar(&sets, "set", nil, "name=value, a topic setting by Kafka's name; may be repeated")
	cmd.Flags().BoolVar(&maybe, "if-absent", false, "an existing topic is no error and stays as it is")
	return cmd
}

func newTopicList(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List topics by name",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.withClient(func(c *client.Client) error {
				topics, err := c.Topics(cmd.Context())
				if err != nil {
					return err
				}
				views, rows := []topicView{}, [][]string{}
				for _, t := range topics {
					views = append(views, viewTopic(t))
					rows = append(rows, []string{t.Name, fmt.Sprint(t.Partitions), t.State})
				}
				return env.print(views, func() { env.table([]string{"TOPIC", "PARTITIONS", "STATE"}, rows) })
			})
		},
	}
}

func newTopicDescribe(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "describe TOPIC",
		Short: "Show a topic, its settings and its partitions",
		Args:  oneArgument("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.withClient(func(c *client.Client) error {
				t, partitions, err := c.Topic(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return env.printTopic(t, partitions)
			})
		},
	}
}

func (env *environment) printTopic(t client.Topic, partitions []client.PartitionInfo) error {
	view := viewTopic(t)
	var rows [][]string
	for _, p := range partitions {
		v := partitionView{
			Partition: int32(p.Partition), Shard: p.Shard, LogStart: int64(p.LogStart),
			HighWatermark: int64(p.HighWatermark), StoredBytes: p.StoredBytes,
		}
		if p.Err != nil {
			v.Error = p.Err.Error()
		}
		view.Details = append(view.Details, v)
		rows = append(rows, []string{
			fmt.Sprint(v.Partition), fmt.Sprint(v.LogStart), fmt.Sprint(v.HighWatermark), humanBytes(float64(v.StoredBytes)), v.Error,
		})
	}
	return env.print(view, func() {
		fmt.Fprintf(env.out, "topic    %s (%s)\nid       %s\ncreated  %s\n", t.Name, t.State, t.ID, t.Created.Format(time.RFC3339))
		var names []string
		for name := range t.Settings {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			fmt.Fprintf(env.out, "setting  %s=%s\n", name, t.Settings[name])
		}
		env.table([]string{"PARTITION", "LOG START", "HIGH WATERMARK", "STORED", ""}, rows)
	})
}

func newTopicAlter(env *environment) *cobra.Command {
	var (
		sets, unsets []string
		partitions   int32
	)
	cmd := &cobra.Command{
		Use:     "alter TOPIC",
		Short:   "Change settings, or add partitions",
		Long:    "Alter changes the settings given and leaves the others. Partitions can only be added; keys then move to other partitions.",
		Example: "  splashdam topic alter matches --set retention.ms=86400000 --unset retention.bytes",
		Args:    oneArgument("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := parseSettings(sets)
			if err != nil {
				return err
			}
			if len(sets)+len(unsets) == 0 && partitions == 0 {
				return usageError("topic alter: nothing to change (give --set, --unset or --partitions)")
			}
			return env.withClient(func(c *client.Client) error {
				return env.alterTopic(cmd.Context(), c, client.Topic{Name: args[0], Settings: settings}, unsets, partitions)
			})
		},
	}
	cmd.Flags().StringArrayVar(&sets, "set", nil, "name=value, a topic setting by Kafka's name; may be repeated")
	cmd.Flags().StringArrayVar(&unsets, "unset", nil, "name of a setting that goes back to its default; may be repeated")
	cmd.Flags().Int32VarP(&partitions, "partitions", "p", 0, "new total of partitions")
	return cmd
}

func (env *environment) alterTopic(ctx context.Context, c *client.Client, t client.Topic, unsets []string, partitions int32) error {
	names := append([]string{}, unsets...)
	for name := range t.Settings {
		names = append(names, name)
	}
	var err error
	if len(names) > 0 {
		if _, err = c.UpdateTopic(ctx, t, names...); err != nil {
			return err
		}
	}
	if partitions > 0 {
		if _, err = c.AddPartitions(ctx, t.Name, partitions); err != nil {
			return err
		}
	}
	changed, infos, err := c.Topic(ctx, t.Name)
	if err != nil {
		return err
	}
	return env.printTopic(changed, infos)
}

func newTopicDelete(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "delete TOPIC",
		Short: "Delete a topic and its records",
		Args:  oneArgument("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.withClient(func(c *client.Client) error {
				if err := c.DeleteTopic(cmd.Context(), args[0], ""); err != nil {
					return err
				}
				deleted := struct {
					Deleted string `json:"deleted"`
				}{args[0]}
				return env.print(deleted, func() { fmt.Fprintf(env.out, "topic %s is deleted\n", args[0]) })
			})
		},
	}
}

// parseSettings reads name=value pairs.
func parseSettings(list []string) (map[string]string, error) {
	settings := map[string]string{}
	for _, kv := range list {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			return nil, usageError("--set %q: want name=value, such as retention.ms=86400000", kv)
		}
		settings[name] = value
	}
	return settings, nil
}
