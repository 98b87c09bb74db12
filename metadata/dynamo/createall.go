package dynamo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/usage"
)

const (
	batchItems      = 25 // DynamoDB's bound
	batchesAtOnce   = 8  // in flight: a table that was just made takes 4,000 units a second
	leftOverWait    = 50 * time.Millisecond
	leftOverWaitMax = 2 * time.Second
)

// CreateAll implements metadata.Table. What DynamoDB leaves over of a batch is sent again: it says so item by item, or by throttling the batch,
// which it does when it could write none of it
// (https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html). A table that was just made takes fewer units than
// a ring wants at once, so this is the rule, not the exception. Any doubt ends it as Unknown, since a late write would erase entries.
func (t *Table) CreateAll(ctx context.Context, items []metadata.Item) metadata.PutResult {
	if err := ctx.Err(); err != nil {
		return metadata.PutResult{Err: fmt.Errorf("create %d items: %w", len(items), err)}
	}
	seen := make(map[metadata.Key]bool, len(items))
	for _, item := range items {
		_, err := encode(item)
		if seen[item.Key] {
			err = errors.New("given twice")
		}
		if err != nil {
			return metadata.PutResult{Err: fmt.Errorf("create item %s/%s: %w", item.Key.PK, item.Key.SK, err)}
		}
		seen[item.Key] = true
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		once   sync.Once
		failed error // the first one
	)
	batches := make(chan []metadata.Item)
	var workers sync.WaitGroup
	for range batchesAtOnce {
		workers.Go(func() {
			for batch := range batches {
				if err := t.createBatch(ctx, batch); err != nil {
					once.Do(func() { failed = err })
					cancel()
				}
			}
		})
	}
	for batch := range slices.Chunk(items, batchItems) {
		if ctx.Err() != nil {
			break
		}
		batches <- batch
	}
	close(batches)
	workers.Wait()
	if failed == nil {
		failed = ctx.Err() // before all were sent
	}
	if failed != nil {
		return metadata.PutResult{Err: fmt.Errorf("create %d items: %w", len(items), failed)}
	}
	return metadata.PutResult{Outcome: metadata.Applied}
}

// createBatch sends the batch, and again what is left over of it, until nothing is.
func (t *Table) createBatch(ctx context.Context, batch []metadata.Item) error {
	var throttled error // the newest answer of that kind: when the time is over, it is why
	for wait := leftOverWait; ; wait = min(2*wait, leftOverWaitMax) {
		left, err := t.putBatch(ctx, batch)
		switch {
		case errors.Is(err, objectlog.ErrThrottled):
			throttled = err
		case err != nil && ctx.Err() != nil:
			return errors.Join(err, throttled)
		case err != nil, len(left) == 0:
			return err
		}
		batch = left
		select {
		case <-ctx.Done():
			return fmt.Errorf("create item %s/%s: left over: %w", left[0].Key.PK, left[0].Key.SK, errors.Join(ctx.Err(), throttled))
		case <-time.After(wait/2 + rand.N(wait)/2):
		}
	}
}

// putBatch answers the items that were left over: all of them, if the error is ErrThrottled.
func (t *Table) putBatch(ctx context.Context, batch []metadata.Item) ([]metadata.Item, error) {
	first := batch[0].Key
	c := &call{action: "BatchWriteItem", object: fmt.Sprintf("%d items from %s/%s", len(batch), first.PK, first.SK)}
	paid := &charge{cause: usage.Cluster}
	defer t.count(c, paid)
	requests := make([]types.WriteRequest, len(batch))
	for i, item := range batch {
		attributes, err := encode(item)
		if err != nil {
			return nil, err
		}
		requests[i].PutRequest = &types.PutRequest{Item: attributes}
		paid.units += writeUnits(item)
		paid.bytes += len(item.Value)
	}
	out, err := invoke(ctx, t, c, t.client.BatchWriteItem, &dynamodb.BatchWriteItemInput{
		RequestItems: map[string][]types.WriteRequest{t.name: requests}, ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	})
	if errors.Is(err, objectlog.ErrThrottled) {
		return batch, err
	}
	if err != nil {
		return nil, err
	}
	left, err := leftOver(batch, out.UnprocessedItems, t.name)
	if err != nil {
		return nil, t.damaged(c, err)
	}
	if len(left) == len(batch) { // nothing was written and nothing charged
		paid.units = 0
		return left, nil
	}
	var told *types.ConsumedCapacity
	if len(out.ConsumedCapacity) == 1 {
		told = &out.ConsumedCapacity[0]
	}
	return left, t.consumed(c, paid, told)
}

// leftOver finds the items of the batch that the answer names, and wants it to name nothing else.
func leftOver(batch []metadata.Item, answer map[string][]types.WriteRequest, table string) ([]metadata.Item, error) {
	var left []metadata.Item
	for name, requests := range answer {
		for _, r := range requests {
			if name != table || r.PutRequest == nil {
				return nil, fmt.Errorf("the answer has something unprocessed that was not sent, of table %q", name)
			}
			item, err := decode(r.PutRequest.Item)
			if err != nil {
				return nil, err
			}
			same := func(x metadata.Item) bool { return x.Key == item.Key }
			i := slices.IndexFunc(batch, same)
			if i < 0 || slices.ContainsFunc(left, same) {
				return nil, fmt.Errorf("the answer has item %s/%s unprocessed, which was not sent or is named twice", item.Key.PK, item.Key.SK)
			}
			left = append(left, batch[i])
		}
	}
	return left, nil
}
