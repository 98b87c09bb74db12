package localstack_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/localstack"
)

// dynamo calls the table server and answers what it says; a refusal ends the test.
func dynamo(t *testing.T, endpoint, operation, body string) string {
	t.Helper()
	status, answer := signed(t, "dynamodb", "POST", endpoint+"/", "DynamoDB_20120810."+operation, body)
	if status != 200 {
		t.Fatalf("%s: %d %s", operation, status, answer)
	}
	return answer
}

// s3 makes a request without a body.
func s3(t *testing.T, method, url string) (int, string) {
	t.Helper()
	return signed(t, "s3", method, url, "", "")
}

// signed makes a request as AWS wants it signed (Signature Version 4). The SDKs have their homes elsewhere, and MinIO checks signatures.
func signed(t *testing.T, service, method, url, target, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	stamp := time.Now().UTC().Format("20060102T150405Z")
	sum := sha256.Sum256([]byte(body))
	digest := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", digest)
	req.Header.Set("X-Amz-Date", stamp)
	if target != "" {
		req.Header.Set("Content-Type", "application/x-amz-json-1.0")
		req.Header.Set("X-Amz-Target", target)
	}
	const names = "host;x-amz-content-sha256;x-amz-date"
	canonical := fmt.Sprintf("%s\n%s\n\nhost:%s\nx-amz-content-sha256:%s\nx-amz-date:%s\n\n%s\n%s", method, req.URL.Path, req.URL.Host, digest, stamp, names, digest)
	scope := stamp[:8] + "/" + localstack.Region + "/" + service + "/aws4_request"
	hashed := sha256.Sum256([]byte(canonical))
	key := []byte("AWS4" + localstack.SecretKey)
	for _, part := range strings.Split(scope, "/") {
		key = mac(key, part)
	}
	signature := hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+hex.EncodeToString(hashed[:])))
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+localstack.AccessKey+"/"+scope+", SignedHeaders="+names+", Signature="+signature)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
