package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/splashdam/splashdam/objectlog"
)

// fakeClock is moved by a test.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// onlyFile takes the environment's credentials away and answers a function that writes the shared file.
func onlyFile(t *testing.T) (write func(accessKey string)) {
	file := filepath.Join(t.TempDir(), "credentials")
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_PROFILE", "splash")
	return func(accessKey string) {
		text := fmt.Sprintf("[splash]\naws_access_key_id = %s\naws_secret_access_key = s\n", accessKey)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// picky answers nothing but requests that are signed by the key, and refuses others with the code.
func picky(t *testing.T, key, code string) *fake {
	return newFake(t, func(w http.ResponseWriter, r request) {
		if !strings.Contains(r.Header.Get("Authorization"), "Credential="+key+"/") {
			refuse(w, http.StatusForbidden, code, "the provided token has expired")
			return
		}
		w.Header().Set("Etag", `"e"`)
	})
}

func TestReplacedCredentialsArePickedUpWithoutARestart(t *testing.T) {
	for _, code := range []string{"ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"} {
		write := onlyFile(t)
		write("OLD")
		f := picky(t, "NEW", code)
		clock := &fakeClock{now: time.Unix(1000, 0)}
		f.bucket.chain.now = clock.read
		put := func() error { return f.bucket.Put(t.Context(), "key", nil, newNonce()) }

		err := put()
		if err == nil || !strings.Contains(err.Error(), code) || !strings.Contains(err.Error(), "profile splash of the shared files (OLD)") {
			t.Errorf("%s: got %v, want an error with its code and where the credentials are from", code, err)
		}
		if !f.bucket.chain.refused {
			t.Errorf("%s: a role would not be asked anew", code)
		}
		write("NEW")
		if err := put(); err == nil {
			t.Errorf("%s: the file was read again at once, as it would be after each failed request", code)
		}
		clock.advance(renewPause)
		if err := put(); err != nil {
			t.Errorf("%s: after the pause: %v", code, err)
		}
	}
}

func TestCredentialsThatStayWrongAreNamedEachTime(t *testing.T) {
	write := onlyFile(t)
	write("OLD")
	f := picky(t, "NEW", "InvalidAccessKeyId")
	clock := &fakeClock{now: time.Unix(1000, 0)}
	f.bucket.chain.now = clock.read
	for range 3 {
		if _, err := f.bucket.Get(t.Context(), "key", objectlog.Extent{}); err == nil || !strings.Contains(err.Error(), "replace the credentials") {
			t.Errorf("got %v", err)
		}
		clock.advance(renewPause)
	}
}

func TestAbsentCredentialsSayWhereTheyAreLookedFor(t *testing.T) {
	write := onlyFile(t)
	f := picky(t, "NEW", "AccessDenied")
	clock := &fakeClock{now: time.Unix(1000, 0)}
	f.bucket.chain.now = clock.read
	err := f.bucket.Put(t.Context(), "key", nil, newNonce())
	if err == nil || !strings.Contains(err.Error(), "set AWS_ACCESS_KEY_ID") || len(f.all()) != 0 {
		t.Errorf("got %v and %d requests, want what to set and none", err, len(f.all()))
	}
	write("NEW")
	clock.advance(renewPause)
	if err := f.bucket.Put(t.Context(), "key", nil, newNonce()); err != nil {
		t.Errorf("when the file is there: %v", err)
	}
}

func TestHalfWrittenFileIsReadAgainLater(t *testing.T) {
	write := onlyFile(t)
	write("NEW")
	f := picky(t, "NEW", "ExpiredToken")
	clock := &fakeClock{now: time.Unix(1000, 0)}
	f.bucket.chain.now = clock.read
	for _, key := range []string{"NEW", "", "NEW"} {
		write(key)
		clock.advance(renewPause)
		if err := f.bucket.Put(t.Context(), "key", nil, newNonce()); err != nil {
			t.Errorf("with %q in the file: %v", key, err)
		}
		waitForQuestion(f.bucket.chain)
	}
	write("")
	f.bucket.chain.refuse()
	clock.advance(renewPause)
	if err := f.bucket.Put(t.Context(), "key", nil, newNonce()); err == nil || !strings.Contains(err.Error(), "partial static credentials") {
		t.Errorf("refused, and a broken file: %v", err)
	}
}

// TestRoleIsRenewedBeforeItRunsOut, and what it has is used to its end when the renewal fails.
func TestRoleIsRenewedBeforeItRunsOut(t *testing.T) {
	onlyFile(t)
	ends := time.Now().Add(time.Hour)
	var mu sync.Mutex
	asked, down := 0, false
	role := newFake(t, func(w http.ResponseWriter, _ request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if down {
			w.WriteHeader(500)
			return
		}
		fmt.Fprintf(w, `{"AccessKeyId":"ROLE%d","SecretAccessKey":"s","Token":"t","Expiration":%q}`, asked, ends.UTC().Format(time.RFC3339))
	})
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role.URL+"/role")
	clock := &fakeClock{now: time.Now()}
	c := newChain(clock.read)
	want := func(key string) {
		t.Helper()
		if err := c.ready(t.Context()); err != nil {
			t.Errorf("ready: %v", err)
		}
		waitForQuestion(c)
		if value, err := c.Retrieve(); err != nil || value.AccessKeyID != key {
			t.Errorf("got %q, %v; want %s", value.AccessKeyID, err, key)
		}
	}
	want("ROLE1")
	want("ROLE1") // fresh ones are not renewed
	c.refuse()
	want("ROLE1") // a role is not asked again at once
	clock.advance(renewPause)
	want("ROLE2")
	clock.advance(renewPause)
	want("ROLE2")
	runOut(c)
	want("ROLE3")
	mu.Lock()
	down = true
	mu.Unlock()
	clock.advance(renewPause)
	runOut(c)
	want("ROLE3")
	if asked != 4 {
		t.Errorf("the role was asked %d times, want 4", asked)
	}
	clock.advance(2 * time.Hour)
	if err := c.ready(t.Context()); !errors.Is(err, errNoCredentials) {
		t.Errorf("after the end of what there is: %v, want errNoCredentials", err)
	}
}

// runOut has the credentials renewed by the next request, as those of a role are in the last part of their time.
func runOut(c *chain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expired = func() bool { return true }
}

// waitForQuestion waits until the question that is under way has ended.
func waitForQuestion(c *chain) {
	c.mu.Lock()
	question := c.question
	c.mu.Unlock()
	if question != nil {
		<-question
	}
}

// TestHungRoleKeepsNoRequestWaiting that has credentials which are still good, and those that have none it lets go with their callers.
func TestHungRoleKeepsNoRequestWaiting(t *testing.T) {
	onlyFile(t)
	hung, release, asked := make(chan struct{}), make(chan struct{}), atomic.Int32{}
	role := newFake(t, func(w http.ResponseWriter, _ request) {
		if asked.Add(1) > 1 {
			close(hung) // a second one at once would panic
			<-release
			w.WriteHeader(500)
			return
		}
		fmt.Fprintf(w, `{"AccessKeyId":"ROLE","SecretAccessKey":"s","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	})
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role.URL+"/role")
	f := picky(t, "ROLE", "ExpiredToken")
	clock := &fakeClock{now: time.Now()}
	c := f.bucket.chain
	c.now = clock.read
	c.sources = newChain(clock.read).sources // with the role
	put := func(ctx context.Context) error { return f.bucket.Put(ctx, "key", nil, newNonce()) }
	if err := put(t.Context()); err != nil {
		t.Fatal(err)
	}
	runOut(c)
	clock.advance(renewPause)
	bounded, cancel := context.WithTimeout(t.Context(), askMax/2)
	defer cancel()
	if err := put(bounded); err != nil {
		t.Errorf("while the role hangs: %v", err)
	}
	<-hung
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := put(bounded); err != nil {
				t.Errorf("while the role hangs: %v", err)
			}
		})
	}
	all.Wait()
	clock.advance(2 * time.Hour)
	gone, leave := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, leave)
	if err := put(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("when they have run out and the caller goes: %v", err)
	}
	close(release)
	waitForQuestion(c)
	if err := put(t.Context()); err == nil || !strings.Contains(err.Error(), "500") || asked.Load() != 2 {
		t.Errorf("right after a question that failed: %v, by %d questions, want its error and 2", err, asked.Load())
	}
}

// deafSource answers no question before it is told to.
type deafSource struct {
	answer <-chan struct{}
	asked  *int
}

func (s deafSource) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	*s.asked++
	<-s.answer
	return credentials.Value{}, errors.New("it has hung")
}

func (s deafSource) Retrieve() (credentials.Value, error) { return s.RetrieveWithCredContext(nil) }
func (s deafSource) IsExpired() bool                      { return true }

func TestSourceThatHangsIsWaitedForALimitedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer, asked := make(chan struct{}), 0
		c := &chain{now: time.Now, sources: []source{{"of a program", deafSource{answer, &asked}}}}
		for range 2 {
			begin := time.Now()
			if err := c.ready(t.Context()); !errors.Is(err, errNoCredentials) || time.Since(begin) != askMax {
				t.Errorf("after %s: %v", time.Since(begin), err)
			}
		}
		close(answer)
		synctest.Wait()
		begin := time.Now()
		if err := c.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "it has hung") || time.Since(begin) != 0 || asked != 1 {
			t.Errorf("after %s and %d questions: %v", time.Since(begin), asked, err)
		}
	})
}

// TestRefusalDuringAQuestionIsOfWhatThereWas: it says nothing of other credentials that the question finds.
func TestRefusalDuringAQuestionIsOfWhatThereWas(t *testing.T) {
	for found, want := range map[string]bool{"OLD": true, "NEW": false} {
		synctest.Test(t, func(t *testing.T) {
			answer := make(chan credentials.Value, 1)
			c := &chain{now: time.Now, sources: []source{{"of a role", answeringSource{answer}}}}
			answer <- credentials.Value{AccessKeyID: "OLD", SecretAccessKey: "s"}
			if err := c.ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-time.After(renewPause)
			if err := c.ready(t.Context()); err != nil || c.question == nil {
				t.Errorf("ready: %v, want a question beside it", err)
			}
			c.refuse()
			answer <- credentials.Value{AccessKeyID: found, SecretAccessKey: "s"}
			synctest.Wait()
			if c.refused != want || c.question != nil {
				t.Errorf("after a question that found %s: refused is %v, want %v", found, c.refused, want)
			}
		})
	}
}

type answeringSource struct{ answer <-chan credentials.Value }

func (s answeringSource) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return <-s.answer, nil
}

func (s answeringSource) Retrieve() (credentials.Value, error) { return s.RetrieveWithCredContext(nil) }
func (s answeringSource) IsExpired() bool                      { return true }
