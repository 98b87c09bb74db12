package dynamo

import (
	"context"
	"fmt"
	"math"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/expression"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/splashdam/splashdam/metadata"
)

// Get implements metadata.Table.
func (t *Table) Get(ctx context.Context, key metadata.Key) (metadata.Item, bool, error) {
	if err := checkKey(key); err != nil {
		return metadata.Item{}, false, fmt.Errorf("get item %s/%s: %w", key.PK, key.SK, err)
	}
	c, paid := onItem("GetItem", key), &charge{cause: readCause(key), units: 1}
	defer t.count(c, paid)
	out, err := invoke(ctx, t, c, t.client.GetItem, &dynamodb.GetItemInput{
		TableName: &t.name, Key: encodeKey(key), ConsistentRead: aws.Bool(true), ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	})
	if err != nil {
		return metadata.Item{}, false, err
	}
	err = t.consumed(c, paid, out.ConsumedCapacity)
	if out.Item == nil {
		return metadata.Item{}, false, err
	}
	item, err := decodeAt(key, out.Item)
	if err != nil {
		return metadata.Item{}, false, t.damaged(c, err)
	}
	paid.bytes = len(item.Value)
	return item, true, nil
}

// Query implements metadata.Table. DynamoDB answers pages of at most 1 MB, and the last one may be empty: only a page that names no
// key to go on from is the last.
func (t *Table) Query(ctx context.Context, pk, after string, limit int) ([]metadata.Item, error) {
	in, err := t.query(pk, after, limit)
	if err != nil {
		return nil, fmt.Errorf("query items %s after %q: %w", pk, after, err)
	}
	var items []metadata.Item
	for {
		in.Limit = aws.Int32(int32(min(limit-len(items), math.MaxInt32)))
		page, next, err := t.page(ctx, in, pk, after)
		if err != nil {
			return nil, err
		}
		items = append(items, page...)
		if len(items) >= limit || len(next) == 0 {
			return items, nil
		}
		if len(page) > 0 {
			after = page[len(page)-1].Key.SK
		}
		in.ExclusiveStartKey = next
	}
}

func (t *Table) query(pk, after string, limit int) (*dynamodb.QueryInput, error) {
	if limit < 1 {
		return nil, fmt.Errorf("limit %d is below 1", limit)
	}
	keys := expression.Key(attrPK).Equal(expression.Value(pk))
	if after != "" { // DynamoDB takes no empty sort key, not even to compare with
		keys = keys.And(expression.Key(attrSK).GreaterThan(expression.Value(after)))
	}
	expr, err := expression.NewBuilder().WithKeyCondition(keys).Build()
	if err != nil {
		return nil, err
	}
	return &dynamodb.QueryInput{
		TableName: &t.name, ConsistentRead: aws.Bool(true), KeyConditionExpression: expr.KeyCondition(),
		ExpressionAttributeNames: expr.Names(), ExpressionAttributeValues: expr.Values(),
		ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	}, nil
}

// page reads one page and wants each item where a page's items are: of this partition key, in order, behind after.
func (t *Table) page(
	ctx context.Context, in *dynamodb.QueryInput, pk, after string,
) (items []metadata.Item, next map[string]types.AttributeValue, err error) {
	c := &call{action: "Query", object: fmt.Sprintf("items %s after %q", pk, after)}
	paid := &charge{cause: readCause(metadata.Key{PK: pk}), units: 1}
	defer t.count(c, paid)
	out, err := invoke(ctx, t, c, t.client.Query, in)
	if err != nil {
		return nil, nil, err
	}
	if err := t.consumed(c, paid, out.ConsumedCapacity); err != nil && len(out.Items) == 0 {
		return nil, nil, err
	}
	for _, attributes := range out.Items {
		item, err := decode(attributes)
		if err == nil && (item.Key.PK != pk || item.Key.SK <= after) {
			err = fmt.Errorf("the answer has item %s/%s, which does not follow %q", item.Key.PK, item.Key.SK, after)
		}
		if err != nil {
			return nil, nil, t.damaged(c, err)
		}
		after = item.Key.SK
		paid.bytes += len(item.Value)
		items = append(items, item)
	}
	return items, out.LastEvaluatedKey, nil
}
