// Package dynamo is a Table on DynamoDB or a server that speaks its protocol.
package dynamo

import (
	"context"
	"net/http"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog/usage"
)

// Config says where the table is and how it is reached.
type Config struct {
	Table    string
	Endpoint string // http://host:port or https://host:port; empty: DynamoDB of the region
	Region   string // default us-east-1 with an endpoint; without one that of the standard chain

	Transport http.RoundTripper // nil: one of the package's own
	Usage     *usage.Counter    // counts every request that is sent; nil: nobody counts
}

// ParseAddress reads dynamodb://table?endpoint=URL&region=NAME.
func ParseAddress(address string) (Config, error) { panic("metadata/dynamo: to be written") }

// Table is a Table on DynamoDB.
type Table struct{}

// Open prepares the client. It sends nothing: Create and Check do.
func Open(ctx context.Context, cfg Config) (*Table, error) { panic("metadata/dynamo: to be written") }

// Create makes the table, on demand, with deletion protection and point-in-time recovery where the engine has them, and waits until it
// can be used. A table that exists is no error and is not changed. warnings say which protection the engine does not have.
func (t *Table) Create(ctx context.Context) (warnings []string, err error) {
	panic("metadata/dynamo: to be written")
}

// Check finds out, before anything depends on it, whether the table is fit for a cluster: its keys, no replica, conditional puts that have
// one winner. id is the table's own identity, which a restored copy does not share; empty where the engine has none. The error names the
// problem and what to do about it.
func (t *Table) Check(ctx context.Context) (id string, err error) {
	panic("metadata/dynamo: to be written")
}

var _ metadata.Table = (*Table)(nil)

// Get implements metadata.Table.
func (t *Table) Get(ctx context.Context, key metadata.Key) (metadata.Item, bool, error) {
	panic("metadata/dynamo: to be written")
}

// Query implements metadata.Table.
func (t *Table) Query(ctx context.Context, pk, after string, limit int) ([]metadata.Item, error) {
	panic("metadata/dynamo: to be written")
}

// Put implements metadata.Table.
func (t *Table) Put(ctx context.Context, item metadata.Item, cond metadata.If) metadata.PutResult {
	panic("metadata/dynamo: to be written")
}

// Delete implements metadata.Table.
func (t *Table) Delete(ctx context.Context, key metadata.Key, cond metadata.If) metadata.PutResult {
	panic("metadata/dynamo: to be written")
}

// CreateAll implements metadata.Table.
func (t *Table) CreateAll(ctx context.Context, items []metadata.Item) metadata.PutResult {
	panic("metadata/dynamo: to be written")
}
