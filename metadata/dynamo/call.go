package dynamo

import (
	"context"
	"errors"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog/usage"
)

// invoke makes one request. Its error, a failed condition apart, says what the call was, what is wrong and what to do.
func invoke[I, O any](
	ctx context.Context, t *Table, c *call, send func(context.Context, *I, ...func(*dynamodb.Options)) (*O, error), in *I,
) (*O, error) {
	if err := ctx.Err(); err != nil {
		return nil, t.explain(c, err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	out, err := send(context.WithValue(ctx, callKey{}, c), in)
	if err == nil || isRefusal(err) {
		return out, err
	}
	return nil, t.explain(c, err)
}

func isRefusal(err error) bool {
	var failed *types.ConditionalCheckFailedException
	return errors.As(err, &failed)
}

// charge is what a call costs. It is counted once, when the call is over, if a request went out.
type charge struct {
	cause usage.Cause
	units int // as far as one can tell before the answer says it
	bytes int // of values, sent and answered
}

// A throttled request is not charged.
func (t *Table) count(c *call, paid *charge) {
	if c.throttled {
		paid.units = 0
	}
	if c.sent {
		t.usage.Add(kind(c.action), paid.cause, paid.units, paid.bytes)
	}
}

// kind is the action in the words of usage.Line: PutItem is put_item.
func kind(action string) string {
	var b strings.Builder
	for i, r := range action {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func readCause(key metadata.Key) usage.Cause {
	if key.Family() == "ring" {
		return usage.Read
	}
	return otherCause(key)
}

func writeCause(key metadata.Key) usage.Cause {
	if key.Family() == "ring" {
		return usage.Commit
	}
	return otherCause(key)
}

func otherCause(key metadata.Key) usage.Cause {
	if key.Family() == "shard" {
		return usage.Lease
	}
	return usage.Cluster
}

func onItem(action string, key metadata.Key) *call {
	return &call{action: action, object: "item " + key.PK + "/" + key.SK}
}
