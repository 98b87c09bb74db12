// Package dynamo is a Table on DynamoDB or a server that speaks its protocol.
//
// One call of Put or Delete is one request: the SDK's retries are off and net/http cannot repeat a request, since a conditional put that
// is repeated unseen meets its own first attempt and looks like a defeat. An answer is taken only when it is whole and DynamoDB's:
// status 200 with a JSON object of the action's fields, which says what was consumed of the table, means applied, a failed condition means
// refused, and whatever else happened is unknown.
//
// # A refusal without its item
//
// An engine may refuse without showing the item that refused (dynalite, older servers; and where nothing is there, none can be shown). Then
// one consistent read follows. It comes later, so it may find an item that replaced the refusing one. That answer is as true as the one
// of a put that was sent again later: the refusal is definite whatever the read says, and revisions of an item that is never deleted only
// rise, so the item found has at least the revision of the refusing one. What each caller makes of it:
//
//   - A slot (append and barrier). Found: the put's own entry, which means that an earlier sending landed; another entry of the same seq, or
//     one of a later lap, which depose the leader. If the put's own entry landed and was replaced a lap later, the leader steps down without
//     answering its proposals, as after any late re-send; they are proposed again and known by boot and counter.
//   - The lease item. It is judged by holder, epoch and nonce. Where a claim landed and was replaced at once, it is lost just the
//     same: a lease proves nothing, barriers do.
//   - Counters, the cluster item: the caller goes on from what is there now. It may skip a number, never takes one twice.
//   - Agents' items can be deleted. Absent, under a condition on a revision: the item is gone now, and its agent puts it anew if absent.
//
// An item or absence that fits the condition contradicts the refusal: it proves only that the item moved in between in a way the callers
// do not expect, so the answer is Unknown and the put is sent again. The same rule holds for an item that the engine showed.
package dynamo

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/logging"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog/usage"
)

// requestTimeout bounds a request whose caller gives it more time, the way to its credentials included. DynamoDB answers in
// milliseconds; what takes this long is a host that has gone.
const requestTimeout = 10 * time.Second

// Config says where the table is and how it is reached.
type Config struct {
	Table    string
	Endpoint string // http://host:port or https://host:port; empty: DynamoDB of the region
	Region   string // default us-east-1 with an endpoint; without one that of the standard chain

	Transport http.RoundTripper // nil: one of the package's own
	Usage     *usage.Counter    // counts every request that is sent; nil: nobody counts
}

// Table is a Table on DynamoDB. Credentials come from the SDK's standard chain: environment, shared files, web identity, role of the
// machine. When the table refuses them the chain is walked anew, so replaced ones are found without a restart.
type Table struct {
	name   string
	where  string // endpoint or Region, for errors
	client *dynamodb.Client
	keys   *credentials
	usage  *usage.Counter
	http   http.RoundTripper
}

var _ metadata.Table = (*Table)(nil)

// Open prepares the client. It sends nothing: Create and Check do.
func Open(ctx context.Context, cfg Config) (*Table, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open table %q: %w", masked(cfg.Table), err)
	}
	if cfg.Region == "" && cfg.Endpoint != "" {
		cfg.Region = "us-east-1"
	}
	chain, err := loadChain(ctx, cfg.Region)
	if err != nil {
		return nil, fmt.Errorf("open table %q: read the AWS configuration: %w", cfg.Table, err)
	}
	if chain.Region == "" {
		return nil, fmt.Errorf("open table %q: no Region: name one in the address (dynamodb://%s?region=eu-central-1), in AWS_REGION or in the profile", cfg.Table, cfg.Table)
	}
	t := &Table{name: cfg.Table, keys: newCredentials(chain.Region), usage: cfg.Usage, http: cfg.Transport}
	if t.http == nil {
		t.http = newTransport(chain)
	}
	t.client = dynamodb.NewFromConfig(chain, func(o *dynamodb.Options) {
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
		o.Credentials = t.keys
		o.HTTPClient = &sender{t.http}
		o.Retryer, o.RetryMaxAttempts = aws.NopRetryer{}, 0
		o.DisableValidateResponseChecksum = true                                    // the sender does it
		o.Logger = logging.Nop{}                                                    // what it has to say is in the errors
		o.EndpointDiscovery.EnableEndpointDiscovery = aws.EndpointDiscoveryDisabled // one request per call
	})
	t.where = "DynamoDB in " + chain.Region
	if base := t.client.Options().BaseEndpoint; base != nil {
		t.where = *base
	}
	return t, nil
}

// loadChain reads environment and shared files as they are now. Requests for credentials end by themselves: nobody may be waiting for them
// any more, and each one that hung would stay.
func loadChain(ctx context.Context, region string) (aws.Config, error) {
	client := awshttp.NewBuildableClient().WithTimeout(credentialsTimeout)
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
	}
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	return config.LoadDefaultConfig(ctx, options...)
}
