package s3

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/splashdam/splashdam/objectlog"
)

// singleMax is the longest body that is put by one request. The store's own limit is 5 GiB; above this size parts in parallel are faster,
// and a connection that breaks costs less.
const singleMax = 64 << 20

// The names of what is kept with an object. crc32c is that of Put's body, in eight hex digits.
const (
	nonceHeader = "X-Amz-Meta-Nonce"
	crcHeader   = "X-Amz-Meta-Crc32c"
	// storeCRCHeader is the store's own: it refuses a body that does not match.
	storeCRCHeader = "X-Amz-Checksum-Crc32c"
)

// content is what tells two objects apart.
type content struct {
	nonce objectlog.UUID
	bytes int64
	crc   uint32
}

func contentFor(body []byte, nonce objectlog.UUID) content {
	return content{nonce, int64(len(body)), crc32.Checksum(body, castagnoli())}
}

// Put implements objectlog.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body []byte, nonce objectlog.UUID) error {
	want := contentFor(body, nonce)
	if len(body) > b.singleMax {
		return b.settle(ctx, key, want, errors.Join(b.putParts(ctx, key, body, want)))
	}
	return b.settle(ctx, key, want, b.putWhole(ctx, key, body, want))
}

// putWhole stores a body by one request.
func (b *Bucket) putWhole(ctx context.Context, key string, body []byte, want content) error {
	p := newPayload(body)
	defer p.cut()
	return b.do(ctx, &exchange{kind: put, key: key, bytes: want.bytes, body: p}, func(ctx context.Context) error {
		options := putOptions(want)
		options.SetMatchETagExcept("*")
		options.UserMetadata[storeCRCHeader] = encodeCRC(want.crc)
		_, err := b.sdk.PutObject(ctx, b.name, key, p.open(), want.bytes, "", "", options)
		return err
	})
}

// settle decides what became of a put. Nil is an explicit 200: the object is durable. It may have been refused because the key is taken: by
// this very put, whose answer was lost, or by another. Any other error leaves the outcome unknown, and so does a key that is taken by
// something that cannot be seen.
func (b *Bucket) settle(ctx context.Context, key string, want content, err error) error {
	r := (*refusal)(nil)
	if !errors.As(err, &r) || r.status != http.StatusPreconditionFailed && r.status != http.StatusConflict && r.code != "PreconditionFailed" {
		return err
	}
	if r.code == "ConditionalRequestConflict" { // another put of the key is under way and may yet fail
		return err
	}
	found, _, errHead := b.head(ctx, compare, key)
	switch {
	case errors.Is(errHead, objectlog.ErrNotFound): // not with %w: that the key is free now says nothing about the put
		return fmt.Errorf("put %s: refused because the key was taken, outcome unknown: %v", b.location(key), errHead)
	case errHead != nil:
		return fmt.Errorf("put %s: refused because the key is taken, by what is unknown: %w", b.location(key), errHead)
	case found == want:
		return nil // an earlier attempt landed
	}
	return fmt.Errorf("put %s: %w", b.location(key), objectlog.ErrExists)
}

// head reads what is kept with an object.
func (b *Bucket) head(ctx context.Context, k kind, key string) (content, objectlog.Timestamp, error) {
	x := &exchange{kind: k, key: key}
	var info minio.ObjectInfo
	err := b.do(ctx, x, func(ctx context.Context) (err error) {
		info, err = b.sdk.StatObject(ctx, b.name, key, minio.StatObjectOptions{Checksum: true})
		return err
	})
	if err != nil {
		return content{}, 0, err
	}
	found, err := contentOf(x.header, info.Size)
	if err != nil {
		return content{}, 0, fmt.Errorf("%s %s: %w", k.verb, b.location(key), err)
	}
	return found, objectlog.Timestamp(info.LastModified.UnixMilli()), nil
}

// contentOf reads what Put kept with the object. Our own word is the truth about what Put was given: it is stored in the same step as
// the bytes, by every store. The store's checksum is what it says about the bytes that it holds, if it says anything about the whole
// object; when the two differ, the object is damaged.
func contentOf(h http.Header, size int64) (content, error) {
	if size < 0 {
		return content{}, errors.New("the store does not say how long the object is")
	}
	found := content{bytes: size}
	found.nonce, _ = objectlog.ParseUUID(h.Get(nonceHeader)) // an object of others has none, or one of another form
	crc, err := strconv.ParseUint(h.Get(crcHeader), 16, 32)
	ours := err == nil
	theirs, known := storeCRC(h)
	switch {
	case ours && known && uint32(crc) != theirs:
		return content{}, fmt.Errorf("the object is damaged: stored with CRC32C %08x, and the store holds %08x", crc, theirs)
	case ours:
		found.crc = uint32(crc)
	case known:
		found.crc = theirs
	}
	return found, nil
}

// storeCRC answers the store's own CRC32C of a whole object.
func storeCRC(h http.Header) (uint32, bool) {
	text := h.Get(storeCRCHeader)
	if h.Get("X-Amz-Checksum-Type") == "COMPOSITE" || strings.Contains(text, "-") { // a checksum of checksums of parts
		return 0, false
	}
	sum, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(sum) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(sum), true
}

func putOptions(c content) minio.PutObjectOptions {
	return minio.PutObjectOptions{
		UserMetadata:         map[string]string{nonceHeader: c.nonce.String(), crcHeader: fmt.Sprintf("%08x", c.crc)},
		DisableContentSha256: true, // UNSIGNED-PAYLOAD, over plain HTTP too
		DisableMultipart:     true,
	}
}

func encodeCRC(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

// castagnoli is a function because a table is a mutable global. The library keeps the one table.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// abortMax bounds the request that tidies up after a put whose own time may be over.
const abortMax = 10 * time.Second
