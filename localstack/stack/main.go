// Command stack runs MinIO, a table server and one agent as processes of this machine until it is interrupted: `make stack`. What they hold
// stays in a folder, and the next run goes on with it.
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
	flag.StringVar(&s.agentAddress, "agent", "127.0.0.1:4510", "address of the agent; a free port if it is taken")
	flag.StringVar(&s.objectsAddress, "objects", "127.0.0.1:9000", "address of MinIO; a free port if it is taken")
	flag.StringVar(&s.tableAddress, "table-server", "127.0.0.1:4566", "address of the table server; a free port if it is taken")
	flag.Parse()
	s.table, s.out = localstack.Engine(table), os.Stdout
	if flag.NArg() > 0 || s.table != localstack.Ministack && s.table != localstack.Dynalite && s.table != localstack.Dynoxide {
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

// announce prints where everything is.
func (s *stack) announce(w io.Writer, objects, table string) {
	fmt.Fprintf(w, "  %-10s %s  (AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=%s)\n", localstack.MinIO, objects, localstack.AccessKey, localstack.SecretKey)
	fmt.Fprintf(w, "  %-10s %s\n", s.table, table)
	fmt.Fprintf(w, "  %-10s %s\n\n", "data", s.data())
}
