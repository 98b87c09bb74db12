package localstack

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/template"
)

//go:embed haproxy.cfg.tmpl
var balancerTemplate string

// balancer is what differs between one balancer and the other.
type balancer struct {
	Listen string   // host:port for clients
	Nobody string   // host:port on loopback that only the balancer itself connects to
	Agents []string // host:port each
	Linux  bool     // knows TCP_USER_TIMEOUT
}

// configuration is the text of HAProxy's configuration file.
func (b balancer) configuration() (string, error) {
	t, err := template.New("haproxy.cfg").Parse(balancerTemplate)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	err = t.Execute(&text, b)
	return text.String(), err
}

// haproxy says how to run HAProxy; its configuration is written into the folder.
func (c component) haproxy(p *Program, address string, cfg Config) error {
	if len(cfg.Agents) == 0 {
		return errors.New("no agents to balance")
	}
	nobody, err := freeAddress()
	if err != nil {
		return err
	}
	text, err := balancer{Listen: address, Nobody: nobody, Agents: cfg.Agents, Linux: runtime.GOOS == "linux"}.configuration()
	if err != nil {
		return err
	}
	file := filepath.Join(cfg.Folder, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write its configuration: %w", err)
	}
	p.Args = []string{"-db", "-f", file}
	p.Ready = answersAnything
	p.softStop = true
	return nil
}

// answersAnything: a balancer serves also while no agent is ready.
func answersAnything(ctx context.Context, endpoint string) error {
	_, _, err := ask(ctx, "GET", endpoint+"/readyz", "", nil)
	return err
}
