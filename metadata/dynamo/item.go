package dynamo

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/splashdam/splashdam/metadata"
)

const (
	valueBytesMax = 300 << 10 // the contract's bound; DynamoDB takes items of 400 KB
	pkBytesMax    = 2048      // DynamoDB's bounds
	skBytesMax    = 1024
)

// Attributes of an item. Their names count towards its size.
const (
	attrPK    = "pk"    // S, partition key
	attrSK    = "sk"    // S, sort key
	attrRev   = "rev"   // N, an int64 without loss
	attrValue = "value" // B
)

type row struct {
	PK    string `dynamodbav:"pk"`
	SK    string `dynamodbav:"sk"`
	Rev   int64  `dynamodbav:"rev"`
	Value []byte `dynamodbav:"value"`
}

func encode(item metadata.Item) (map[string]types.AttributeValue, error) {
	if err := checkKey(item.Key); err != nil {
		return nil, err
	}
	if len(item.Value) > valueBytesMax {
		return nil, fmt.Errorf("value of %d bytes is above %d", len(item.Value), valueBytesMax)
	}
	r := row{PK: item.Key.PK, SK: item.Key.SK, Rev: int64(item.Rev), Value: item.Value}
	if r.Value == nil {
		r.Value = []byte{} // nil would be a NULL
	}
	return attributevalue.MarshalMap(r)
}

func encodeKey(key metadata.Key) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{
		attrPK: &types.AttributeValueMemberS{Value: key.PK},
		attrSK: &types.AttributeValueMemberS{Value: key.SK},
	}
}

func checkKey(key metadata.Key) error {
	if n := len(key.PK); n == 0 || n > pkBytesMax {
		return fmt.Errorf("partition key of %d bytes: want 1 to %d", n, pkBytesMax)
	}
	if n := len(key.SK); n == 0 || n > skBytesMax {
		return fmt.Errorf("sort key of %d bytes: want 1 to %d", n, skBytesMax)
	}
	return nil
}

// decode takes exactly what encode writes: an attribute that is missing, of another type or unknown means that somebody else writes to
// the table, or a later program.
func decode(attributes map[string]types.AttributeValue) (metadata.Item, error) {
	kinds := map[string]bool{}
	for name, value := range attributes {
		ok := false
		switch name {
		case attrPK, attrSK:
			_, ok = value.(*types.AttributeValueMemberS)
		case attrRev:
			_, ok = value.(*types.AttributeValueMemberN)
		case attrValue:
			_, ok = value.(*types.AttributeValueMemberB)
		default:
			return metadata.Item{}, fmt.Errorf("damaged item: unknown attribute %q", name)
		}
		if !ok {
			return metadata.Item{}, fmt.Errorf("damaged item: attribute %q is a %s", name, kindOf(value))
		}
		kinds[name] = true
	}
	for _, name := range []string{attrPK, attrSK, attrRev, attrValue} {
		if !kinds[name] {
			return metadata.Item{}, fmt.Errorf("damaged item: attribute %q is missing", name)
		}
	}
	var r row
	if err := attributevalue.UnmarshalMap(attributes, &r); err != nil {
		return metadata.Item{}, fmt.Errorf("damaged item: %w", err)
	}
	if r.Value == nil {
		r.Value = []byte{}
	}
	return metadata.Item{Key: metadata.Key{PK: r.PK, SK: r.SK}, Rev: metadata.Rev(r.Rev), Value: r.Value}, nil
}

// decodeAt wants the item of this key.
func decodeAt(key metadata.Key, attributes map[string]types.AttributeValue) (metadata.Item, error) {
	item, err := decode(attributes)
	if err == nil && item.Key != key {
		err = fmt.Errorf("the answer is the item %s/%s", item.Key.PK, item.Key.SK)
	}
	return item, err
}

func kindOf(value types.AttributeValue) string {
	return strings.TrimPrefix(fmt.Sprintf("%T", value), "*types.AttributeValueMember")
}

// itemBytes is the size that DynamoDB charges by: names and values of the attributes in UTF-8, a number at one byte per two
// significant digits and one more. (DynamoDB Developer Guide, "DynamoDB item sizes and formats".)
func itemBytes(item metadata.Item) int {
	digits := strings.TrimRight(strings.TrimLeft(strconv.FormatInt(int64(item.Rev), 10), "-"), "0")
	const names = len(attrPK + attrSK + attrRev + attrValue)
	return names + len(item.Key.PK) + len(item.Key.SK) + (len(digits)+1)/2 + 1 + len(item.Value)
}

// writeUnits: one per started KiB of the larger of the item before and after the write. (Developer Guide, "DynamoDB read and write
// operations".) The item before is unknown to the writer unless it refuses. An answer says exactly what is charged, a refusal does not.
func writeUnits(item metadata.Item) int { return (itemBytes(item) + 1<<10 - 1) >> 10 }
