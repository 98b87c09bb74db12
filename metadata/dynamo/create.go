package dynamo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/splashdam/splashdam/objectlog/usage"
)

const (
	// createTimeout: DynamoDB makes a table in seconds, and its backups can be switched on a little later.
	createTimeout = 3 * time.Minute
	pollEvery     = 250 * time.Millisecond
	pollEveryMax  = 2 * time.Second
	createTries   = 4
)

// Create makes the table, on demand, with deletion protection and point-in-time recovery where the engine has them, and waits until it
// can be used. A table that exists is no error and is not changed. warnings say which protection the engine does not have.
func (t *Table) Create(ctx context.Context) (warnings []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	made := false
	if _, err = t.describe(ctx); isMissing(err) {
		made, err = t.make(ctx)
	}
	if err != nil {
		return nil, err
	}
	described, err := t.waitServed(ctx)
	if err != nil || !made {
		return nil, err
	}
	if !aws.ToBool(described.DeletionProtectionEnabled) {
		warnings = append(warnings, fmt.Sprintf("table %s: this server has no deletion protection", t.name))
	}
	switch err := t.recoverable(ctx); {
	case ctx.Err() != nil:
		return warnings, err
	case hasNone(err):
		warnings = append(warnings, fmt.Sprintf("table %s: this server has no point-in-time recovery", t.name))
	case err != nil:
		warnings = append(warnings, fmt.Sprintf("table %s: point-in-time recovery is off: %v; then turn it on with aws dynamodb update-continuous-backups", t.name, err))
	}
	return warnings, nil
}

// make sends CreateTable until it is decided. made: nobody else was faster, as far as one can tell.
func (t *Table) make(ctx context.Context) (made bool, err error) {
	protected, inDoubt := true, false
	for try := range createTries {
		err = t.createTable(ctx, protected)
		var exists *types.ResourceInUseException
		switch {
		case err == nil:
			return true, nil
		case errors.As(err, &exists):
			return inDoubt, nil
		case hasNone(err) && protected:
			protected = false // some engines refuse the whole request for the sake of it
			continue
		case isAnswer(err):
			return false, err
		}
		inDoubt = true
		if wait(ctx, pollEvery<<try) != nil {
			break
		}
	}
	return false, err
}

func (t *Table) createTable(ctx context.Context, protected bool) error {
	in := &dynamodb.CreateTableInput{
		TableName:   &t.name,
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String(attrPK), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String(attrSK), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(attrPK), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String(attrSK), KeyType: types.KeyTypeRange},
		},
	}
	if protected {
		in.DeletionProtectionEnabled = aws.Bool(true)
	}
	c := &call{action: "CreateTable"}
	defer t.count(c, &charge{cause: usage.Cluster})
	_, err := invoke(ctx, t, c, t.client.CreateTable, in)
	return err
}

func (t *Table) describe(ctx context.Context) (*types.TableDescription, error) {
	c := &call{action: "DescribeTable"}
	defer t.count(c, &charge{cause: usage.Cluster})
	out, err := invoke(ctx, t, c, t.client.DescribeTable, &dynamodb.DescribeTableInput{TableName: &t.name})
	if err != nil {
		return nil, err
	}
	if out.Table == nil || aws.ToString(out.Table.TableName) != t.name {
		return nil, t.damaged(c, errors.New("the answer describes no table of this name"))
	}
	return out.Table, nil
}

// waitServed polls. Of a table that was just made DescribeTable may know nothing at first.
func (t *Table) waitServed(ctx context.Context) (*types.TableDescription, error) {
	for every := pollEvery; ; every = min(2*every, pollEveryMax) {
		described, err := t.describe(ctx)
		switch {
		case err == nil && isServed(described):
			return described, nil
		case err != nil && isAnswer(err) && !isMissing(err):
			return nil, err
		case err == nil && described.TableStatus == types.TableStatusDeleting:
			return nil, fmt.Errorf("create table %s: it is just being deleted: wait until it is gone", t.name)
		}
		if ended := wait(ctx, every); ended != nil {
			return nil, fmt.Errorf("create table %s: wait until it is active: %w", t.name, errors.Join(err, ended))
		}
	}
}

// recoverable turns point-in-time recovery on. DynamoDB answers for some seconds that backups are still being enabled.
func (t *Table) recoverable(ctx context.Context) error {
	for every := pollEvery; ; every = min(2*every, pollEveryMax) {
		c := &call{action: "UpdateContinuousBackups"}
		_, err := invoke(ctx, t, c, t.client.UpdateContinuousBackups, &dynamodb.UpdateContinuousBackupsInput{
			TableName:                        &t.name,
			PointInTimeRecoverySpecification: &types.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: aws.Bool(true)},
		})
		t.count(c, &charge{cause: usage.Cluster})
		var notYet *types.ContinuousBackupsUnavailableException
		if err == nil || isAnswer(err) && !errors.As(err, &notYet) {
			return err
		}
		if ended := wait(ctx, every); ended != nil {
			return errors.Join(err, ended)
		}
	}
}

func isMissing(err error) bool {
	var missing *types.ResourceNotFoundException
	return errors.As(err, &missing)
}

// isAnswer: the server refused the request for good, so that it had no effect.
func isAnswer(err error) bool {
	var api smithy.APIError
	var answer interface{ HTTPStatusCode() int }
	return errors.As(err, &api) && api.ErrorCode() != unknownCode && errors.As(err, &answer) && answer.HTTPStatusCode() < 500 && !isThrottled(err)
}

// hasNone: the engine does not know the operation, or one of its parameters.
func hasNone(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode() {
	case "UnknownOperationException", "ValidationException", "SerializationException", "NotImplemented":
		return true
	}
	return false
}

// wait answers why the context ended, if it did before the time was over.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
