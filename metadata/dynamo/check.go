package dynamo

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/usage"
)

// Check finds out, before anything depends on it, whether the table is fit for a cluster: its keys, no replica, conditional puts that have
// one winner. id is the table's own identity, which a restored copy does not share; empty where the engine has none. The error names the
// problem and what to do about it.
func (t *Table) Check(ctx context.Context) (id string, err error) {
	described, err := t.describe(ctx)
	if err != nil {
		return "", fmt.Errorf("check: %w", err)
	}
	if err := errors.Join(checkKeys(described), checkStatus(described), checkReplicas(described), t.checkExpiry(ctx)); err != nil {
		return "", fmt.Errorf("check table %s at %s: %w", t.name, t.where, err)
	}
	if err := t.selfTest(ctx); err != nil {
		return "", fmt.Errorf("check table %s at %s: self-test: %w", t.name, t.where, err)
	}
	return aws.ToString(described.TableId), nil
}

func checkKeys(d *types.TableDescription) error {
	kinds := map[string]types.ScalarAttributeType{}
	for _, a := range d.AttributeDefinitions {
		kinds[aws.ToString(a.AttributeName)] = a.AttributeType
	}
	keys := map[types.KeyType]string{}
	for _, k := range d.KeySchema {
		name := aws.ToString(k.AttributeName)
		keys[k.KeyType] = fmt.Sprintf("%s (%s)", name, kinds[name])
	}
	if keys[types.KeyTypeHash] == attrPK+" (S)" && keys[types.KeyTypeRange] == attrSK+" (S)" && len(d.KeySchema) == 2 {
		return nil
	}
	return fmt.Errorf("its keys are partition %q and sort %q, not %s (S) and %s (S): name another table, which splashdam cluster init makes",
		keys[types.KeyTypeHash], keys[types.KeyTypeRange], attrPK, attrSK)
}

func checkStatus(d *types.TableDescription) error {
	if isServed(d) {
		return nil
	}
	return fmt.Errorf("its status is %s: wait until it is ACTIVE", d.TableStatus)
}

// isServed takes a table whose settings are being changed too: DynamoDB serves it meanwhile, and that can take hours.
func isServed(d *types.TableDescription) bool {
	return d.TableStatus == types.TableStatusActive || d.TableStatus == types.TableStatusUpdating
}

// checkReplicas refuses tables that are written in several Regions without agreement among them: two writers then both win.
func checkReplicas(d *types.TableDescription) error {
	if len(d.Replicas) == 0 && len(d.GlobalTableWitnesses) == 0 && aws.ToString(d.GlobalTableVersion) == "" ||
		d.MultiRegionConsistency == types.MultiRegionConsistencyStrong {
		return nil
	}
	return fmt.Errorf("it is a global table with %d replicas and consistency %q, under which two writers can both win a conditional put: "+
		"remove the replicas, or use a table with multi-Region strong consistency", len(d.Replicas), d.MultiRegionConsistency)
}

// checkExpiry refuses a table that deletes items by itself.
func (t *Table) checkExpiry(ctx context.Context) error {
	c := &call{action: "DescribeTimeToLive"}
	defer t.count(c, &charge{cause: usage.Cluster})
	out, err := invoke(ctx, t, c, t.client.DescribeTimeToLive, &dynamodb.DescribeTimeToLiveInput{TableName: &t.name})
	if hasNone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	ttl := out.TimeToLiveDescription
	if ttl == nil || ttl.TimeToLiveStatus == types.TimeToLiveStatusDisabled || ttl.TimeToLiveStatus == "" {
		return nil
	}
	return fmt.Errorf("its items expire by attribute %q (status %s), and a slot that is gone stops its shard: turn time to live off",
		aws.ToString(ttl.AttributeName), ttl.TimeToLiveStatus)
}

func isThrottled(err error) bool { return errors.Is(err, objectlog.ErrThrottled) }
