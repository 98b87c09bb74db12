package dynamo

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/expression"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/splashdam/splashdam/metadata"
)

// errContradiction: the engine refused a write, and shows an item that fits its condition.
var errContradiction = errors.New("refused, but what is there fits the condition")

// Put implements metadata.Table.
func (t *Table) Put(ctx context.Context, item metadata.Item, cond metadata.If) metadata.PutResult {
	attributes, err := encode(item)
	if err != nil {
		return metadata.PutResult{Err: fmt.Errorf("put item %s/%s: %w", item.Key.PK, item.Key.SK, err)}
	}
	expr, err := condition(cond)
	if err != nil {
		return metadata.PutResult{Err: fmt.Errorf("put item %s/%s: %w", item.Key.PK, item.Key.SK, err)}
	}
	c := onItem("PutItem", item.Key)
	paid := &charge{cause: writeCause(item.Key), units: writeUnits(item), bytes: len(item.Value)}
	defer t.count(c, paid)
	out, err := invoke(ctx, t, c, t.client.PutItem, &dynamodb.PutItemInput{
		TableName: &t.name, Item: attributes,
		ConditionExpression: expr.Condition(), ExpressionAttributeNames: expr.Names(), ExpressionAttributeValues: expr.Values(),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		ReturnConsumedCapacity:              types.ReturnConsumedCapacityTotal,
	})
	if err == nil {
		err = t.consumed(c, paid, out.ConsumedCapacity)
	}
	return t.outcome(ctx, c, paid, item.Key, cond, err)
}

// Delete implements metadata.Table.
func (t *Table) Delete(ctx context.Context, key metadata.Key, cond metadata.If) metadata.PutResult {
	if err := checkKey(key); err != nil {
		return metadata.PutResult{Err: fmt.Errorf("delete item %s/%s: %w", key.PK, key.SK, err)}
	}
	expr, err := condition(cond)
	if err != nil {
		return metadata.PutResult{Err: fmt.Errorf("delete item %s/%s: %w", key.PK, key.SK, err)}
	}
	c, paid := onItem("DeleteItem", key), &charge{cause: writeCause(key), units: 1}
	defer t.count(c, paid)
	out, err := invoke(ctx, t, c, t.client.DeleteItem, &dynamodb.DeleteItemInput{
		TableName: &t.name, Key: encodeKey(key),
		ConditionExpression: expr.Condition(), ExpressionAttributeNames: expr.Names(), ExpressionAttributeValues: expr.Values(),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		ReturnConsumedCapacity:              types.ReturnConsumedCapacityTotal,
	})
	if err == nil {
		err = t.consumed(c, paid, out.ConsumedCapacity)
	}
	return t.outcome(ctx, c, paid, key, cond, err)
}

func condition(cond metadata.If) (expression.Expression, error) {
	want := expression.AttributeNotExists(expression.Name(attrPK))
	if cond.Exists {
		want = expression.Name(attrRev).Equal(expression.Value(int64(cond.Rev)))
	}
	return expression.NewBuilder().WithCondition(want).Build()
}

// outcome is Refused for a failed condition only, and Unknown for every other error.
func (t *Table) outcome(ctx context.Context, c *call, paid *charge, key metadata.Key, cond metadata.If, err error) metadata.PutResult {
	if err == nil {
		return metadata.PutResult{Outcome: metadata.Applied}
	}
	var failed *types.ConditionalCheckFailedException
	if !errors.As(err, &failed) {
		return metadata.PutResult{Err: err}
	}
	current, err := t.refusing(ctx, c, key, failed.Item)
	if err != nil {
		return metadata.PutResult{Err: err}
	}
	if current != nil {
		paid.units = max(paid.units, writeUnits(*current)) // a refusal does not tell; the larger one is charged, the write's or the one that is there
	}
	if fits(current, cond) {
		return metadata.PutResult{Err: t.damaged(c, errContradiction)}
	}
	return metadata.PutResult{Outcome: metadata.Refused, Current: current}
}

// refusing answers the item that refused a write, nil for an absent one. The package comment says why a later read may stand for it.
func (t *Table) refusing(ctx context.Context, c *call, key metadata.Key, shown map[string]types.AttributeValue) (*metadata.Item, error) {
	if len(shown) > 0 {
		item, err := decodeAt(key, shown)
		if err != nil {
			return nil, t.damaged(c, err)
		}
		return &item, nil
	}
	item, ok, err := t.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("refused without the item that did: %w", err)
	}
	if !ok {
		return nil, nil
	}
	return &item, nil
}

// fits says whether the condition holds for the item; nil is an absent one.
func fits(current *metadata.Item, cond metadata.If) bool {
	if !cond.Exists {
		return current == nil
	}
	return current != nil && current.Rev == cond.Rev
}
