package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

func newGroup(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "List and describe consumer groups, move their positions, delete them",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	addSettings(cmd, "group")
	cmd.AddCommand(newGroupList(env), newGroupDescribe(env), newGroupMembers(env), newGroupReset(env), newGroupDelete(env))
	return cmd
}

// groupError says what to do about what a person meets with groups.
func groupError(op, group string, err error) error {
	var answered *client.Error
	if !errors.As(err, &answered) {
		return err
	}
	e := &terminalError{op: op, object: "group " + group}
	switch answered.Reason {
	case "GROUP_ID_NOT_FOUND":
		e.cause, e.hint = errors.New("there is no such group"), `see "splashdam group list"; a group begins with its first member or committed position`
	case "NON_EMPTY_GROUP":
		e.cause, e.hint = errors.New("it has members"), fmt.Sprintf(`stop them first, "splashdam group members %s" has them`, group)
	default:
		return err
	}
	return e
}

func newGroupList(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List groups by name",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return env.withClient(func(c *client.Client) error {
				groups, err := c.Groups(cmd.Context())
				if err != nil {
					return err
				}
				type listed struct {
					Group      string `json:"group"`
					State      string `json:"state"`
					Members    int32  `json:"members"`
					Generation int64  `json:"generation"`
				}
				views, rows := []listed{}, [][]string{}
				for _, g := range groups {
					views = append(views, listed{g.Name, g.State, g.Members, g.Generation})
					rows = append(rows, []string{g.Name, g.State, fmt.Sprint(g.Members), fmt.Sprint(g.Generation)})
				}
				return env.print(views, func() { env.table([]string{"GROUP", "STATE", "MEMBERS", "GENERATION"}, rows) })
			})
		},
	}
}

func newGroupMembers(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "members GROUP",
		Short: "Show the members of a group and what they ask for",
		Args:  oneArgument("GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.withClient(func(c *client.Client) error {
				g, err := c.Group(cmd.Context(), args[0])
				if err != nil {
					return groupError("describe", args[0], err)
				}
				views, rows := []memberView{}, [][]string{}
				for _, m := range g.Members {
					v := viewMember(m)
					asked := strings.Join(m.Topics, " ")
					if m.Pattern != "" {
						asked = strings.TrimSpace(asked + " pattern " + m.Pattern)
					}
					views = append(views, v)
					rows = append(rows, []string{m.Member, orNone(m.Instance), orNone(m.Client), orNone(m.Host), asked,
						m.SessionTimeout.String(), m.Joined.Format(time.RFC3339), orNone(partitionsText(m.Assigned))})
				}
				return env.print(views, func() {
					env.table([]string{"MEMBER", "INSTANCE", "CLIENT", "HOST", "ASKS FOR", "SESSION", "JOINED", "PARTITIONS"}, rows)
				})
			})
		},
	}
}

func newGroupDelete(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "delete GROUP",
		Short: "Forget a group without members, and its positions",
		Args:  oneArgument("GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.withClient(func(c *client.Client) error {
				if err := c.DeleteGroup(cmd.Context(), args[0]); err != nil {
					return groupError("delete", args[0], err)
				}
				deleted := struct {
					Deleted string `json:"deleted"`
				}{args[0]}
				return env.print(deleted, func() { fmt.Fprintf(env.out, "group %s is deleted\n", args[0]) })
			})
		},
	}
}
