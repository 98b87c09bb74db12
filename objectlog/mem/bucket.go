// Package mem is a Bucket in memory, for tests and for the simulator: it obeys the contract of objectlog.Bucket, fails on request in
// every way in which a real store fails, and writes down each request it gets. It starts no goroutine and reads no clock of
// its own, so a run from one goroutine repeats exactly.
package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/splashdam/splashdam/objectlog"
)

// ErrInjected is the cause of every error that a Fault makes.
var ErrInjected = errors.New("injected fault")

// errThrottled is the cause of a Throttle's error.
var errThrottled = fmt.Errorf("%w: %w", objectlog.ErrThrottled, ErrInjected)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Bucket is the store. Its zero value is empty and ready; the exported fields are set before the first request.
type Bucket struct {
	// Fault decides what goes wrong with a request; nil means nothing ever does. It runs outside of the bucket's lock, so it may call
	// Release or make requests of its own.
	Fault func(Request) Fault
	// Transcript takes one line per request when it has been answered; nil means none.
	Transcript io.Writer
	// Rewrite changes the keys in Transcript, so that random parts of names do not change the lines; nil means as they are.
	Rewrite func(key string) string
	// Now is the store's clock, for ObjectInfo.Created; nil means that it stands at 0.
	Now func() objectlog.Timestamp

	mu       sync.Mutex
	objects  map[string]object
	requests int
	counts   [opCount]int
	held     []held
}

type object struct {
	body    []byte
	created objectlog.Timestamp
	nonce   objectlog.UUID
	crc     uint32
}

// held is a request that was answered with an error and has not reached the store yet.
type held struct {
	request Request
	land    func() error // under mu
}

// Put implements objectlog.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	kept := append([]byte{}, body...) // the caller may change body when the call has returned, and a held put lands later still
	return b.write(ctx, Request{Op: OpPut, Key: key, Bytes: len(body)}, func() error { return b.put(key, kept, nonce) })
}

// Delete implements objectlog.Bucket.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	return b.write(ctx, Request{Op: OpDelete, Key: key}, func() error {
		delete(b.objects, key)
		return nil
	})
}

// Get implements objectlog.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, extent objectlog.Extent) ([]byte, error) {
	var part []byte
	r := Request{Op: OpGet, Key: key, Extent: extent}
	fault, err := b.read(ctx, r, func() error {
		o, ok := b.objects[key]
		if !ok {
			return objectlog.ErrNotFound
		}
		e := extent
		if e == (objectlog.Extent{}) {
			e.Next = int64(len(o.body))
		}
		if e.Start < 0 || e.Next < e.Start || e.Next > int64(len(o.body)) {
			return objectlog.ErrRange
		}
		part = append([]byte{}, o.body[e.Start:e.Next]...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if fault == Corrupt && len(part) > 0 {
		part[len(part)/2] ^= 0x10
	}
	if fault == Short && len(part) > 0 {
		part = part[:len(part)/2]
	}
	return part, nil
}

// List implements objectlog.Bucket.
func (b *Bucket) List(ctx context.Context, prefix, after string, limit int) ([]objectlog.ObjectInfo, error) {
	var infos []objectlog.ObjectInfo
	r := Request{Op: OpList, Key: prefix, After: after, Limit: limit}
	_, err := b.read(ctx, r, func() error {
		if limit < 1 || limit > 1000 {
			return fmt.Errorf("limit %d is not in 1 to 1000", limit)
		}
		var keys []string
		for key := range b.objects {
			if strings.HasPrefix(key, prefix) && key > after {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		for _, key := range keys[:min(limit, len(keys))] {
			infos = append(infos, b.objects[key].info(key))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return infos, nil
}

// Stat implements objectlog.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (objectlog.ObjectInfo, error) {
	var info objectlog.ObjectInfo
	_, err := b.read(ctx, Request{Op: OpStat, Key: key}, func() error {
		o, ok := b.objects[key]
		if !ok {
			return objectlog.ErrNotFound
		}
		info = o.info(key)
		return nil
	})
	return info, err
}

// Edit damages or removes the object behind the store's back: change gets a copy of the body and answers the new one, nil to
// remove the object. It is no request: no fault, no transcript. Nonce and CRC32C stay those of the put.
func (b *Bucket) Edit(key string, change func(body []byte) []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[key]
	if !ok {
		return
	}
	if o.body = change(bytes.Clone(o.body)); o.body == nil {
		delete(b.objects, key)
		return
	}
	b.objects[key] = o
}

// Held lists the requests that a Hold keeps back, oldest first.
func (b *Bucket) Held() []Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	requests := make([]Request, len(b.held))
	for i, h := range b.held {
		requests[i] = h.request
	}
	return requests
}

// Release lets the held request with this number reach the store now, and answers what nobody hears any more. ErrExists when
// another content has taken the key meanwhile.
func (b *Bucket) Release(n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.held, func(h held) bool { return h.request.N == n })
	if i < 0 {
		return fmt.Errorf("release request %d: it is not held", n)
	}
	h := b.held[i]
	b.held = slices.Delete(b.held, i, i+1)
	err := h.land()
	b.note("release "+b.line(h.request), None, err)
	return err
}

// Count is how many requests of this kind were made.
func (b *Bucket) Count(op Op) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts[op]
}

// write runs one changing request; land does it, under mu, once or more.
func (b *Bucket) write(ctx context.Context, r Request, land func() error) error {
	fault, err := b.begin(ctx, &r)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch fault {
	case FailBefore, NotFound, Short, Corrupt: // a write cannot be misread: the last three are as good as the first
		err = ErrInjected
	case Throttle:
		err = errThrottled
	case FailAfter:
		land()
		err = ErrInjected
	case Hold:
		b.held = append(b.held, held{r, land})
		err = ErrInjected
	case Twice:
		land()
		err = land()
	default:
		err = land()
	}
	b.note(b.line(r), fault, err)
	return wrap(r, err)
}

// read runs one request that changes nothing; f reads under mu. The answered fault is for f's caller to apply to what was read.
func (b *Bucket) read(ctx context.Context, r Request, f func() error) (Fault, error) {
	fault, err := b.begin(ctx, &r)
	if err != nil {
		return fault, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch fault {
	case FailBefore, FailAfter, Hold:
		err = ErrInjected
	case Throttle:
		err = errThrottled
	case NotFound:
		err = objectlog.ErrNotFound
	default:
		err = f()
	}
	b.note(b.line(r), fault, err)
	return fault, wrap(r, err)
}

// begin numbers the request and asks what is to go wrong with it.
func (b *Bucket) begin(ctx context.Context, r *Request) (Fault, error) {
	if err := ctx.Err(); err != nil {
		return None, wrap(*r, err)
	}
	b.mu.Lock()
	b.requests++
	b.counts[r.Op]++
	r.N = b.requests
	b.mu.Unlock()
	if b.Fault == nil {
		return None, nil
	}
	return b.Fault(*r), nil
}

// put stores the object if the key is absent. The caller holds mu.
func (b *Bucket) put(key string, body []byte, nonce objectlog.UUID) error {
	o := object{body: body, nonce: nonce, crc: crc32.Checksum(body, castagnoli)}
	if there, ok := b.objects[key]; ok {
		if there.nonce == o.nonce && len(there.body) == len(o.body) && there.crc == o.crc {
			return nil
		}
		return objectlog.ErrExists
	}
	if b.Now != nil {
		o.created = b.Now()
	}
	if b.objects == nil {
		b.objects = map[string]object{}
	}
	b.objects[key] = o
	return nil
}

func (o object) info(key string) objectlog.ObjectInfo {
	return objectlog.ObjectInfo{Key: key, Bytes: int64(len(o.body)), Created: o.created, Nonce: o.nonce, CRC32C: o.crc}
}

func wrap(r Request, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", r.Op, r.Key, err)
}
