package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// network gives each agent a machine's network of its own, all on one bridge. An agent that is unplugged from it sends and gets nothing, and
// nobody is told so.
type network struct {
	bridge string
	places []string // network namespaces, by agent
	plugs  []string // the host's ends of the cables, by agent
}

// host is the address of the machine that the stores and clients are on; the agents count up from it.
const (
	host      = "10.213.77.1"
	agentHost = "10.213.77.%d"
	agentMAC  = "02:53:44:00:00:%02x"
)

func address(agent int) string { return fmt.Sprintf(agentHost, 11+agent) }

// newNetwork makes the network; it wants root.
func newNetwork(ctx context.Context, agents int) (*network, error) {
	n := &network{bridge: fmt.Sprintf("sdb%d", os.Getpid())}
	if err := n.make(ctx, agents); err != nil {
		n.remove()
		return nil, fmt.Errorf("make networks for agents: %w", err)
	}
	return n, nil
}

func (n *network) make(ctx context.Context, agents int) error {
	hostMAC := fmt.Sprintf(agentMAC, 1)
	steps := []string{
		"link add " + n.bridge + " address " + hostMAC + " type bridge",
		"addr add " + host + "/24 dev " + n.bridge,
		"link set " + n.bridge + " up",
	}
	for i := range agents {
		place, plug, mac := fmt.Sprintf("sd%d-%d", os.Getpid(), i), fmt.Sprintf("sdv%d-%d", os.Getpid(), i), fmt.Sprintf(agentMAC, 11+i)
		n.places, n.plugs = append(n.places, place), append(n.plugs, plug)
		steps = append(steps,
			"netns add "+place,
			"link add "+plug+" type veth peer name eth0 netns "+place,
			"link set "+plug+" master "+n.bridge+" up",
			"-n "+place+" link set eth0 address "+mac,
			"-n "+place+" addr add "+address(i)+"/24 dev eth0",
			"-n "+place+" link set lo up",
			"-n "+place+" link set eth0 up",
			// Nobody asks who has an address: no answer to that would be a refusal, after some seconds.
			"neigh replace "+address(i)+" lladdr "+mac+" dev "+n.bridge+" nud permanent",
			"-n "+place+" neigh replace "+host+" lladdr "+hostMAC+" dev eth0 nud permanent",
		)
		for other := range agents {
			if other != i {
				steps = append(steps, fmt.Sprintf("-n %s neigh replace %s lladdr "+agentMAC+" dev eth0 nud permanent", place, address(other), 11+other))
			}
		}
	}
	for _, step := range steps {
		if err := ip(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

func ip(ctx context.Context, arguments string) error {
	out, err := exec.CommandContext(ctx, "ip", strings.Fields(arguments)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", arguments, err, out)
	}
	return nil
}

func (n *network) unplug(ctx context.Context, agent int) error {
	return ip(ctx, "link set "+n.plugs[agent]+" nomaster")
}

func (n *network) plugIn(ctx context.Context, agent int) error {
	return ip(ctx, "link set "+n.plugs[agent]+" master "+n.bridge)
}

// remove removes what there is of it.
func (n *network) remove() {
	ctx := context.Background()
	for i := range n.places {
		ip(ctx, "link del "+n.plugs[i])
		ip(ctx, "netns del "+n.places[i])
	}
	ip(ctx, "link del "+n.bridge)
}
