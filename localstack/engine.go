package localstack

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// versions is the one place that says which component is had in which version.
//
//go:embed versions
var versions string

// component is one installed engine.
type component struct {
	engine Engine
	folder string // where it is installed
	path   string // of its program or main file
}

// find looks for the component in the folder LOCALSTACK_COMPONENTS, else in .cache of the checkout around the working directory.
func find(engine Engine) (component, error) {
	for line := range strings.Lines(versions) {
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[0] != string(engine) {
			continue
		}
		components, err := componentsFolder()
		if err != nil {
			return component{}, err
		}
		c := component{engine: engine, folder: filepath.Join(components, fields[0]+"-"+fields[1])}
		c.path = filepath.Join(c.folder, filepath.FromSlash(fields[3]))
		if _, err := os.Stat(c.path); err != nil {
			return component{}, missing(engine, c.path)
		}
		return c, nil
	}
	return component{}, fmt.Errorf("unknown engine %q", engine)
}

// Installed says whether the engine can be started; if not, the error wraps ErrMissing.
func Installed(engine Engine) error {
	c, err := find(engine)
	if err == nil {
		_, err = c.interpreter()
	}
	return err
}

func missing(engine Engine, path string) error {
	target := "components"
	if engine == Dynoxide {
		target = "components-all"
	}
	return fmt.Errorf("%w: no %s; run `make %s`", ErrMissing, path, target)
}

func componentsFolder() (string, error) {
	if folder := os.Getenv("LOCALSTACK_COMPONENTS"); folder != "" {
		return folder, nil
	}
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for folder := start; ; folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return filepath.Join(folder, ".cache"), nil
		}
		if folder == filepath.Dir(folder) {
			return "", fmt.Errorf("%w: %s is in no checkout; set LOCALSTACK_COMPONENTS to the folder of the components", ErrMissing, start)
		}
	}
}

// interpreter answers the program that runs the component's main file; none for one that is a program itself.
func (c component) interpreter() (string, error) {
	name := map[Engine]string{Ministack: "python3", Dynalite: "node"}[c.engine]
	if name == "" {
		return "", nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: %s needs %s: %w", ErrMissing, c.engine, name, err)
	}
	return path, nil
}

// on says how to run the component on an address. An empty folder is in memory for those that can do that.
func (c component) on(address string, cfg Config) (Program, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return Program{}, err
	}
	interpreter, err := c.interpreter()
	if err != nil {
		return Program{}, err
	}
	p := Program{Name: string(c.engine), Path: c.path, Endpoint: "http://" + address, Ready: answersAbsentTable, StopTimeout: stopTimeout}
	folder := cfg.Folder
	switch c.engine {
	case MinIO:
		err = c.minio(&p, address, folder)
	case HAProxy:
		err = c.haproxy(&p, address, cfg)
	case Ministack:
		p.Path = interpreter
		c.ministack(&p, host, port, folder)
	case Dynalite:
		// Tables are ready, and gone, at once instead of after half a second.
		p.Args = []string{"--host", host, "--port", port, "--createTableMs", "0", "--deleteTableMs", "0", "--updateTableMs", "0"}
		if folder != "" {
			p.Args = append(p.Args, "--path", folder)
		}
	case Dynoxide:
		p.Args = []string{"--host", host, "--port", port}
		if folder != "" {
			p.Args = append(p.Args, "--db-path", filepath.Join(folder, "dynoxide.db"))
		}
	}
	return p, err
}

func (c component) minio(p *Program, address, folder string) error {
	console, err := freeAddress()
	if err != nil {
		return err
	}
	// An own, absent folder of certificates: with one in ~/.minio the server would speak TLS.
	p.Args = []string{"server", folder, "--address", address, "--console-address", console, "--certs-dir", filepath.Join(c.folder, "no-certs"), "--quiet"}
	p.Env = []string{
		"MINIO_ROOT_USER=" + AccessKey, "MINIO_ROOT_PASSWORD=" + SecretKey,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_PROMETHEUS_AUTH_TYPE=public",
	}
	// It is live before it takes requests of clients, by up to seconds on a busy machine.
	p.Ready = Answers("/minio/health/cluster")
	return nil
}

func (c component) ministack(p *Program, host, port, folder string) {
	p.Args = []string{"-m", "ministack"}
	p.Env = []string{"PYTHONPATH=" + c.folder, "GATEWAY_PORT=" + port, "BIND_HOST=" + host, "SERVICES=dynamodb,s3"}
	if folder != "" {
		p.Env = append(p.Env, "PERSIST_STATE=1", "STATE_DIR="+folder, "S3_PERSIST=1", "S3_DATA_DIR="+filepath.Join(folder, "s3"))
	}
}

// environment is this process's own, without what would set up a server or its interpreter differently, and with more.
func environment(more []string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MINIO_") && !strings.HasPrefix(v, "PYTHON") && !strings.HasPrefix(v, "NODE_OPTIONS=") {
			env = append(env, v)
		}
	}
	return append(env, more...)
}

var errNotReady = errors.New("not ready")

// Answers makes a Ready of a Program: its server is ready when it answers a GET of the path with 200.
func Answers(path string) func(ctx context.Context, endpoint string) error {
	return func(ctx context.Context, endpoint string) error {
		status, body, err := ask(ctx, "GET", endpoint+path, "", nil)
		if err == nil && status != 200 {
			err = fmt.Errorf("%w: %s answers %d %q", errNotReady, path, status, body)
		}
		return err
	}
}

// answersAbsentTable asks a table server for a table that nobody makes: one that serves knows that it is absent.
func answersAbsentTable(ctx context.Context, endpoint string) error {
	status, body, err := ask(ctx, "POST", endpoint+"/", `{"TableName":"splashdam-absent"}`, map[string]string{
		"Content-Type": "application/x-amz-json-1.0",
		"X-Amz-Target": "DynamoDB_20120810.DescribeTable",
		"X-Amz-Date":   "20260101T000000Z",
		// No server of this package verifies signatures, but some want one.
		"Authorization": "AWS4-HMAC-SHA256 Credential=" + AccessKey + "/20260101/" + Region +
			"/dynamodb/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=0",
	})
	if err == nil && !strings.Contains(body, "ResourceNotFoundException") {
		err = fmt.Errorf("%w: DescribeTable of an absent table answers %d %q", errNotReady, status, body)
	}
	return err
}
