// Command faultproxy runs the fault proxy as a process of its own, with its remote control on a second port.
//
//	go run ./test/faultproxy/faultproxy -target http://127.0.0.1:9000
//	curl -X PUT $CONTROL/rules -d '[{"match":{"kind":"put","every":10},"action":{"do":"drop-reply"}}]'
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/splashdam/splashdam/test/faultproxy"
)

func main() {
	cfg := faultproxy.Config{Log: os.Stderr}
	flag.StringVar(&cfg.Target, "target", "", "`http://host:port` of the bucket or the table")
	flag.StringVar(&cfg.Listen, "listen", "127.0.0.1:0", "`host:port` for the clients of the target")
	flag.Uint64Var(&cfg.Seed, "seed", 1, "of everything that rules leave to chance")
	control := flag.String("control", "127.0.0.1:0", "`host:port` of the remote control; it asks for no password")
	flag.Parse()
	if err := run(cfg, *control); err != nil {
		fmt.Fprintln(os.Stderr, "faultproxy:", err)
		os.Exit(1)
	}
}

func run(cfg faultproxy.Config, control string) error {
	proxy, err := faultproxy.Start(cfg)
	if err != nil {
		return err
	}
	defer proxy.Close()
	listener, err := net.Listen("tcp", control)
	if err != nil {
		return fmt.Errorf("listen for the remote control: %w", err)
	}
	fmt.Printf("ENDPOINT=%s\nCONTROL=http://%s\n", proxy.Endpoint, listener.Addr())

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := &http.Server{Handler: proxy.Control()}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
