package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

func newShard(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shard",
		Short: "Look into the logs of shards",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newShardLog(env))
	return cmd
}

func newShardLog(env *environment) *cobra.Command {
	var from int64
	var limit int
	cmd := &cobra.Command{
		Use:   "log N",
		Short: "Print the entries of a shard's log",
		Long: `Log prints the entries of a shard's log that the table still holds, oldest first, straight from --table: it asks no agent,
changes nothing, and works while agents run or none does. Each entry and its place in the chain are checked; damage ends the
listing with exit code 1 and is named.

-o json prints one object per entry and line.`,
		Example: `  splashdam shard log 0 --table dynamodb://events --limit 20
  splashdam shard log 3 --table dynamodb://events --from 120000 -o json`,
		Args: oneArgument("N"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.ParseUint(args[0], 10, 16)
			if err != nil || n >= 1024 {
				return usageError("shard log: shard %q: want 0 to 1023", args[0])
			}
			if from < 0 || limit < 0 {
				return usageError("shard log: --from %d, --limit %d: want 0 or more", from, limit)
			}
			return env.shardLog(cmd.Context(), objectlog.Shard(n), metadata.Seq(from), limit)
		},
	}
	cmd.Flags().Int64Var(&from, "from", 0, "begin at this seq; older entries than the table holds are left out")
	cmd.Flags().IntVar(&limit, "limit", 0, "print at most so many; 0: all")
	addSettings(cmd, "shard")
	return cmd
}

// entryView is one entry as it is printed.
type entryView struct {
	Seq      int64         `json:"seq"`
	Epoch    int64         `json:"epoch"`
	Time     time.Time     `json:"time"`
	Bytes    int           `json:"bytes"`
	Commands []commandView `json:"commands"`
}

type commandView struct {
	Kind  int    `json:"kind"`
	Name  string `json:"name"` // empty: not known to this program
	Bytes int    `json:"bytes"`
}

func (env *environment) shardLog(ctx context.Context, n objectlog.Shard, from metadata.Seq, limit int) error {
	if env.config.Table == "" {
		return usageError("shard log: want --table, such as --table dynamodb://events")
	}
	table, err := openTable(ctx, env.config.Table)
	if err != nil {
		return err
	}
	defer table.close()
	if env.output != "json" {
		fmt.Fprintf(env.out, "%-10s  %-6s  %-24s  %6s  %s\n", "SEQ", "EPOCH", "TIME", "BYTES", "COMMANDS")
	}
	left, printed := limit, error(nil)
	err = shardlog.ReadLog(ctx, table, n, from, func(r shardlog.Record) bool {
		v := viewOf(r)
		printed = env.print(v, func() {
			_, printed = fmt.Fprintf(env.out, "%-10d  %-6d  %-24s  %6d  %s\n", v.Seq, v.Epoch, v.Time.Format("2006-01-02T15:04:05.000Z"), v.Bytes, commandsText(v.Commands))
		})
		left--
		return printed == nil && left != 0 && ctx.Err() == nil
	})
	if printed != nil {
		return fmt.Errorf("print result: %w", printed)
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

func viewOf(r shardlog.Record) entryView {
	v := entryView{Seq: int64(r.Position.Seq), Epoch: int64(r.Position.Epoch), Time: time.UnixMilli(int64(r.Position.Time)).UTC(), Bytes: r.Bytes, Commands: []commandView{}}
	for _, c := range r.Commands {
		v.Commands = append(v.Commands, commandView{Kind: int(c.Kind), Name: commandNames[c.Kind], Bytes: len(c.Body)})
	}
	return v
}

// commandsText is the commands in words, like ones together; an entry without any is a new leader's first.
func commandsText(commands []commandView) string {
	if len(commands) == 0 {
		return "(barrier of a new leader)"
	}
	var words []string
	for i := 0; i < len(commands); {
		c, n, size := commands[i], 0, 0
		for ; i < len(commands) && commands[i].Kind == c.Kind; i++ {
			n, size = n+1, size+commands[i].Bytes
		}
		name := c.Name
		if name == "" {
			name = fmt.Sprintf("kind %d", c.Kind)
		}
		if n > 1 {
			name = fmt.Sprintf("%d x %s", n, name)
		}
		words = append(words, fmt.Sprintf("%s (%d B)", name, size))
	}
	return strings.Join(words, ", ")
}

// commandNames are the commands of both machines by their kinds. A commit comes as one of two kinds: with its rows, or with where they are.
var commandNames = map[metadata.Kind]string{
	metadata.CreateTopic{}.Command().Kind:     "create topic",
	metadata.AlterTopic{}.Command().Kind:      "alter topic",
	metadata.GrowTopic{}.Command().Kind:       "grow topic",
	metadata.ActivateTopic{}.Command().Kind:   "activate topic",
	metadata.DeleteTopic{}.Command().Kind:     "delete topic",
	metadata.ForgetTopic{}.Command().Kind:     "forget topic",
	metadata.AddPartitions{}.Command().Kind:   "add partitions",
	metadata.DropTopic{}.Command().Kind:       "drop topic",
	metadata.Commit{}.Command().Kind:          "commit by reference",
	metadata.Commit{}.Command().Kind + 1:      "commit",
	metadata.Fence{}.Command().Kind:           "fence",
	metadata.RetireBoots{}.Command().Kind:     "retire boots",
	metadata.Trim{}.Command().Kind:            "trim",
	metadata.ExpireProducers{}.Command().Kind: "expire producers",

	groups.Join{}.Command().Kind:          "join group",
	groups.Leave{}.Command().Kind:         "leave group",
	groups.Assign{}.Command().Kind:        "assign partitions",
	groups.Release{}.Command().Kind:       "release partitions",
	groups.CommitOffsets{}.Command().Kind: "commit offsets",
	groups.DeleteGroup{}.Command().Kind:   "delete group",
	groups.DropTopic{}.Command().Kind:     "drop topic from groups",
	groups.Expire{}.Command().Kind:        "expire groups",
}
