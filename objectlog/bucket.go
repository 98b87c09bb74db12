package objectlog

import (
	"context"
	"errors"
)

// Bucket stores immutable objects. One key never gets two contents.
//
// All methods may run together. None retries by itself: retry, hedging and metering are decorators. An
// implementation answers with one of the errors below, wrapped with operation and key; any other error of
// Put means that the outcome is unknown.
type Bucket interface {
	// Put stores body under key if the key is absent; on nil the object is durable and later reads see it. nonce
	// is kept with the object: a Put that finds the key taken compares nonce, length and CRC32C with its own,
	// answers nil when they agree (an earlier attempt landed), else ErrExists. Every other error leaves the
	// outcome unknown: the object may appear at any later time; the only cure is the same Put again, same key,
	// body and nonce. Put does not keep or change body after it returns.
	Put(ctx context.Context, key string, body []byte, nonce UUID) error

	// Get reads the extent of the object; the zero Extent reads all. An absent key is ErrNotFound, an extent
	// beyond the object's end ErrRange; a partial answer is never given.
	Get(ctx context.Context, key string, extent Extent) ([]byte, error)

	// List answers up to limit objects whose key begins with prefix and is greater than after, in key order
	// (bytewise). Objects put or deleted meanwhile may be missing or present. limit is 1 to 1,000.
	List(ctx context.Context, prefix, after string, limit int) ([]ObjectInfo, error)

	// Delete removes the object. An absent key is no error.
	Delete(ctx context.Context, key string) error

	// Stat describes the object. An absent key is ErrNotFound.
	Stat(ctx context.Context, key string) (ObjectInfo, error)
}

// ObjectInfo describes one stored object.
type ObjectInfo struct {
	Key     string
	Bytes   int64
	Created Timestamp // by the store's clock; for people and for the janitor's grace time, never for order
	Nonce   UUID      // of the Put that stored it; may be absent in a List
	CRC32C  uint32    // of the whole object; may be 0 in a List
}

var (
	// ErrNotFound: there is no object under this key.
	ErrNotFound = errors.New("object not found")
	// ErrExists: the key holds another content. The caller broke the rule of unique keys, or read a wrong prefix.
	ErrExists = errors.New("object exists with another content")
	// ErrRange: the extent goes beyond the object's end, so the object is not the one the caller means.
	ErrRange = errors.New("range beyond the end of the object")
	// ErrThrottled: the store asks for fewer requests. It is no answer: the outcome of a write is as unknown as after any other
	// error. The errors of tables wrap it too.
	ErrThrottled = errors.New("throttled")
)
