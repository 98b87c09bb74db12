// Command stack runs MinIO, a table server and one agent, or several behind a load balancer, as processes of this machine until it is
// interrupted: `make stack`. What they hold stays in a folder, and the next run goes on with it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/splashdam/splashdam/localstack"
)

func main() {
	var s stack
	var table string
	flag.StringVar(&s.binary, "binary", "bin/splashdam", "the built program")
	flag.StringVar(&s.folder, "data", "splashdam-stack", "folder of what the stores hold")
	flag.StringVar(&table, "table", string(localstack.Ministack), "table server: ministack, dynalite or dynoxide")
	flag.IntVar(&s.agentCount, "agents", 1, "how many agents, 1 to 9; two or more are behind a load balancer")
	flag.StringVar(&s.clientAddress, "agent", "127.0.0.1:4510", "address for clients, of the agent or of the load balancer; a free port if it is taken")
	flag.StringVar(&s.objectsAddress, "objects", "127.0.0.1:9000", "address of MinIO; a free port if it is taken")
	flag.StringVar(&s.tableAddress, "table-server", "127.0.0.1:4566", "address of the table server; a free port if it is taken")
	flag.Parse()
	s.table, s.out = localstack.Engine(table), os.Stdout
	if flag.NArg() > 0 || s.agentCount < 1 || s.agentCount > 9 || s.table != localstack.Ministack && s.table != localstack.Dynalite && s.table != localstack.Dynoxide {
		flag.Usage()
		os.Exit(2)
	}
	if err := interruptible(s.run); err != nil {
		fmt.Fprintln(os.Stderr, "stack:", err)
		os.Exit(1)
	}
}

// interruptible runs f until Ctrl-C, or SIGTERM, ends the first context; a second one ends the other, whose end is not waited for.
func interruptible(f func(running, patient context.Context) error) error {
	running, stop := context.WithCancel(context.Background())
	defer stop()
	patient, hurry := context.WithCancel(context.Background())
	defer hurry()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		<-signals
		stop()
		<-signals
		hurry()
	}()
	return f(running, patient)
}

var errInterrupted = errors.New("interrupted")

// announceStores prints where they are.
func (s *stack) announceStores(w io.Writer, objects, table string) {
	fmt.Fprintf(w, "  %-10s %s  (AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s)\n", localstack.MinIO, objects, localstack.AccessKey, localstack.SecretKey)
	fmt.Fprintf(w, "  %-10s %s\n", s.table, table)
	fmt.Fprintf(w, "  %-10s %s\n\n", "data", s.data())
}

// announceAgents prints where they are, and how to take one away.
func (s *stack) announceAgents(w io.Writer, balancer *localstack.Server) {
	fmt.Fprintf(w, "  %-10s %s  (%s: the address for clients)\n", "balancer", balancer.Endpoint, localstack.HAProxy)
	for i, agent := range s.agents {
		fmt.Fprintf(w, "  %-10s %s  (zone %s, pid %d)\n", fmt.Sprintf("agent %d", i+1), agent.Endpoint, zone(i), agent.PID)
	}
	fmt.Fprintf(w, "\nkill -9 %d takes agent %d away; the others go on.\n", s.agents[len(s.agents)-1].PID, len(s.agents))
}
