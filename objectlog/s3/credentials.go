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

const (
	// renewPause is the least time between the end of a question for credentials and the next, whoever refused them: a role's service
	// must not get one question per failed request.
	renewPause = 3 * time.Second
	// askMax bounds a question, all sources together, and how long a request waits for one. A role's service is near.
	askMax = 5 * time.Second
)

var errNoCredentials = errors.New("no credentials")

// chain finds credentials in the usual places: environment, shared files, role. It asks all of them anew when what it has is about to run
// out, which keys in a file always are, because somebody may replace them; and when the store has refused what it has. One question is
// under way at a time. Requests wait for it only if there is nothing that they could be signed with.
//
// (The SDK's own chain answers anonymous credentials when it finds none, says nothing of the causes, and reads a file for every request.
// The SDK itself asks under a lock that all requests take, so it is only handed what is there: Bucket.do has waited before.)
type chain struct {
	now     func() time.Time
	sources []source

	mu       sync.Mutex
	current  credentials.Value
	from     string        // in words, behind "those"
	expired  func() bool   // of the source, which a question changes: not called during one; nil: there never were any
	question chan struct{} // closed at the end of the one that is under way; nil: none is
	asked    time.Time     // end of the last one
	failed   error         // of the last one
	refused  bool          // current, by the store
	fresh    bool          // current is not what the SDK was handed last
}

type source struct {
	name string
	credentials.Provider
}

func newChain(now func() time.Time) *chain {
	client := &http.Client{Timeout: askMax, Transport: &http.Transport{ // asked once an hour
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

// ready returns when there are credentials to sign with.
func (c *chain) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	question, err := c.renewIfDue()
	if question == nil {
		return err
	}
	timer := time.NewTimer(askMax)
	defer timer.Stop()
	select {
	case <-question:
	case <-timer.C: // a program that a shared file names ends when it likes
		return fmt.Errorf("%w: no source has answered within %s", errNoCredentials, askMax)
	case <-ctx.Done():
		return fmt.Errorf("%w: no source has answered yet: %w", errNoCredentials, ctx.Err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// renewIfDue starts a question if it is time for one, and answers the one to wait for. Nobody waits while there are good credentials.
func (c *chain) renewIfDue() (question <-chan struct{}, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ends := c.current.Expiration
	last := c.expired != nil && (ends.IsZero() || ends.After(c.now()))
	good := last && !c.refused
	if c.question == nil {
		pause := !c.asked.IsZero() && c.now().Sub(c.asked) < renewPause
		switch {
		case pause && last: // refused ones are refused once more, and the store says why
			return nil, nil
		case pause:
			return nil, c.failed
		case good && !c.expired():
			return nil, nil
		}
		c.question = make(chan struct{})
		go c.renew(c.refused)
	}
	if good {
		return nil, nil
	}
	return c.question, nil
}

// renew asks once. It belongs to no request, since all have use of it; askMax bounds it.
func (c *chain) renew(refused bool) {
	ctx, cancel := context.WithTimeout(context.Background(), askMax)
	defer cancel()
	found, from, expired, err := c.ask(ctx)

	c.mu.Lock()
	defer c.mu.Unlock()
	same := err != nil || found.AccessKeyID == c.current.AccessKeyID && found.SessionToken == c.current.SessionToken
	c.refused = c.refused && !refused && same // the store refused in the meantime what we still have
	// Roles are renewed early, and a file may be half-written: when a question fails there is time to ask again.
	if c.failed = err; err == nil {
		c.current, c.from, c.expired, c.fresh = found, from, expired, true
	}
	c.asked = c.now()
	close(c.question)
	c.question = nil
}

// IsExpired implements credentials.Provider.
func (c *chain) IsExpired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fresh
}

// RetrieveWithCredContext implements credentials.Provider. It asks nobody.
func (c *chain) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expired == nil {
		return credentials.Value{}, errNoCredentials
	}
	c.fresh = false
	return c.current, nil
}

func (c *chain) ask(ctx context.Context) (_ credentials.Value, from string, expired func() bool, _ error) {
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
