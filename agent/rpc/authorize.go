package rpc

import (
	"context"
	"errors"
	"fmt"
)

// Action is what a call does to a resource.
type Action string

// The actions, each of topics, of groups or of the cluster. Who may read a group may be its member and commit its positions; who may alter
// it may reset them from outside.
const (
	ActionDescribe Action = "describe"
	ActionRead     Action = "read"
	ActionWrite    Action = "write"
	ActionCreate   Action = "create"
	ActionAlter    Action = "alter"
	ActionDelete   Action = "delete"
)

// Resource is what a call is about: a topic, a group, or with neither the cluster.
type Resource struct {
	Topic, Group string
}

func (r Resource) String() string {
	switch {
	case r.Topic != "":
		return "topic " + r.Topic
	case r.Group != "":
		return "group " + r.Group
	}
	return "the cluster"
}

// ErrUnauthenticated is what Config.Authorize answers when it doesn't know who calls.
var ErrUnauthenticated = errors.New("not authenticated")

// denied is the answer to a caller who may not do this.
type denied struct {
	action   Action
	resource Resource
}

func (d denied) Error() string {
	return fmt.Sprintf("%s %s: not allowed", d.action, d.resource)
}

// authorize is the one point that every call passes, for each topic and group it names, before the engine hears of it.
func (e *edge) authorize(ctx context.Context, action Action, resource Resource) error {
	if e.cfg.Authorize == nil {
		return nil
	}
	err := e.cfg.Authorize(ctx, action, resource)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUnauthenticated):
		return fmt.Errorf("%s %s: %w", action, resource, ErrUnauthenticated)
	}
	// The hook's own words stay inside: they may tell what the caller may not know.
	return denied{action, resource}
}
