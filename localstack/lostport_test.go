package localstack_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
)

// slowDynalite stands in for dynalite: the first time it tells its port through a pipe and listens only when the other end has answered.
const slowDynalite = `#!/usr/bin/env node
const fs = require('fs'), http = require('http')
const folder = process.env.LOST_PORT, port = process.argv[process.argv.indexOf('--port') + 1]
if (!fs.existsSync(folder + '/asked')) {
	fs.writeFileSync(folder + '/asked', '')
	fs.writeFileSync(folder + '/port', port)
	fs.readFileSync(folder + '/taken')
}
http.createServer((q, a) => a.writeHead(400).end('ResourceNotFoundException')).listen(port, '127.0.0.1')
`

func TestStartTakesAnotherPortWhenTheFirstIsLost(t *testing.T) {
	localstacktest.Installed(t, localstack.Dynalite) // it needs node, as the stand-in does
	folder := t.TempDir()
	t.Setenv("LOST_PORT", folder)
	t.Setenv("LOCALSTACK_COMPONENTS", folder)
	program := filepath.Join(folder, "dynalite-4.0.0", "node_modules", ".bin", "dynalite")
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, []byte(slowDynalite), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, pipe := range []string{"port", "taken"} {
		if err := syscall.Mkfifo(filepath.Join(folder, pipe), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lost := make(chan string, 1)
	go func() {
		address, err := takePort(t, folder)
		if err != nil {
			t.Error(err)
		}
		lost <- address
	}()
	s := localstacktest.Start(t, localstack.Config{Engine: localstack.Dynalite})
	if address := <-lost; strings.HasSuffix(s.Endpoint, address) {
		t.Errorf("serves on %s, which another had taken", address)
	}
}

// takePort listens where the stand-in is about to, until the test ends; it hangs up on whoever connects.
func takePort(t *testing.T, folder string) (string, error) {
	port, err := os.ReadFile(filepath.Join(folder, "port"))
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+string(port))
	if err != nil {
		return "", fmt.Errorf("take the port: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
	})
	return l.Addr().String(), os.WriteFile(filepath.Join(folder, "taken"), nil, 0)
}
