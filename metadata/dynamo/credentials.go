package dynamo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// reloadEvery bounds how often credentials are looked for anew that were refused or not found: a wrong key must not turn every request
	// into a walk along the chain, which may ask the network.
	reloadEvery = 3 * time.Second
	// credentialsTimeout bounds one walk along the chain. All requests wait for the same walk, and the SDK gives it no end of its own: a
	// source that hangs would take the table away until a restart. The service of a role answers in milliseconds, a profile's command within
	// a second or two; and half of requestTimeout is left for the request.
	credentialsTimeout = 5 * time.Second
)

// credentials walks the SDK's standard chain. The SDK reads shared files once, when its configuration is loaded; so after a refusal the
// configuration is loaded anew. Until then one chain is kept, as it knows how to renew what expires.
type credentials struct {
	region  string
	cache   *aws.CredentialsCache
	chain   atomic.Pointer[aws.CredentialsProvider] // nil: to be loaded
	every   time.Duration
	timeout time.Duration // of a walk

	mu       sync.Mutex
	reloaded time.Time // for a refusal, under mu
	loaded   time.Time // under mu
	failed   error     // of the last walk, under mu; nil: it found some
}

func newCredentials(region string) *credentials {
	c := &credentials{region: region, every: reloadEvery, timeout: credentialsTimeout}
	c.cache = aws.NewCredentialsCache(aws.CredentialsProviderFunc(c.walk))
	return c
}

// credentialsError says that there is nothing to sign with. Nothing was sent.
type credentialsError struct{ cause error }

func (e *credentialsError) Error() string {
	if errors.Is(e.cause, context.DeadlineExceeded) {
		return fmt.Sprintf("no credentials: their source did not answer in time: %v", e.cause)
	}
	return fmt.Sprintf("no credentials: %v", e.cause)
}

func (e *credentialsError) Unwrap() error { return e.cause }

// Retrieve implements aws.CredentialsProvider. It waits for the walk that is under way, if there is one, as long as ctx allows.
func (c *credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := c.cache.Retrieve(ctx)
	if known := (*credentialsError)(nil); err != nil && !errors.As(err, &known) {
		err = &credentialsError{err}
	}
	return got, err
}

// walk is what the cache calls, once at a time, with a context that never ends. A walk that failed is not repeated at once: its error is.
func (c *credentials) walk(ctx context.Context) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	chain := c.chain.Load()
	if chain == nil {
		if err := c.begin(); err != nil {
			return aws.Credentials{}, err
		}
		loaded, err := loadChain(ctx, c.region)
		if err != nil {
			return aws.Credentials{}, c.end(err)
		}
		chain = &loaded.Credentials
	}
	got, err := (*chain).Retrieve(ctx)
	if err != nil {
		c.chain.Store(nil) // perhaps a file is just being written, and the chain's own cache may hang
		return aws.Credentials{}, c.end(err)
	}
	c.chain.Store(chain)
	return got, c.end(nil)
}

// begin answers the last walk's error, if that was just now.
func (c *credentials) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.failed != nil && now.Sub(c.loaded) < c.every {
		return c.failed
	}
	c.loaded = now
	return nil
}

func (c *credentials) end(err error) error {
	if err != nil {
		err = &credentialsError{err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = err
	return err
}

// refused makes the next request load the chain anew, unless that was done just now.
func (c *credentials) refused() {
	c.mu.Lock()
	now := time.Now()
	due := c.reloaded.IsZero() || now.Sub(c.reloaded) >= c.every
	if due {
		c.reloaded = now
	}
	c.mu.Unlock()
	if due {
		c.chain.Store(nil)
		c.cache.Invalidate()
	}
}
