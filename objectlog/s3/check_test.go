package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/lifecycle"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/objectlog"
)

// smallStore is enough of S3 for Check, with faults.
type smallStore struct {
	mu        sync.Mutex
	objects   map[string]content
	overwrite bool                                      // it ignores If-None-Match
	locks     bool                                      // it has a default retention
	forgets   bool                                      // it keeps no metadata
	late      bool                                      // it refuses the end of parts in a 200
	fault     func(r request) (status int, code string) // 0: none
}

func (s *smallStore) answer(w http.ResponseWriter, r request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status, code := s.fault(r); status != 0 {
		refuse(w, status, code, "as the test wants")
		return
	}
	query := r.URL.Query()
	object, there := s.objects[r.URL.Path]
	switch {
	case query.Has("versioning"):
		fmt.Fprint(w, "<VersioningConfiguration/>")
	case query.Has("lifecycle"):
		refuse(w, 404, "NoSuchLifecycleConfiguration", "")
	case query.Has("object-lock") && s.locks:
		fmt.Fprint(w, "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"+
			"<Mode>GOVERNANCE</Mode><Days>3</Days></DefaultRetention></Rule></ObjectLockConfiguration>")
	case query.Has("object-lock"):
		refuse(w, 404, "ObjectLockConfigurationNotFoundError", "")
	case query.Has("list-type"):
		fmt.Fprint(w, "<ListBucketResult/>")
	case query.Has("uploads"):
		fmt.Fprint(w, "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>")
	case r.Method == http.MethodDelete:
		if !query.Has("uploadId") {
			delete(s.objects, r.URL.Path)
		}
		w.WriteHeader(204)
	case query.Has("partNumber"):
		w.Header().Set("Etag", `"e"`)
	case query.Has("uploadId"):
		if there && !s.overwrite {
			status := 412
			if s.late {
				status = 200
			}
			refuse(w, status, "PreconditionFailed", "")
			return
		}
		fmt.Fprint(w, "<CompleteMultipartUploadResult><Bucket>bucket</Bucket></CompleteMultipartUploadResult>")
	case r.Method == http.MethodPut:
		if there && !s.overwrite {
			refuse(w, 412, "PreconditionFailed", "")
			return
		}
		nonce, _ := objectlog.ParseUUID(r.Header.Get(nonceHeader))
		s.objects[r.URL.Path] = contentFor([]byte(r.body), nonce)
		if s.forgets {
			s.objects[r.URL.Path] = contentFor([]byte(r.body), objectlog.UUID{})
		}
		w.Header().Set("Etag", `"e"`)
	case !there:
		refuse(w, 404, "NoSuchKey", "")
	case r.Method == http.MethodHead:
		found(w, object)
	default: // the self-test's range
		found(w, content{bytes: 6, nonce: object.nonce})
		w.Header().Set("Content-Range", "bytes 3-8/55")
		w.WriteHeader(206)
		fmt.Fprint(w, "ashdam")
	}
}

func newSmallStore(t *testing.T) (*smallStore, *fake) {
	s := &smallStore{objects: map[string]content{}, fault: func(request) (int, string) { return 0, "" }}
	return s, newFake(t, s.answer)
}

// TestCheckNamesEveryProblem has one row per fault of a store: what the error must say, and that nothing is left behind.
func TestCheckNamesEveryProblem(t *testing.T) {
	deny := func(denied ...func(request) bool) func(request) (int, string) {
		return func(r request) (int, string) {
			if slices.ContainsFunc(denied, func(is func(request) bool) bool { return is(r) }) {
				return 403, "AccessDenied"
			}
			return 0, ""
		}
	}
	method := func(m string) func(request) bool {
		return func(r request) bool { return r.Method == m && strings.Contains(r.URL.Path, "self-test-") }
	}
	query := func(name string) func(request) bool { return func(r request) bool { return r.URL.Query().Has(name) } }
	always := func(status int, code string) func(request) (int, string) {
		return func(request) (int, string) { return status, code }
	}
	for name, test := range map[string]struct {
		change func(*smallStore)
		want   []string // empty: no problem
		left   bool
	}{
		"a good store": {func(*smallStore) {}, nil, false},
		"a late word":  {func(s *smallStore) { s.late = true }, nil, false},
		"no bucket":    {func(s *smallStore) { s.fault = always(404, "NoSuchBucket") }, []string{"NoSuchBucket", "create the bucket bucket"}, false},
		"wrong key":    {func(s *smallStore) { s.fault = always(403, "InvalidAccessKeyId") }, []string{"replace the credentials", "of the environment"}, false},
		"read-only":    {func(s *smallStore) { s.fault = deny(method("PUT"), method("POST")) }, []string{"allow s3:PutObject on arn:aws:s3:::bucket/*"}, false},
		"no list":      {func(s *smallStore) { s.fault = deny(query("list-type")) }, []string{"allow s3:ListBucket on arn:aws:s3:::bucket to"}, false},
		"no reads":     {func(s *smallStore) { s.fault = deny(method("GET"), method("HEAD")) }, []string{"allow s3:GetObject on arn:aws:s3:::bucket/*"}, false},
		"no deletes": {func(s *smallStore) {
			s.fault = deny(func(r request) bool { return r.Method == "DELETE" && !r.URL.Query().Has("uploadId") })
		}, []string{"allow s3:DeleteObject", "self-test-"}, true},
		"no aborts": {func(s *smallStore) {
			s.fault = deny(func(r request) bool { return r.Method == "DELETE" && r.URL.Query().Has("uploadId") })
		}, []string{"allow s3:AbortMultipartUpload"}, false},
		"no look at rules": {func(s *smallStore) { s.fault = deny(query("lifecycle"), query("versioning"), query("object-lock")) }, []string{"s3:GetLifecycleConfiguration", "s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration"}, false},
		"several at once":  {func(s *smallStore) { s.fault = deny(query("lifecycle"), query("list-type"), method("HEAD")) }, []string{"s3:GetLifecycleConfiguration", "s3:ListBucket", "s3:GetObject"}, false},
		"a store without rules": {func(s *smallStore) {
			s.fault = func(r request) (int, string) {
				if r.URL.RawQuery == "lifecycle=" {
					return 501, "NotImplemented"
				}
				return 0, ""
			}
		}, nil, false},
		"unconditional puts":   {func(s *smallStore) { s.overwrite = true }, []string{"put s3://bucket/p/q/self-test-", "complete parts of s3://", "in spite of If-None-Match"}, false},
		"object lock":          {func(s *smallStore) { s.locks = true }, []string{"object lock", "governance", "remove the default retention"}, false},
		"no metadata":          {func(s *smallStore) { s.forgets = true }, []string{"does not keep what was stored with an object"}, false},
		"a store that is down": {func(s *smallStore) { s.fault = always(500, "InternalError") }, []string{"InternalError"}, false},
		"other region":         {func(s *smallStore) { s.fault = always(301, "PermanentRedirect") }, []string{"another region"}, false},
		"skewed clocks":        {func(s *smallStore) { s.fault = always(403, "RequestTimeTooSkewed") }, []string{"clock", "NTP"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := newSmallStore(t)
			test.change(s)
			err := f.bucket.Check(t.Context(), "p/q")
			if (err == nil) != (len(test.want) == 0) {
				t.Errorf("check: %v", err)
			}
			for _, part := range test.want {
				if err != nil && !strings.Contains(err.Error(), part) {
					t.Errorf("check: %v\nwant a text that says %q", err, part)
				}
			}
			if (len(s.objects) != 0) != test.left {
				t.Errorf("the check left %v", s.objects)
			}
		})
	}
}

// TestCheckTakesNoOtherAnswerForRulesThatDoNothing: a gateway, or an error with status 200, says nothing of versions, rules and locks.
func TestCheckTakesNoOtherAnswerForRulesThatDoNothing(t *testing.T) {
	for _, name := range []string{"versioning", "lifecycle", "object-lock"} {
		for _, text := range []string{"<Error><Code>InternalError</Code></Error>", "<Foo/>", "{}", ""} {
			s, _ := newSmallStore(t)
			f := newFake(t, func(w http.ResponseWriter, r request) {
				if r.URL.Query().Has(name) {
					fmt.Fprint(w, text)
					return
				}
				s.answer(w, r)
			})
			if err := f.bucket.checkRules(t.Context(), "p"); err == nil {
				t.Errorf("%q as the answer to %s: no problem", text, name)
			}
		}
	}
}

// TestCheckPassesWhenAnyOneAnswerIsLost, whether or not the store has done what it was asked.
func TestCheckPassesWhenAnyOneAnswerIsLost(t *testing.T) {
	check := func(n int32, done bool) (run func() (asked int32)) {
		s, _ := newSmallStore(t)
		var asked atomic.Int32
		var lost string
		var begun, given atomic.Bool // upload of parts: the one whose id the client knows
		f := newFake(t, func(w http.ResponseWriter, r request) {
			query, loses := r.URL.Query(), asked.Add(1) == n
			switch {
			case query.Has("uploads"):
				begun.Store(!loses)
			case r.Method == http.MethodDelete && query.Has("uploadId") && (done || !loses):
				given.Store(true)
			}
			if !loses {
				s.answer(w, r)
				return
			}
			lost = r.Method + " " + r.URL.RequestURI()
			if done {
				s.answer(httptest.NewRecorder(), r)
			}
			cut(w)
		})
		return func() int32 {
			if err := f.bucket.Check(t.Context(), "p"); err != nil {
				t.Errorf("answer %d lost, to %s: %v", n, lost, err)
			}
			if len(s.objects) != 0 || !begun.Load() || !given.Load() {
				t.Errorf("answer %d lost, to %s: the check left %v, parts: %v", n, lost, s.objects, begun.Load() && !given.Load())
			}
			return asked.Load()
		}
	}
	asked := check(0, true)()
	var all sync.WaitGroup
	for n := range asked {
		for _, done := range []bool{false, true} {
			run := check(n+1, done)
			all.Go(func() { run() })
		}
	}
	all.Wait()
}

func TestCheckTidiesUpWhenItsTimeIsOver(t *testing.T) {
	s, f := newSmallStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.fault = func(r request) (int, string) {
		if r.Method == http.MethodHead {
			cancel()
		}
		return 0, ""
	}
	if err := f.bucket.Check(ctx, ""); err == nil {
		t.Error("no error")
	}
	if len(s.objects) != 0 {
		t.Errorf("the check left %v", s.objects)
	}
}

func TestErrorsSayWhatIsWrongAndWhatToDo(t *testing.T) {
	page := func(w http.ResponseWriter, _ request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<html><title>MinIO Console</title></html>")
	}
	plain := newFake(t, page)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // that handshakes fail is meant
	secure.StartTLS()
	defer secure.Close()
	skewed := newFake(t, func(w http.ResponseWriter, _ request) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		refuse(w, 403, "RequestTimeTooSkewed", "The difference between the request time and the server's time is too large")
	})
	region := newFake(t, func(w http.ResponseWriter, _ request) {
		w.WriteHeader(400)
		fmt.Fprint(w, "<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong region</Message><Region>eu-central-1</Region></Error>")
	})
	moved := newFake(t, func(w http.ResponseWriter, _ request) {
		w.Header().Set("X-Amz-Bucket-Region", "ap-east-1")
		w.WriteHeader(301)
	})
	for name, test := range map[string]struct {
		endpoint string
		want     []string
	}{
		"HTML":              {plain.URL, []string{"MinIO Console", "is not an S3 endpoint"}},
		"plain HTTP":        {strings.Replace(plain.URL, "http:", "https:", 1), []string{"say http://"}},
		"unknown authority": {secure.URL, []string{"SSL_CERT_FILE"}},
		"TLS":               {strings.Replace(secure.URL, "https:", "http:", 1), []string{"say https://"}},
		"skew":              {skewed.URL, []string{"RequestTimeTooSkewed", "this machine's clock is 1h0m0s behind the store's"}},
		"region":            {region.URL, []string{"say region=eu-central-1"}},
		"moved":             {moved.URL, []string{"say region=ap-east-1"}},
		"no such host":      {"http://store.invalid", []string{"store.invalid", "correct the endpoint"}},
		"refused":           {"http://127.0.0.1:1", []string{"nothing listens on 127.0.0.1:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := Open(Config{Bucket: "bucket", Endpoint: test.endpoint, PathStyle: true, Transport: closing(t)})
			if err != nil {
				t.Fatal(err)
			}
			// A running agent says the same as the check at its start.
			_, errGet := b.Get(t.Context(), "key", objectlog.Extent{})
			for op, err := range map[string]error{
				"check": b.Check(t.Context(), "p"), "get": errGet, "put": b.Put(t.Context(), "key", []byte("body"), newNonce()),
			} {
				for _, part := range test.want {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("%s: %v\nwant a text that says %q", op, err, part)
					}
				}
			}
		})
	}
}

// TestHungStoreIsGivenUp: nobody but the client itself notices one.
func TestHungStoreIsGivenUp(t *testing.T) {
	end := make(chan struct{})
	f := newFake(t, func(http.ResponseWriter, request) { <-end })
	transport := closing(t)
	transport.ResponseHeaderTimeout = 20 * time.Millisecond
	defer close(end)
	b, err := Open(Config{Bucket: "bucket", Endpoint: f.URL, PathStyle: true, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "key", []byte("body"), newNonce()); err == nil || !strings.Contains(err.Error(), "the store's health") {
		t.Errorf("got %v", err)
	}
}

// TestEndOfPartsHasTheTimeOfTheObject until the first byte of the answer, and the requests before it have not.
func TestEndOfPartsHasTheTimeOfTheObject(t *testing.T) {
	const stallMax = 100 * time.Millisecond
	begun := "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>"
	for _, test := range []struct {
		method, slow string // of the request that is answered late: its parameter
		done         bool
	}{{"POST", "uploads", false}, {"PUT", "partNumber", false}, {"POST", "uploadId", true}} {
		f := newFake(t, func(w http.ResponseWriter, r request) {
			query := r.URL.Query()
			if query.Has(test.slow) && r.Method == test.method {
				select {
				case <-time.After(5 * stallMax):
				case <-r.Context().Done():
				}
			}
			w.Header().Set("Etag", `"e"`)
			switch {
			case query.Has("uploads"):
				fmt.Fprint(w, begun)
			case r.Method == http.MethodPost:
				fmt.Fprint(w, "<CompleteMultipartUploadResult><Bucket>bucket</Bucket></CompleteMultipartUploadResult>")
			}
		})
		transport := newPaced(stallMax)
		t.Cleanup(transport.usual.CloseIdleConnections)
		t.Cleanup(transport.patient.CloseIdleConnections)
		b, err := Open(Config{Bucket: "bucket", Endpoint: f.URL, PathStyle: true, Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		b.singleMax, b.partBytes = 2000, 1000
		if err := b.Put(t.Context(), "key", make([]byte, 2500), newNonce()); (err == nil) != test.done {
			t.Errorf("%s is answered after %s: %v", test.slow, 5*stallMax, err)
		}
	}
}

// TestStoreThatTakesNothingInIsGivenUp: it accepts the connection, and reads nothing from it.
func TestStoreThatTakesNothingInIsGivenUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	transport := newTransport(50 * time.Millisecond)
	defer transport.CloseIdleConnections()
	b, err := Open(Config{Bucket: "bucket", Endpoint: "http://" + listener.Addr().String(), PathStyle: true, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 32<<20) // more than the buffers between them hold
	if err := b.Put(t.Context(), "key", body, newNonce()); err == nil || !strings.Contains(err.Error(), "the store's health") {
		t.Errorf("got %v", err)
	}
}

func TestCheckRefusesWhatMinIODoesByItself(t *testing.T) {
	b := realBucket(t, localstack.MinIO, nil)
	t.Cleanup(func() { removeVersions(t, b) })
	check := func(want ...string) {
		t.Helper()
		err := b.Check(t.Context(), "p/q")
		if (err == nil) != (len(want) == 0) {
			t.Errorf("check: %v", err)
		}
		for _, part := range want {
			if err != nil && !strings.Contains(err.Error(), part) {
				t.Errorf("check: %v\nwant %q", err, part)
			}
		}
	}
	set := func(rules ...lifecycle.Rule) {
		t.Helper()
		for i := range rules {
			rules[i].ID, rules[i].Status = fmt.Sprint("rule-", i), "Enabled"
		}
		err := b.do(t.Context(), &exchange{kind: createBucket}, func(ctx context.Context) error {
			return b.sdk.SetBucketLifecycle(ctx, b.name, &lifecycle.Configuration{Rules: rules})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	set(lifecycle.Rule{RuleFilter: lifecycle.Filter{Prefix: "other/"}, Expiration: lifecycle.Expiration{Days: 1}})
	check()
	set(lifecycle.Rule{RuleFilter: lifecycle.Filter{Prefix: "p/"}, Expiration: lifecycle.Expiration{Days: 1}})
	check(`lifecycle rule "rule-0" expires objects under "p/q"`)
	set(lifecycle.Rule{Expiration: lifecycle.Expiration{Days: 1}}, lifecycle.Rule{RuleFilter: lifecycle.Filter{Prefix: "p/q/c/seg"}, Expiration: lifecycle.Expiration{Days: 3}})
	check(`"rule-0" expires`, `"rule-1" expires`)
	set(lifecycle.Rule{NoncurrentVersionExpiration: lifecycle.NoncurrentVersionExpiration{NoncurrentDays: 1}})
	check()
	version := func(status string) {
		t.Helper()
		err := b.do(t.Context(), &exchange{kind: createBucket}, func(ctx context.Context) error {
			return b.sdk.SetBucketVersioning(ctx, b.name, minio.BucketVersioningConfiguration{Status: status})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	version(minio.Enabled)
	check() // the hidden versions go
	set(lifecycle.Rule{RuleFilter: lifecycle.Filter{Prefix: "z/"}, NoncurrentVersionExpiration: lifecycle.NoncurrentVersionExpiration{NoncurrentDays: 1}})
	check("it keeps versions")
	version(minio.Suspended)
	check()
}

// removeVersions removes what the deletes of a bucket with versions have only hidden.
func removeVersions(t *testing.T, b *Bucket) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := b.do(ctx, &exchange{kind: remove}, func(ctx context.Context) (err error) {
		for v := range b.sdk.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
			err = errors.Join(err, v.Err, b.sdk.RemoveObject(ctx, b.name, v.Key, minio.RemoveObjectOptions{VersionID: v.VersionID}))
		}
		return err
	})
	if err != nil {
		t.Errorf("clean up: %v", err)
	}
}

func TestRulesAreJudgedByWhatTheyDoToOurPrefix(t *testing.T) {
	expire := lifecycle.Expiration{Days: 1}
	for name, test := range map[string]struct {
		rule lifecycle.Rule
		want string
	}{
		"everything":          {lifecycle.Rule{Status: "Enabled", Expiration: expire}, "expires"},
		"our prefix":          {lifecycle.Rule{Status: "Enabled", Prefix: "p/q", Expiration: expire}, "expires"},
		"a part of it":        {lifecycle.Rule{Status: "Enabled", RuleFilter: lifecycle.Filter{Prefix: "p/q/x"}, Expiration: expire}, "expires"},
		"with a size":         {lifecycle.Rule{Status: "Enabled", RuleFilter: lifecycle.Filter{And: lifecycle.And{Prefix: "p", ObjectSizeGreaterThan: 5}}, Expiration: expire}, "expires"},
		"all versions":        {lifecycle.Rule{Status: "Enabled", AllVersionsExpiration: lifecycle.AllVersionsExpiration{Days: 1}}, "expires"},
		"on a day":            {lifecycle.Rule{Status: "Enabled", Expiration: lifecycle.Expiration{Date: lifecycle.ExpirationDate{Time: time.Unix(1, 0)}}}, "expires"},
		"another class":       {lifecycle.Rule{Status: "Enabled", Transition: lifecycle.Transition{StorageClass: "GLACIER"}}, "moves to another storage class"},
		"a neighbour":         {lifecycle.Rule{Status: "Enabled", Prefix: "p/q2/", Expiration: expire}, ""},
		"tagged objects":      {lifecycle.Rule{Status: "Enabled", RuleFilter: lifecycle.Filter{Tag: lifecycle.Tag{Key: "k"}}, Expiration: expire}, ""},
		"tagged, with prefix": {lifecycle.Rule{Status: "Enabled", RuleFilter: lifecycle.Filter{And: lifecycle.And{Prefix: "p", Tags: []lifecycle.Tag{{Key: "k"}}}}, Expiration: expire}, ""},
		"disabled":            {lifecycle.Rule{Status: "Disabled", Expiration: expire}, ""},
		"incomplete uploads":  {lifecycle.Rule{Status: "Enabled", AbortIncompleteMultipartUpload: lifecycle.AbortIncompleteMultipartUpload{DaysAfterInitiation: 1}}, ""},
		"delete markers":      {lifecycle.Rule{Status: "Enabled", Expiration: lifecycle.Expiration{DeleteMarker: true}}, ""},
		"noncurrent versions": {lifecycle.Rule{Status: "Enabled", NoncurrentVersionExpiration: lifecycle.NoncurrentVersionExpiration{NoncurrentDays: 1}}, ""},
	} {
		if got := harms(test.rule, "p/q"); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	for prefix, want := range map[string]bool{
		"": true, "p": true, "p/": true, "p/q": true, "p/q/": true, "p/q/x": false, "z": false, "p/q2": false, "/": false,
	} {
		rules := &lifecycle.Configuration{Rules: []lifecycle.Rule{{
			Status: "Enabled", Prefix: prefix, NoncurrentVersionExpiration: lifecycle.NoncurrentVersionExpiration{NoncurrentDays: 1},
		}}}
		if got := expiresHidden(rules, "p/q"); got != want {
			t.Errorf("noncurrent versions under %q go: %v, want %v", prefix, got, want)
		}
		if prefix == "p/q/" && expiresHidden(rules, "p/q2") {
			t.Errorf("a rule for %q is said to remove noncurrent versions under p/q2", prefix)
		}
	}
}
