package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/lifecycle"

	"github.com/splashdam/splashdam/localstack"
	"github.com/splashdam/splashdam/test/faultproxy"
)

// ownBucket is a new bucket, for what must not happen to the shared one.
func ownBucket(t *testing.T, change func(c *minio.Client, bucket string) error) (name string) {
	t.Helper()
	c, err := minio.New(strings.TrimPrefix(objectsEndpoint(t), "http://"), &minio.Options{Creds: credentials.NewEnvAWS(), Region: localstack.Region})
	if err != nil {
		t.Fatal(err)
	}
	name = newName()
	if err := c.MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := change(c, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// readOnly are credentials that may read everything and write nothing.
func readOnly(t *testing.T) (env []string) {
	t.Helper()
	c, err := credentials.NewSTSAssumeRole(objectsEndpoint(t), credentials.STSAssumeRoleOptions{
		AccessKey: localstack.AccessKey, SecretKey: localstack.SecretKey, Location: localstack.Region,
		Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":["arn:aws:s3:::*"]}]}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.GetWithContext(&credentials.CredContext{Client: http.DefaultClient})
	if err != nil {
		t.Fatal(err)
	}
	return []string{"AWS_ACCESS_KEY_ID=" + v.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + v.SecretAccessKey, "AWS_SESSION_TOKEN=" + v.SessionToken}
}

func TestAgentSaysWhatIsWrongWithItsBucket(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	objects := objectsEndpoint(t)
	at := func(endpoint string) stack { return s.with(objects, endpoint) }
	in := func(bucket string) stack { return s.with(bucketName+"/", bucket+"/") }
	with := func(code string) stack { return at(proxied(t, objects, answering(code)).Endpoint) }
	closed := "http://" + freeAddress(t)
	refusedPuts := faultproxy.Rule{Match: faultproxy.Match{Kind: "put"}, Action: faultproxy.Action{Do: faultproxy.Status, Error: "AccessDenied"}}
	versioned := ownBucket(t, func(c *minio.Client, bucket string) error { return c.EnableVersioning(t.Context(), bucket) })
	expiring := ownBucket(t, func(c *minio.Client, bucket string) error {
		return c.SetBucketLifecycle(t.Context(), bucket, &lifecycle.Configuration{Rules: []lifecycle.Rule{
			{ID: "tidy", Status: "Enabled", Expiration: lifecycle.Expiration{Days: 30}},
		}})
	})
	skewed := `<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the server's time is too large.</Message></Error>`
	for _, c := range []struct {
		name  string
		env   []string
		stack stack
		want  []string
	}{
		{"missing", nil, in("splashdam-absent"), []string{"splashdam-absent", "NoSuchBucket", "create the bucket"}},
		{"read-only", readOnly(t), s, []string{bucketName, "allow s3:PutObject on arn:aws:s3:::" + bucketName + "/*"}},
		{"puts are refused", nil, at(proxied(t, objects, refusedPuts).Endpoint), []string{bucketName, "allow s3:PutObject"}},
		{"versioned", nil, in(versioned), []string{versioned, "keeps versions", "suspend versioning"}},
		{"expiring", nil, in(expiring), []string{expiring, `"tidy"`, "expires", "remove the rule"}},
		{"wrong secret", []string{"AWS_SECRET_ACCESS_KEY=wrong"}, s, []string{"SignatureDoesNotMatch", "credentials", "environment"}},
		{"unknown key", []string{"AWS_ACCESS_KEY_ID=nobody"}, s, []string{"InvalidAccessKeyId", "credentials", "nobody"}},
		{"no credentials", []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_EC2_METADATA_DISABLED=true", "HOME=/nonexistent"}, s,
			[]string{"no credentials", "AWS_ACCESS_KEY_ID"}},
		{"expired credentials", nil, with("ExpiredToken"), []string{"ExpiredToken", "credentials"}},
		{"clock an hour off", nil, at(saying(t, 403, anHourOff, "application/xml", skewed)), []string{"1h0m0s ahead", "NTP"}},
		{"a login page", nil, at(saying(t, 200, now, "text/html; charset=utf-8", loginPage)), []string{"not an S3 endpoint", "check host and port"}},
		{"unknown authority", nil, at(untrusted(t)), []string{"unknown authority", "SSL_CERT_FILE"}},
		{"nobody listens", nil, at(closed), []string{"connection refused", "start the store, or correct the endpoint"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			says(t, refuses(t, c.env, c.stack.command()...), c.want...)
		})
	}
}

func TestBucketWithoutConditionalPutsIsRefused(t *testing.T) {
	// This server has objects too, and verifies no signatures.
	careless := forging(t, tableEndpoint(t), func(r *http.Request) { r.Header.Del("If-None-Match") }, nil)
	s := onServers(careless, tableEndpoint(t))
	says(t, refuses(t, nil, s.initCommand()...), "If-None-Match", "conditional writes")
}
