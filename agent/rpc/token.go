package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"github.com/splashdam/splashdam/objectlog"
	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/queues"
)

// deliveryToken names one delivery of one record. Its bytes are opaque to clients:
//
//	version, 1 byte | topic id, 16 | partition, uvarint | offset, uvarint | lock, 8, big endian
//
// The lock, which is drawn for each Pull, is what can't be guessed. The group is not in it: no other group's record has the same lock.
type deliveryToken struct {
	queues.Place
	offset objectlog.Offset
	lock   uint64
}

const (
	tokenVersion  = 1
	tokenBytesMax = 1 + 16 + 2*binary.MaxVarintLen64 + 8
)

func (t deliveryToken) bytes() []byte {
	b := make([]byte, 0, tokenBytesMax)
	b = append(append(b, tokenVersion), t.Topic[:]...)
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(t.Partition)), uint64(t.offset))
	return binary.BigEndian.AppendUint64(b, t.lock)
}

// parseToken reads what bytes wrote; false for anything else.
func parseToken(b []byte) (t deliveryToken, ok bool) {
	if len(b) < 1+len(t.Topic) || len(b) > tokenBytesMax || b[0] != tokenVersion {
		return deliveryToken{}, false
	}
	rest := b[1+copy(t.Topic[:], b[1:]):]
	partition, n := binary.Uvarint(rest)
	if n <= 0 || partition >= partitionsMax {
		return deliveryToken{}, false
	}
	offset, m := binary.Uvarint(rest[n:])
	if m <= 0 || offset > math.MaxInt64 || len(rest) != n+m+8 {
		return deliveryToken{}, false
	}
	t.Partition, t.offset, t.lock = objectlog.Partition(partition), objectlog.Offset(offset), binary.BigEndian.Uint64(rest[n+m:])
	// One token has one form, or it could be shown twice in two.
	return t, t.lock != 0 && bytes.Equal(t.bytes(), b)
}

// nameCache holds names of topics by their ids, which never have another name, so that an acknowledgement needs no current read for what it was
// shown before. Any of it may be forgotten.
type nameCache struct {
	mu    sync.Mutex
	names topicNames
}

// namesMax bounds a nameCache. Beyond it all is forgotten, which costs a read for each topic that is in use.
const namesMax = 10_000

func (c *nameCache) name(id objectlog.UUID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.names[id]
}

func (c *nameCache) learn(id objectlog.UUID, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names[id] != "" {
		return
	}
	if c.names == nil || len(c.names) >= namesMax {
		c.names = topicNames{}
	}
	c.names[id] = name
}

// tokenCheck is for the tokens of one request.
type tokenCheck struct {
	edge  *edge
	topic string // that they must be of
	asked bool   // the engine, for its id
	id    objectlog.UUID
	seen  map[deliveryToken]bool
}

// check reads the token at the path of the request. What is wrong with it alone is why; err fails the request.
func (c *tokenCheck) check(ctx context.Context, path string, b []byte) (t deliveryToken, why, err error) {
	refuse := func(format string, args ...any) (deliveryToken, error, error) {
		return deliveryToken{}, refused(queues.ReasonNotLocked, opAcknowledge, path, format, args...), nil
	}
	t, ok := parseToken(b)
	if !ok {
		return refuse("not a token that this service gave")
	}
	ours, err := c.ours(ctx, t.Topic)
	switch {
	case err != nil:
		return deliveryToken{}, nil, err
	case !ours:
		return refuse("not of topic %s", c.topic)
	case c.seen[t]:
		return refuse("given twice: the first one counts")
	}
	c.seen[t] = true
	return t, nil, nil
}

// ours says whether the topic of the request has this id, or had it when a Pull here answered a token. An earlier life of the topic has
// nothing locked, which is for the engine to say.
func (c *tokenCheck) ours(ctx context.Context, id objectlog.UUID) (bool, error) {
	if name := c.edge.names.name(id); name != "" {
		return name == c.topic, nil
	}
	if !c.asked {
		t, err := c.edge.engine.Topic(ctx, c.topic)
		if err != nil {
			return false, err
		}
		c.asked, c.id = true, t.ID
		c.edge.names.learn(t.ID, c.topic)
	}
	return id == c.id, nil
}

// refusedToken is one token of an answer.
func (e *edge) refusedToken(b []byte, err error) *v1.AcknowledgeResponse_Refused {
	return &v1.AcknowledgeResponse_Refused{Token: b, Error: e.detail(err)}
}

// tokenPath is where a token is in the request.
func tokenPath(item, i int) string { return fmt.Sprintf("items[%d].tokens[%d]", item, i) }
