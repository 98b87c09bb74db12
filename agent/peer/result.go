package peer

import (
	"github.com/splashdam/splashdam/groups"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/queues"
)

// encodeResult and decodeResult choose the machine that a result is of.
func encodeResult(result any) ([]byte, error) {
	switch r := result.(type) {
	case groups.Result:
		return groups.EncodeResult(r), nil
	case queues.Result:
		return queues.EncodeResult(r), nil
	}
	return metadata.EncodeResult(result)
}

func decodeResult(b []byte) (any, error) {
	switch {
	case groups.IsResult(b):
		return groups.DecodeResult(b)
	case queues.IsResult(b):
		return queues.DecodeResult(b)
	}
	return metadata.DecodeResult(b)
}
