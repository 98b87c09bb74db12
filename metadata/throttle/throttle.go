// Package throttle slows down the requests to a Table while it answers that they are too many.
package throttle

import (
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog/throttle"
)

// Table is the decorator.
type Table struct{ metadata.Table }

// New wraps the table.
func New(table metadata.Table, gate *throttle.Gate) *Table {
	panic("metadata/throttle: to be written")
}
