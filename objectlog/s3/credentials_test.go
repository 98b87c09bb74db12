package s3

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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
		value, err := c.Retrieve()
		if err != nil || value.AccessKeyID != key {
			t.Errorf("got %q, %v; want %s", value.AccessKeyID, err, key)
		}
	}
	want("ROLE1")
	if c.IsExpired() {
		t.Error("fresh credentials are said to have run out")
	}
	c.refuse()
	if c.IsExpired() {
		t.Error("a role is asked again at once")
	}
	clock.advance(renewPause)
	if !c.IsExpired() {
		t.Error("a role whose credentials were refused is not asked again")
	}
	want("ROLE2")
	if c.IsExpired() {
		t.Error("fresh credentials are said to have run out")
	}
	mu.Lock()
	down = true
	mu.Unlock()
	clock.advance(renewPause)
	want("ROLE2")
	clock.advance(2 * time.Hour)
	if value, err := c.Retrieve(); err == nil {
		t.Errorf("got %q after its end, want an error", value.AccessKeyID)
	}
}
