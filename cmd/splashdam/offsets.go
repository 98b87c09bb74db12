package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

// offsetView is one partition's offsets as they are printed.
type offsetView struct {
	Partition int32  `json:"partition"`
	Earliest  int64  `json:"earliest"`
	Latest    int64  `json:"latest"` // the high watermark
	Records   int64  `json:"records"`
	At        *int64 `json:"at,omitempty"` // the first record at or after --at
	Error     string `json:"error,omitempty"`
}

func newOffsets(env *environment) *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:   "offsets TOPIC",
		Short: "Show the first and next offsets of each partition",
		Example: `  splashdam offsets matches
  splashdam offsets matches --at 2026-06-11T19:45:00Z`,
		Args: oneArgument("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			start := client.Latest()
			if at != "" {
				var err error
				if start, err = parseTime(at); err != nil {
					return usageError("offsets: --at %w", err)
				}
			}
			return env.withClient(func(c *client.Client) error {
				found, err := c.Offsets(cmd.Context(), args[0], start)
				if err != nil {
					return err
				}
				return env.printOffsets(found, at != "")
			})
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "also find the first record at or after this time (RFC 3339)")
	addSettings(cmd, "offsets")
	return cmd
}

func (env *environment) printOffsets(found []client.FoundOffset, at bool) error {
	views, rows := []offsetView{}, [][]string{}
	heading := []string{"PARTITION", "EARLIEST", "LATEST", "RECORDS"}
	if at {
		heading = append(heading, "AT")
	}
	for _, f := range found {
		v := offsetView{Partition: int32(f.Partition), Earliest: int64(f.LogStart), Latest: int64(f.HighWatermark), Records: int64(f.HighWatermark - f.LogStart)}
		row := []string{fmt.Sprint(v.Partition), fmt.Sprint(v.Earliest), fmt.Sprint(v.Latest), fmt.Sprint(v.Records)}
		if at {
			offset := int64(f.Offset)
			v.At, row = &offset, append(row, fmt.Sprint(offset))
		}
		if f.Err != nil {
			v = offsetView{Partition: v.Partition, Error: f.Err.Error()}
			row = []string{row[0], v.Error}
		}
		views, rows = append(views, v), append(rows, row)
	}
	return env.print(views, func() { env.table(heading, rows) })
}
