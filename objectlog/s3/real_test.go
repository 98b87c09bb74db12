package s3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/minio/minio-go/v7"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/objectlogtest"
	"github.com/splashdam/splashdam/objectlog/retry"
	"github.com/splashdam/splashdam/objectlog/usage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(localstacktest.Tests{M: m}) }

// closing is the usual transport, which leaves no connections to the next test.
func closing(t testing.TB) *http.Transport {
	transport := newTransport(answerMax)
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// realBucket opens a fresh bucket of the engine, which is removed at the end.
func realBucket(t testing.TB, engine localstack.Engine, counter *usage.Counter) *Bucket {
	t.Helper()
	b, err := Open(Config{
		Bucket: "test-" + newNonce().String(), Endpoint: localstacktest.Shared(t, engine).Endpoint, PathStyle: true, Transport: closing(t), Usage: counter,
	})
	if err != nil {
		t.Fatal(err)
	}
	// MinIO is alive before it knows its disks.
	starting := func(err error) bool { return !strings.Contains(err.Error(), "XMinioServerNotInitialized") }
	patient := retry.Policy{
		Budget: retry.NewBudget(100), Attempts: 100, Base: time.Second / 2, PauseMax: time.Second / 2, Sleep: retry.Sleep, Random: rand.Uint64,
	}
	if err := patient.Do(t.Context(), starting, func() error { return b.Create(t.Context()) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		removeBucket(ctx, t, b)
	})
	return b
}

func removeBucket(ctx context.Context, t testing.TB, b *Bucket) {
	infos, err := b.List(ctx, "", "", 1000)
	for _, info := range infos {
		err = errors.Join(err, b.Delete(ctx, info.Key))
	}
	err = errors.Join(err, b.do(ctx, &exchange{kind: remove}, func(ctx context.Context) error {
		return b.sdk.RemoveBucketWithOptions(ctx, b.name, minio.RemoveBucketOptions{})
	}))
	if err != nil {
		t.Errorf("clean up: %v", err)
	}
}

func engines(t *testing.T, run func(t *testing.T, engine localstack.Engine)) {
	all := []localstack.Engine{localstack.MinIO, localstack.Ministack}
	if os.Getenv("SPLASHDAM_TEST_S3")+os.Getenv("SPLASHDAM_TEST_DYNAMODB") != "" {
		all = all[:1] // a server named from outside stands in for MinIO; nobody says that the one for tables has objects
	}
	for _, engine := range all {
		t.Run(string(engine), func(t *testing.T) { run(t, engine) })
	}
}

func TestBucketKeepsItsContract(t *testing.T) {
	engines(t, func(t *testing.T, engine localstack.Engine) {
		b := realBucket(t, engine, nil)
		objectlogtest.Run(t, func(*testing.T) objectlog.Bucket { return b })
	})
}

func TestCheckPassesAFreshBucketAndLeavesNothing(t *testing.T) {
	engines(t, func(t *testing.T, engine localstack.Engine) {
		b := realBucket(t, engine, nil)
		if err := b.Check(t.Context(), "some/prefix"); err != nil {
			t.Errorf("check: %v", err)
		}
		if infos, err := b.List(t.Context(), "", "", 10); err != nil || len(infos) != 0 {
			t.Errorf("after the check: %v, %v; want an empty bucket", infos, err)
		}
	})
}

func TestCreateOfABucketThatIsOursIsNoError(t *testing.T) {
	engines(t, func(t *testing.T, engine localstack.Engine) {
		if err := realBucket(t, engine, nil).Create(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestPutInPartsIsWholeAndConditional has the smallest parts that stores take.
func TestPutInPartsIsWholeAndConditional(t *testing.T) {
	engines(t, func(t *testing.T, engine localstack.Engine) {
		counter := &usage.Counter{}
		b := realBucket(t, engine, counter)
		b.singleMax, b.partBytes = 5<<20, 5<<20
		body := make([]byte, 2*b.partBytes+5)
		for i := range body {
			body[i] = byte(i) ^ byte(i>>13)
		}
		nonce := newNonce()
		key := "c/seg/00/large"
		if err := b.Put(t.Context(), key, body, nonce); err != nil {
			t.Fatal(err)
		}
		info, err := b.Stat(t.Context(), key)
		if want := contentFor(body, nonce); err != nil || (content{info.Nonce, info.Bytes, info.CRC32C}) != want {
			t.Errorf("stat %+v, %v; want %+v", info, err, want)
		}
		if err := b.Put(t.Context(), key, body, nonce); err != nil {
			t.Errorf("the same put again: %v", err)
		}
		body[77]++
		if err := b.Put(t.Context(), key, body, nonce); !errors.Is(err, objectlog.ErrExists) {
			t.Errorf("a put of other bytes: %v, want ErrExists", err)
		}
		body[77]--
		part, err := b.Get(t.Context(), key, objectlog.Extent{})
		if err != nil || string(part) != string(body) {
			t.Errorf("get answers %d bytes, %v; want the %d that were put", len(part), err, len(body))
		}
		got := map[string]uint64{}
		for _, line := range counter.Lines() {
			if line.Cause == usage.Flush || line.Kind == "abort_multipart" {
				got[line.Kind] = line.Requests
			}
		}
		want := "map[abort_multipart:2 complete_multipart:3 create_multipart:3 head:2 upload_part:9]"
		if fmt.Sprint(got) != want {
			t.Errorf("requests %v, want %s", got, want)
		}
	})
}

func TestCheckOfAnAbsentBucketSaysSo(t *testing.T) {
	engines(t, func(t *testing.T, engine localstack.Engine) {
		b, err := Open(Config{Bucket: "absent-bucket", Endpoint: localstacktest.Shared(t, engine).Endpoint, PathStyle: true, Transport: closing(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Check(t.Context(), "p"); err == nil || !strings.Contains(err.Error(), "create the bucket absent-bucket") {
			t.Errorf("check: %v", err)
		}
		if _, err := b.Stat(t.Context(), "p/x"); err == nil || errors.Is(err, objectlog.ErrNotFound) {
			t.Errorf("stat in an absent bucket: %v, want an error other than ErrNotFound", err)
		}
		if _, err := b.Get(t.Context(), "p/x", objectlog.Extent{}); err == nil || errors.Is(err, objectlog.ErrNotFound) {
			t.Errorf("get in an absent bucket: %v, want an error other than ErrNotFound", err)
		}
	})
}

func TestWrongCredentialsAreNamedByARealStore(t *testing.T) {
	where := localstacktest.Shared(t, localstack.MinIO).Endpoint
	for variable, code := range map[string]string{"AWS_SECRET_ACCESS_KEY": "SignatureDoesNotMatch", "AWS_ACCESS_KEY_ID": "InvalidAccessKeyId"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, "wrongwrong")
			b, err := Open(Config{Bucket: "some-bucket", Endpoint: where, PathStyle: true, Transport: closing(t)})
			if err != nil {
				t.Fatal(err)
			}
			for op, err := range map[string]error{"check": b.Check(t.Context(), "p"), "put": b.Put(t.Context(), "key", []byte("body"), newNonce())} {
				if err != nil && strings.Contains(err.Error(), "NoSuchBucket") && os.Getenv("SPLASHDAM_TEST_S3") != "" {
					continue // an emulator named from outside that takes any credentials
				}
				if err == nil || !strings.Contains(err.Error(), code) || !strings.Contains(err.Error(), "of the environment") {
					t.Errorf("%s: %v, want %s and where the credentials are from", op, err, code)
				}
			}
		})
	}
}
