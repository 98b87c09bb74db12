package e2e

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/dynamo"
	"github.com/splashdam/splashdam/test/faultproxy"
)

// openTable opens the table of a stack as an agent does.
func openTable(t *testing.T, s stack) *dynamo.Table {
	t.Helper()
	cfg, err := dynamo.ParseAddress(s.stores[3])
	if err != nil {
		t.Fatal(err)
	}
	table, err := dynamo.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// rewriteCluster changes the item that makes a table a cluster.
func rewriteCluster(t *testing.T, s stack, from, to string) {
	t.Helper()
	table := openTable(t, s)
	item, ok, err := table.Get(t.Context(), metadata.ClusterKey())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	changed := bytes.Replace(item.Value, []byte(from), []byte(to), 1)
	if bytes.Equal(changed, item.Value) {
		t.Fatalf("the cluster item has no %s: %s", from, item.Value)
	}
	next := metadata.Item{Key: item.Key, Rev: item.Rev + 1, Value: changed}
	if r := table.Put(context.WithoutCancel(t.Context()), next, metadata.RevIs(item.Rev)); r.Outcome != metadata.Applied {
		t.Fatal(r)
	}
}

func TestAgentSaysWhatIsWrongWithItsTable(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	endpoint := tableEndpoint(t)
	at := func(other string) stack { return s.with(endpoint, other) }
	with := func(code string) stack { return at(proxied(t, endpoint, answering(code)).Endpoint) }
	described := func(change func(string) string) stack {
		return at(forging(t, endpoint, nil, func(body string) string {
			if !strings.Contains(body, `"KeySchema"`) {
				return body
			}
			return change(body)
		}))
	}
	skewed := `{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"Signature expired: it is earlier than now"}`
	noPuts := faultproxy.Rule{Match: faultproxy.Match{Kind: "PutItem"}, Action: faultproxy.Action{Do: faultproxy.Status, Error: "AccessDeniedException"}}
	for _, c := range []struct {
		name  string
		stack stack
		want  []string
	}{
		{"missing", s.with("dynamodb://e2e-", "dynamodb://absent-"), []string{"absent-", "ResourceNotFoundException", "splashdam cluster init"}},
		{"read-only", at(proxied(t, endpoint, noPuts).Endpoint), []string{"AccessDeniedException", "dynamodb:PutItem"}},
		{"unknown key", with("UnrecognizedClientException"), []string{"UnrecognizedClientException", "AWS_ACCESS_KEY_ID"}},
		{"wrong secret", with("InvalidSignatureException"), []string{"InvalidSignatureException", "AWS_SECRET_ACCESS_KEY"}},
		{"expired credentials", with("ExpiredTokenException"), []string{"ExpiredTokenException", "renew"}},
		{"clock an hour off", at(saying(t, 400, anHourOff, "application/x-amz-json-1.0", skewed)), []string{"1h0m", "ahead", "NTP"}},
		{"a login page", at(saying(t, 200, now, "text/html; charset=utf-8", loginPage)), []string{"text/html", "check the endpoint"}},
		{"unknown authority", at(untrusted(t)), []string{"unknown authority", "SSL_CERT_FILE"}},
		{"nobody listens", at("http://" + freeAddress(t)), []string{"connection refused", "start the server, or correct the endpoint"}},
		{"with a replica", described(func(body string) string {
			return strings.Replace(body, `"KeySchema"`, `"Replicas":[{"RegionName":"eu-west-1"}],"KeySchema"`, 1)
		}), []string{"global table", "remove the replicas"}},
		{"restored from a backup", described(func(body string) string {
			return strings.Replace(body, `"TableId"`, `"TableId":"1b2d", "Was"`, 1)
		}), []string{"restored", "1b2d", "use the table that the cluster was made in"}},
		{"with other keys", described(func(body string) string {
			return strings.ReplaceAll(body, `"sk"`, `"when"`)
		}), []string{`"when (S)"`, "name another table"}},
	} {
		t.Run(c.name, func(t *testing.T) { says(t, refuses(t, nil, c.stack.command()...), c.want...) })
	}
}

func TestTableOfALaterFormatIsRefused(t *testing.T) {
	s := realStack(t)
	rewriteCluster(t, s, `"format":1`, `"format":2`)
	for _, command := range [][]string{s.command(), s.initCommand()} {
		says(t, refuses(t, nil, command...), "format level 2", "knows 1", "use the program that wrote it")
	}
}

func TestEmptyTableIsNoClusterUntilOneIsMade(t *testing.T) {
	realStack(t) // makes the bucket
	s := onServers(objectsEndpoint(t), tableEndpoint(t))
	if _, err := openTable(t, s).Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	says(t, refuses(t, nil, s.command()...), s.stores[3], "no cluster", "splashdam cluster init")
	s.init(t).start(t, "").stop()
}

func TestBucketAndTableThatDoNotBelongTogetherAreRefused(t *testing.T) {
	t.Parallel()
	one, other := realStack(t), realStack(t)
	swapped := onAddresses(one.stores[1], other.stores[3])
	for _, command := range [][]string{swapped.command(), swapped.initCommand()} {
		says(t, refuses(t, nil, command...), "bucket and table do not belong together", "check both addresses and the prefix")
	}
	unmarked := one.with(bucketName+"/", bucketName+"/elsewhere-")
	for _, command := range [][]string{unmarked.command(), unmarked.initCommand()} {
		says(t, refuses(t, nil, command...), "bucket and table do not belong together", "check both addresses and the prefix")
	}
	second := onAddresses(one.stores[1], tableAddress(tableEndpoint(t), newName()))
	says(t, refuses(t, nil, second.initCommand()...), "prefix", "use another prefix or bucket")

	// What was refused has spoilt nothing.
	for _, s := range []stack{one, other} {
		s.start(t, "").stop()
	}
}

func TestWrongAddressIsAUsageError(t *testing.T) {
	t.Parallel()
	bucket, table := "s3://events/prod?region=eu-central-1", "dynamodb://events?region=eu-central-1"
	for _, c := range []struct{ name, bucket, table, want string }{
		{"no bucket", "", table, "want --bucket and --table"},
		{"no table", bucket, "", "want --bucket and --table"},
		{"bucket without scheme", "events", table, "s3://NAME"},
		{"table without scheme", bucket, "events", "dynamodb://NAME"},
		{"another scheme", "gs://events", table, "s3://NAME"},
		{"addresses swapped", table, bucket, "s3://NAME"},
		{"no name of a bucket", "s3://?region=eu-central-1", table, "bucket name"},
		{"bad name of a bucket", "s3://Events/prod?region=eu-central-1", table, "Events"},
		{"bad name of a table", bucket, "dynamodb://a?region=eu-central-1", "3 to 255"},
		{"bad prefix", "s3://events/a//b?region=eu-central-1", table, "a//b"},
		{"bad endpoint of the bucket", "s3://events?endpoint=localhost:9000", table, "http://host:port"},
		{"bad endpoint of the table", bucket, "dynamodb://events?endpoint=localhost:8000", "http://host:port"},
		{"unknown parameter of the bucket", bucket + "&regoin=x", table, "regoin"},
		{"unknown parameter of the table", bucket, table + "&regoin=x", "regoin"},
		{"no region of the bucket", "s3://events", table, "AWS_REGION"},
		{"no region of the table", bucket, "dynamodb://events", "AWS_REGION"},
		{"secret in the bucket's address", "s3://key:geheim@events?region=eu-central-1", table, "credentials do not belong into an address"},
		{"secret in the table's address", bucket, "dynamodb://key:geheim@events?region=eu-central-1", "credentials do not belong into an address"},
		{"secret in an address of another scheme", "gs://key:geheim@events", table, "s3://NAME"},
	} {
		t.Run(c.name, func(t *testing.T) {
			said := fails(t, 2, noRegion, "agent", "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--bucket", c.bucket, "--table", c.table)
			says(t, said, c.want)
			if strings.Contains(said, "geheim") {
				t.Errorf("it shows the secret: %s", said)
			}
		})
	}
}

// noRegion is an environment in which nothing names one.
var noRegion = []string{"AWS_REGION=", "AWS_CONFIG_FILE=/nonexistent"}
