package dynamo

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// errForeign: the answer is not one that DynamoDB gives.
var errForeign = errors.New("not an answer of DynamoDB")

// foreignField is a field that makes an answer foreign.
type foreignField string

func (f foreignField) Error() string { return fmt.Sprintf("it has a field %q", string(f)) }

// answerFields are the fields that an answer of status 200 can have (API reference, "Response Elements" of each action). The SDK ignores
// others: {"error":"try later"}, which a gateway may say with status 200, would pass for a put that was applied, or an item that is absent.
func answerFields(action string) []string {
	switch action {
	case "PutItem", "DeleteItem":
		return []string{"Attributes", "ConsumedCapacity", "ItemCollectionMetrics"}
	case "GetItem":
		return []string{"ConsumedCapacity", "Item"}
	case "Query":
		return []string{"ConsumedCapacity", "Count", "Items", "LastEvaluatedKey", "ScannedCount"}
	case "BatchWriteItem":
		return []string{"ConsumedCapacity", "ItemCollectionMetrics", "UnprocessedItems"}
	case "CreateTable":
		return []string{"TableDescription"}
	case "DescribeTable":
		return []string{"Table"}
	case "DescribeTimeToLive":
		return []string{"TimeToLiveDescription"}
	case "UpdateContinuousBackups":
		return []string{"ContinuousBackupsDescription"}
	}
	return nil
}

// ignored takes every value and keeps nothing of it.
type ignored struct{}

// UnmarshalJSON implements json.Unmarshaler.
func (ignored) UnmarshalJSON([]byte) error { return nil }

// checkFields wants the body to be one whole object of known fields.
func checkFields(action string, body []byte) error {
	var fields map[string]ignored
	if err := json.Unmarshal(body, &fields); err != nil {
		return err
	}
	known := answerFields(action)
	for name := range fields {
		if !slices.Contains(known, name) {
			return foreignField(name)
		}
	}
	return nil
}

// errNoCapacity: requests ask for the capacity they consume, and DynamoDB names it with the table in every answer. So do ministack, dynalite
// and dynoxide.
var errNoCapacity = errors.New("the answer does not name the table and what was consumed of it")

// consumed takes what DynamoDB charges for the request. An answer that says nothing else must have it: a gateway's {} is not a put that was
// applied, nor an item that is absent.
func (t *Table) consumed(c *call, paid *charge, told *types.ConsumedCapacity) error {
	if told == nil || aws.ToString(told.TableName) != t.name || told.CapacityUnits == nil {
		f := t.failure(c, errNoCapacity)
		f.remedy = "check the endpoint: another service or a proxy answers there"
		return f
	}
	paid.units = int(math.Ceil(*told.CapacityUnits))
	return nil
}
