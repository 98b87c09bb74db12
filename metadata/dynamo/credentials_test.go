package dynamo

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
)

// wantKey lets the fake server know one access key only.
func wantKey(key *string, code string) func(string, int, *http.Request, []byte) *reply {
	return func(_ string, _ int, r *http.Request, _ []byte) *reply {
		if strings.Contains(r.Header.Get("Authorization"), "Credential="+*key+"/") {
			return nil
		}
		return fault(400, code, "refused")
	}
}

func credentialsFile(t *testing.T) (write func(key string)) {
	file := filepath.Join(t.TempDir(), "credentials")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": file, "AWS_CONFIG_FILE": file + ".none", "AWS_PROFILE": "",
		"AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	return func(key string) {
		next := file + ".next"
		if err := os.WriteFile(next, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = secret\n", key), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReplacedCredentialsFileIsReadAfterARefusal(t *testing.T) {
	for _, code := range []string{"ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException", "AccessDeniedException"} {
		t.Run(code, func(t *testing.T) {
			f := startFake(t)
			valid := "OLD"
			f.lie = wantKey(&valid, code)
			write := credentialsFile(t)
			write("OLD")
			table := openAt(t, Config{Table: "orders", Endpoint: f.URL})
			put := func(rev metadata.Rev, cond metadata.If) metadata.Outcome {
				return table.Put(t.Context(), slotItem(rev, "x"), cond).Outcome
			}
			if put(1, metadata.If{}) != metadata.Applied {
				t.Fatal("first put was not applied")
			}
			valid = "NEW"
			write("NEW")
			if put(2, metadata.RevIs(1)) != metadata.Unknown {
				t.Error("put with the old key was decided")
			}
			if put(2, metadata.RevIs(1)) != metadata.Applied {
				t.Error("put after the refusal was not applied")
			}
		})
	}
}

func TestRefusedCredentialsAreReadAtMostEveryFewSeconds(t *testing.T) {
	f := startFake(t)
	valid := "NEW"
	f.lie = wantKey(&valid, "UnrecognizedClientException")
	write := credentialsFile(t)
	write("OLD")
	table := openAt(t, Config{Table: "orders", Endpoint: f.URL})
	for range 2 { // the first refusal reads the file again, the second must wait
		if _, _, err := table.Get(t.Context(), slotKey); err == nil {
			t.Fatal("old key was taken")
		}
	}
	write("NEW")
	for range 5 {
		if _, _, err := table.Get(t.Context(), slotKey); err == nil {
			t.Fatal("the file was read again at once")
		}
	}
	table.keys.mu.Lock()
	table.keys.reloaded = time.Now().Add(-reloadEvery)
	table.keys.mu.Unlock()
	if _, _, err := table.Get(t.Context(), slotKey); err == nil {
		t.Fatal("old key was taken")
	}
	if _, _, err := table.Get(t.Context(), slotKey); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

func TestCredentialsThatAppearLaterAreFound(t *testing.T) {
	f := startFake(t)
	write := credentialsFile(t)
	table := openAt(t, Config{Table: "orders", Endpoint: f.URL})
	if _, _, err := table.Get(t.Context(), slotKey); err == nil || !strings.Contains(err.Error(), "no credentials") {
		t.Errorf("%v", err)
	}
	write("KEY")
	table.keys.every = 0 // or some seconds later
	if _, _, err := table.Get(t.Context(), slotKey); err != nil {
		t.Error(err)
	}
}

// role is a service that gives credentials, or hangs.
type role struct {
	hangs atomic.Bool
	asked atomic.Int32
}

func startRole(t *testing.T) *role {
	r, end := new(role), make(chan struct{})
	r.hangs.Store(true)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		r.asked.Add(1)
		if r.hangs.Load() {
			<-end
		}
		fmt.Fprintf(w, `{"AccessKeyId":"A","SecretAccessKey":"S","Token":"T","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(end) })
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", s.URL+"/credentials")
	return r
}

func wantHungSource(t *testing.T, err error) {
	t.Helper()
	if err == nil || strings.Contains(err.Error(), "network") {
		t.Errorf("%v, want an error that does not blame the network", err)
	}
	wantError(t, err, "no credentials: their source did not answer in time", "the service that gives this machine its role")
}

func TestSourceOfCredentialsThatHungIsAskedAgain(t *testing.T) {
	f := startFake(t)
	credentialsFile(t)
	r := startRole(t)
	table := openAt(t, Config{Table: "orders", Endpoint: f.URL})
	if table.keys.timeout != credentialsTimeout || credentialsTimeout >= requestTimeout {
		t.Fatalf("a walk has %s of the request's %s", table.keys.timeout, requestTimeout)
	}
	table.keys.timeout = 200 * time.Millisecond
	hurried, cancel := contextFor(t, 20*time.Millisecond)
	defer cancel()
	_, _, err := table.Get(hurried, slotKey)
	wantHungSource(t, err) // the walk goes on without it
	_, _, err = table.Get(t.Context(), slotKey)
	wantHungSource(t, err)
	if n := r.asked.Load(); n != 1 {
		t.Errorf("the source was asked %d times by requests that came together", n)
	}
	r.hangs.Store(false)
	for range 5 {
		_, _, err := table.Get(t.Context(), slotKey)
		wantHungSource(t, err)
	}
	if n := r.asked.Load(); n != 1 {
		t.Errorf("the source was asked %d times within %s", n, reloadEvery)
	}
	table.keys.mu.Lock()
	table.keys.loaded = time.Now().Add(-reloadEvery)
	table.keys.mu.Unlock()
	if _, _, err := table.Get(t.Context(), slotKey); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}
