package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/splashdam/splashdam/metadata"
)

const (
	itemVersion   = 1
	itemOverhead  = 1 + 8 + 4
	valueBytesMax = 300 << 10 // the contract's bound
	keyBytesMax   = 2 << 10   // far above our keys; bbolt's own bound is 32 KiB
)

// errDamaged: what the file holds under a key is not what was put.
var errDamaged = errors.New("damaged item")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeKey is pk, a zero byte, sk: one bucket in which the items of a partition key lie together, by sort key.
func encodeKey(key metadata.Key) []byte {
	b := make([]byte, 0, len(key.PK)+1+len(key.SK))
	b = append(b, key.PK...)
	b = append(b, 0)
	return append(b, key.SK...)
}

// checkKey refuses keys that encodeKey would confuse with others.
func checkKey(key metadata.Key) error {
	if n := len(key.PK) + len(key.SK); n > keyBytesMax || strings.IndexByte(key.PK, 0) >= 0 {
		return fmt.Errorf("key of %d bytes is above %d, or its partition key holds a zero byte", n, keyBytesMax)
	}
	return nil
}

// encode is the value that bbolt keeps. Numbers are big-endian.
//
//	byte   0          1         9          9+n                  13+n
//	       | version  | rev     | value    | CRC32C of the key  |
//	       | 1        | int64   | n bytes  | and bytes 0–8+n    |
//
// The key, as encodeKey writes it, is in the sum so that an item under another's key is damage too.
func encode(item metadata.Item) ([]byte, error) {
	if len(item.Value) > valueBytesMax {
		return nil, fmt.Errorf("value of %d bytes is above %d", len(item.Value), valueBytesMax)
	}
	if err := checkKey(item.Key); err != nil {
		return nil, err
	}
	b := make([]byte, 0, itemOverhead+len(item.Value))
	b = append(b, itemVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(item.Rev))
	b = append(b, item.Value...)
	return binary.BigEndian.AppendUint32(b, sum(encodeKey(item.Key), b)), nil
}

// decode answers an item of its own bytes: those of bbolt end with the transaction.
func decode(key metadata.Key, b []byte) (metadata.Item, error) {
	if len(b) < itemOverhead {
		return metadata.Item{}, fmt.Errorf("item %s/%s of %d bytes: %w", key.PK, key.SK, len(b), errDamaged)
	}
	if b[0] != itemVersion {
		return metadata.Item{}, fmt.Errorf("item %s/%s has version %d, this program knows %d: %w", key.PK, key.SK, b[0], itemVersion, errDamaged)
	}
	end := len(b) - 4
	if binary.BigEndian.Uint32(b[end:]) != sum(encodeKey(key), b[:end]) {
		return metadata.Item{}, fmt.Errorf("item %s/%s does not match its CRC32C: %w", key.PK, key.SK, errDamaged)
	}
	rev := metadata.Rev(binary.BigEndian.Uint64(b[1:]))
	return metadata.Item{Key: key, Rev: rev, Value: bytes.Clone(b[9:end])}, nil
}

func sum(key, b []byte) uint32 { return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, b) }

func lookUp(items *bbolt.Bucket, key metadata.Key) (item metadata.Item, ok bool, err error) {
	if err := checkKey(key); err != nil {
		return item, false, err
	}
	b := items.Get(encodeKey(key))
	if b == nil {
		return item, false, nil
	}
	item, err = decode(key, b)
	return item, err == nil, err
}

func scan(items *bbolt.Bucket, pk, after string, limit int) ([]metadata.Item, error) {
	if limit < 1 {
		return nil, fmt.Errorf("limit %d is below 1", limit)
	}
	if err := checkKey(metadata.Key{PK: pk, SK: after}); err != nil {
		return nil, err
	}
	prefix, start := encodeKey(metadata.Key{PK: pk}), encodeKey(metadata.Key{PK: pk, SK: after})
	var found []metadata.Item
	cursor := items.Cursor()
	for k, b := cursor.Seek(start); k != nil && bytes.HasPrefix(k, prefix) && len(found) < limit; k, b = cursor.Next() {
		if bytes.Equal(k, start) {
			continue
		}
		item, err := decode(metadata.Key{PK: pk, SK: string(k[len(prefix):])}, b)
		if err != nil {
			return nil, err
		}
		found = append(found, item)
	}
	return found, nil
}
