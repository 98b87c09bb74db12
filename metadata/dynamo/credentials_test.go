package dynamo

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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
	if _, _, err := table.Get(t.Context(), slotKey); err != nil {
		t.Error(err)
	}
}
