package dynamo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/localstack/localstacktest"
	"github.com/splashdam/splashdam/metadata"
)

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkPut puts an 8 KiB item under a condition, one after the other, and in turn sends the same request by hand: JSON, signature, net/http.
// put/bare is the price of a put in such requests.
func BenchmarkPut(b *testing.B) {
	for _, engine := range []localstack.Engine{localstack.Dynoxide, localstack.Ministack} {
		b.Run(string(engine), func(b *testing.B) {
			endpoint := localstacktest.Shared(b, engine).Endpoint
			table := createAt(b, Config{Endpoint: endpoint})
			value := make([]byte, 8<<10)
			bare := metadata.Item{Key: metadata.Key{PK: "ring#b#0", SK: "000000"}, Value: value}
			item := metadata.Item{Key: metadata.Key{PK: "ring#a#0", SK: "000000"}, Value: value}
			for _, first := range []metadata.Item{bare, item} {
				if r := table.Put(b.Context(), first, metadata.If{}); r.Outcome != metadata.Applied {
					b.Fatal(r)
				}
			}
			keys, err := table.keys.cache.Retrieve(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			var put, hand, putTime, handTime time.Duration
			for b.Loop() {
				start, used := time.Now(), cpu(b)
				for range 20 {
					item.Rev++
					if r := table.Put(b.Context(), item, metadata.RevIs(item.Rev-1)); r.Outcome != metadata.Applied {
						b.Fatal(r)
					}
				}
				put += cpu(b) - used
				putTime += time.Since(start)
				start, used = time.Now(), cpu(b)
				for range 20 {
					bare.Rev++
					putByHand(b, table, endpoint, keys, bare)
				}
				hand += cpu(b) - used
				handTime += time.Since(start)
			}
			puts := float64(20 * b.N)
			b.ReportMetric(put.Seconds()/puts*1000, "cpu-s/1000-puts")
			b.ReportMetric(hand.Seconds()/puts*1000, "cpu-s/1000-bare")
			b.ReportMetric(float64(put)/float64(hand), "put/bare")
			b.ReportMetric(float64(putTime)/float64(handTime), "wall-put/bare")
			b.ReportMetric(float64(putTime.Microseconds())/puts, "µs/put")
		})
	}
}

func putByHand(b *testing.B, t *Table, endpoint string, keys aws.Credentials, item metadata.Item) {
	body, err := json.Marshal(map[string]any{
		"TableName": t.name, "ConditionExpression": "rev = :n", "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
		"ExpressionAttributeValues": map[string]any{":n": map[string]string{"N": strconv.FormatInt(int64(item.Rev-1), 10)}},
		"Item": attributes{
			"pk": {"S": item.Key.PK}, "sk": {"S": item.Key.SK}, "rev": {"N": strconv.FormatInt(int64(item.Rev), 10)},
			"value": {"B": base64.StdEncoding.EncodeToString(item.Value)},
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, endpoint+"/", bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	r.GetBody = nil
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810.PutItem")
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(context.Background(), keys, r, hex.EncodeToString(sum[:]), "dynamodb", localstack.Region, time.Now()); err != nil {
		b.Fatal(err)
	}
	resp, err := t.http.RoundTrip(r)
	if err != nil {
		b.Fatal(err)
	}
	answer, err := io.ReadAll(resp.Body)
	if resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("%s %s %v", resp.Status, answer, err)
	}
}
