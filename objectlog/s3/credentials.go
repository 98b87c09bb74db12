package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// renewPause is the least time between two questions for credentials, whoever refused them: a role's service must not get one
// question per failed request.
const renewPause = 3 * time.Second

var errNoCredentials = errors.New("no credentials")

// chain finds credentials in the usual places: environment, shared files, role. It asks all of them anew when what it has is about to run
// out, which keys in a file always are, because somebody may replace them; and when the store has refused what it has.
//
// (The SDK's own chain answers anonymous credentials when it finds none, says nothing of the causes, and reads a file for every request.)
type chain struct {
	now     func() time.Time
	sources []source

	mu      sync.Mutex
	current credentials.Value
	from    string // in words, behind "those"
	expired func() bool
	asked   time.Time
	refused bool  // by the store, since asked
	failed  error // of the last question
}

type source struct {
	name string
	credentials.Provider
}

func newChain(now func() time.Time) *chain {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{ // a role's service is near, and is asked once an hour
		Proxy: proxyUnlessLocal, DisableKeepAlives: true,
	}}
	sources := []source{
		{"of the environment", &credentials.EnvAWS{}},
		{"of profile " + cmp.Or(os.Getenv("AWS_PROFILE"), "default") + " of the shared files", &credentials.FileAWSCredentials{}},
	}
	role := os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") + os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") +
		os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if role != "" || os.Getenv("AWS_EC2_METADATA_DISABLED") != "true" {
		sources = append(sources, source{"of the role", &credentials.IAM{Client: client}})
	}
	return &chain{now: now, sources: sources}
}

// proxyUnlessLocal keeps questions for a role's credentials on the machine or its link, where their services are.
func proxyUnlessLocal(req *http.Request) (*url.URL, error) {
	if ip := net.ParseIP(req.URL.Hostname()); ip != nil && (ip.IsLoopback() || ip.IsLinkLocalUnicast()) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(req)
}

// refuse notes that the store did not take the credentials.
func (c *chain) refuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = true
}

// origin says where the credentials are from.
func (c *chain) origin() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cmp.Or(c.from, "of nobody") + cmp.Or(" ("+c.current.AccessKeyID+")", "")
}

// IsExpired implements credentials.Provider. The SDK asks before each request and never twice at once.
func (c *chain) IsExpired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expired == nil {
		return true
	}
	return (c.refused || c.expired()) && c.now().Sub(c.asked) >= renewPause
}

// RetrieveWithCredContext implements credentials.Provider.
func (c *chain) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	c.mu.Lock()
	if c.failed != nil && c.now().Sub(c.asked) < renewPause {
		defer c.mu.Unlock()
		return credentials.Value{}, c.failed
	}
	refused := c.refused
	c.asked, c.refused = c.now(), false
	c.mu.Unlock()

	found, from, expired, err := c.ask(cc)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = nil
	if err == nil {
		c.current, c.from, c.expired = found, from, expired
		return found, nil
	}
	// Roles are renewed early, and a file may be half-written: until the store says no, there is time to ask again.
	if ends := c.current.Expiration; c.expired != nil && !refused && (ends.IsZero() || ends.After(c.now())) {
		return c.current, nil
	}
	c.failed = err
	return credentials.Value{}, err
}

func (c *chain) ask(cc *credentials.CredContext) (_ credentials.Value, from string, expired func() bool, _ error) {
	ctx := context.Background()
	if cc != nil && cc.Context != nil {
		ctx = cc.Context
	}
	causes := ""
	for _, s := range c.sources {
		// The SDK's client is not handed on: it leads to the bucket.
		value, err := s.RetrieveWithCredContext(&credentials.CredContext{Client: http.DefaultClient, Context: ctx})
		if err == nil && value.AccessKeyID != "" && value.SecretAccessKey != "" {
			return value, s.name, s.IsExpired, nil
		}
		if err == nil {
			err = errors.New("none")
		}
		causes += fmt.Sprintf("; %s: %v", s.name, err)
	}
	return credentials.Value{}, "", nil, fmt.Errorf("%w: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a shared file, or run under a role%s",
		errNoCredentials, causes)
}

// Retrieve implements credentials.Provider.
func (c *chain) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }
