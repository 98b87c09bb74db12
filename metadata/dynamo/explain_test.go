package dynamo

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog/usage"
)

func TestErrorsSayWhatIsWrongAndWhatToDo(t *testing.T) {
	signature := func(a *reply, date string) *reply {
		a.header = map[string]string{"Date": date}
		return a
	}
	for name, test := range map[string]struct {
		answer *reply
		want   []string
	}{
		"ahead":       {signature(fault(400, "InvalidSignatureException", "Signature not yet current"), hoursAway(-1)), []string{"the clock of this machine is 1h0m", "ahead of the server's", "NTP"}},
		"behind":      {signature(fault(400, "InvalidSignatureException", "Signature expired"), hoursAway(1)), []string{"behind the server's", "NTP"}},
		"too skewed":  {fault(403, "RequestTimeTooSkewed", "x"), []string{"compare the clock"}},
		"secret":      {fault(400, "InvalidSignatureException", "The request signature we calculated does not match"), []string{"the secret key does not belong to the access key"}},
		"key":         {fault(400, "UnrecognizedClientException", "The security token included in the request is invalid."), []string{"AWS_ACCESS_KEY_ID"}},
		"expired":     {fault(400, "ExpiredTokenException", "x"), []string{"renew the session's credentials"}},
		"denied":      {fault(400, "AccessDeniedException", "User: x is not authorized"), []string{"allow these credentials the action dynamodb:PutItem on table orders", "User: x"}},
		"no table":    {fault(400, "ResourceNotFoundException", "Requested resource not found"), []string{"there is no table orders", "splashdam cluster init"}},
		"throttled":   {fault(400, "ThrottlingException", "x"), []string{"takes no more requests"}},
		"page":        {&reply{status: 200, body: "<html>", header: map[string]string{"Content-Type": "text/html"}}, []string{"text/html", "is not DynamoDB's", "check the endpoint"}},
		"gateway":     {&reply{status: 200, body: `{"error":"upstream rate limited"}`}, []string{`it has a field "error"`, "is not DynamoDB's", "check the endpoint"}},
		"stand-in":    {&reply{status: 200, body: `{}`}, []string{"does not name the table and what was consumed of it", "check the endpoint"}},
		"unavailable": {&reply{status: 503, body: "<html>", header: map[string]string{"Content-Type": "text/html"}}, []string{"HTTP 503", "unwell"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t)
			f.lie = always(test.answer)
			r := f.open(t, Config{}).Put(t.Context(), slotItem(1, "x"), metadata.If{})
			if r.Outcome != metadata.Unknown {
				t.Errorf("%+v", r)
			}
			wantError(t, r.Err, append(test.want, "PutItem item ring#r#1/000001 of table orders at http://")...)
		})
	}
}

// A clock that is an hour off is told by the first answer; the SDK then signs with the server's time, so the table can be used.
func TestSkewedClockIsCorrectedAfterTheFirstRefusal(t *testing.T) {
	f := startFake(t)
	serverTime := time.Now().Add(time.Hour)
	f.lie = func(_ string, _ int, r *http.Request, _ []byte) *reply {
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err == nil && signed.Sub(serverTime).Abs() < 5*time.Minute {
			return nil
		}
		a := fault(400, "InvalidSignatureException", "Signature expired")
		a.header = map[string]string{"Date": serverTime.UTC().Format(http.TimeFormat)}
		return a
	}
	table := f.open(t, Config{})
	if r := table.Put(t.Context(), slotItem(1, "x"), metadata.If{}); r.Outcome != metadata.Unknown {
		t.Errorf("first: %+v", r)
	} else {
		wantError(t, r.Err, "behind the server's")
	}
	if r := table.Put(t.Context(), slotItem(1, "x"), metadata.If{}); r.Outcome != metadata.Applied {
		t.Errorf("second: %+v", r)
	}
}

func TestConnectionErrorsSayWhatToDo(t *testing.T) {
	f := startFake(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	secure := httptest.NewUnstartedServer(f)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it would tell of the handshake that the client refuses
	secure.StartTLS()
	defer secure.Close()
	for name, test := range map[string]struct{ endpoint, want string }{
		"refused":           {"http://" + closed.Addr().String(), "nothing listens there"},
		"unknown authority": {secure.URL, "SSL_CERT_FILE or AWS_CA_BUNDLE"},
		"no TLS there":      {strings.Replace(f.URL, "http:", "https:", 1), "write http:// in the endpoint"},
		"no such host":      {"http://table.invalid:8000", "correct the host in the endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			var u usage.Counter
			r := f.open(t, Config{Endpoint: test.endpoint, Usage: &u}).Put(t.Context(), slotItem(1, "x"), metadata.If{})
			if r.Outcome != metadata.Unknown {
				t.Errorf("%+v", r)
			}
			wantError(t, r.Err, test.want)
			if strings.HasPrefix(test.endpoint, "http:") && len(u.Lines()) > 0 {
				t.Errorf("counted %+v, but no request went out", u.Lines())
			}
		})
	}
	t.Run("authority of AWS_CA_BUNDLE", func(t *testing.T) {
		bundle := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("AWS_CA_BUNDLE", bundle)
		if r := f.open(t, Config{Endpoint: secure.URL}).Put(t.Context(), slotItem(1, "x"), metadata.If{}); r.Outcome != metadata.Applied {
			t.Errorf("%+v", r)
		}
	})
}
