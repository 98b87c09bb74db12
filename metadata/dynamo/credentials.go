package dynamo

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// reloadEvery bounds how often refused credentials are looked for anew: a wrong key must not turn every request into a walk along the
// chain, which may ask the network.
const reloadEvery = 3 * time.Second

// credentials walks the SDK's standard chain. The SDK reads shared files once, when its configuration is loaded; so after a refusal the
// configuration is loaded anew. Until then one chain is kept, as it knows how to renew what expires.
type credentials struct {
	region string
	cache  *aws.CredentialsCache
	chain  atomic.Pointer[aws.CredentialsProvider] // nil: to be loaded
	every  time.Duration

	mu       sync.Mutex
	reloaded time.Time // under mu
}

func newCredentials(region string) *credentials {
	c := &credentials{region: region, every: reloadEvery}
	c.cache = aws.NewCredentialsCache(c)
	return c
}

// credentialsError says that there is nothing to sign with. Nothing was sent.
type credentialsError struct{ cause error }

func (e *credentialsError) Error() string { return fmt.Sprintf("no credentials: %v", e.cause) }
func (e *credentialsError) Unwrap() error { return e.cause }

// Retrieve implements aws.CredentialsProvider. The cache calls it once at a time.
func (c *credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	chain := c.chain.Load()
	if chain == nil {
		loaded, err := loadChain(ctx, c.region)
		if err != nil {
			return aws.Credentials{}, &credentialsError{err}
		}
		chain = &loaded.Credentials
	}
	got, err := (*chain).Retrieve(ctx)
	if err != nil {
		c.chain.Store(nil) // perhaps a file is just being written
		return aws.Credentials{}, &credentialsError{err}
	}
	c.chain.Store(chain)
	return got, nil
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
