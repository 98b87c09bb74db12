package s3

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/splashdam/splashdam/objectlog"
)

// wholeMax bounds the memory that an answer to a Get without an extent can make us allocate.
const wholeMax = 5 << 30

// Get implements objectlog.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, extent objectlog.Extent) ([]byte, error) {
	if extent.Start < 0 || extent.Next < extent.Start {
		return nil, fmt.Errorf("get %s: [%d,%d) is no extent: %w", b.location(key), extent.Start, extent.Next, objectlog.ErrRange)
	}
	whole := extent == objectlog.Extent{}
	if !whole && extent.Len() == 0 {
		return b.getNothing(ctx, key, extent)
	}
	var part []byte
	x := &exchange{kind: get, key: key, bytes: extent.Len()}
	err := b.do(ctx, x, func(ctx context.Context) error {
		var options minio.GetObjectOptions
		options.Set("Accept-Encoding", "identity") // a transport of the caller's may ask for compression otherwise
		if !whole {
			options.Set("Range", fmt.Sprintf("bytes=%d-%d", extent.Start, extent.Next-1))
		}
		body, _, header, err := b.sdk.GetObject(ctx, b.name, key, options)
		if err != nil {
			return err
		}
		defer body.Close()
		if whole {
			part, err = x.readWhole(body, header)
		} else {
			part, err = readExtent(body, header, extent)
		}
		return err
	})
	if r := (*refusal)(nil); errors.As(err, &r) && r.status == http.StatusRequestedRangeNotSatisfiable {
		return nil, fmt.Errorf("get [%d,%d) of %s: %w", extent.Start, extent.Next, b.location(key), objectlog.ErrRange)
	}
	if err != nil {
		return nil, err
	}
	return part, nil
}

// getNothing answers an empty extent, which no Range header can ask for.
func (b *Bucket) getNothing(ctx context.Context, key string, extent objectlog.Extent) ([]byte, error) {
	info, err := b.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	if extent.Next > info.Bytes {
		return nil, fmt.Errorf("get [%d,%d) of %s: %w", extent.Start, extent.Next, b.location(key), objectlog.ErrRange)
	}
	return []byte{}, nil
}

func readExtent(body io.Reader, h http.Header, extent objectlog.Extent) ([]byte, error) {
	said := h.Get("Content-Range")
	if said == "" {
		return nil, errors.New("the store takes no notice of Range: it is no store for segments")
	}
	want := fmt.Sprintf("bytes %d-%d/", extent.Start, extent.Next-1)
	if !strings.HasPrefix(said, want) {
		return nil, fmt.Errorf("asked for [%d,%d), offered %q: %w", extent.Start, extent.Next, said, objectlog.ErrRange)
	}
	return readFull(body, extent.Len())
}

// readWhole reads an object and compares it with what was kept of it.
func (x *exchange) readWhole(body io.Reader, h http.Header) ([]byte, error) {
	var size int64 = -1
	if _, err := fmt.Sscanf(h.Get("Content-Length"), "%d", &size); err != nil || size < 0 || size > wholeMax {
		return nil, fmt.Errorf("the store answers with length %q: not that of an object to be read at once", h.Get("Content-Length"))
	}
	x.extend(size)
	part, err := readFull(body, size)
	if err != nil {
		return nil, err
	}
	kept, err := contentOf(h, size)
	if err != nil {
		return nil, err
	}
	if sum := crc32.Checksum(part, castagnoli()); h.Get(crcHeader) != "" && sum != kept.crc {
		return nil, fmt.Errorf("the object is damaged: stored with CRC32C %08x, read with %08x", kept.crc, sum)
	}
	return part, nil
}

// readFull reads exactly size bytes. A body that goes on is as wrong as one that ends early.
func readFull(body io.Reader, size int64) ([]byte, error) {
	part := make([]byte, size)
	if n, err := io.ReadFull(body, part); err != nil {
		return nil, fmt.Errorf("the body ended after %d of %d bytes: %w", n, size, err)
	}
	if n, err := body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return nil, fmt.Errorf("the body goes on after %d bytes, or does not end well: %v", size, err)
	}
	return part, nil
}

// Stat implements objectlog.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (objectlog.ObjectInfo, error) {
	found, created, err := b.head(ctx, head, key)
	r := (*refusal)(nil)
	if errors.As(err, &r) && r.status == http.StatusNotFound && r.code == "" {
		// A HEAD has no body to say what is absent, the object or the bucket, and a bucket that is gone must not read as an empty one.
		if _, err := b.Get(ctx, key, objectlog.Extent{Start: 0, Next: 1}); err != nil && !errors.Is(err, objectlog.ErrRange) {
			return objectlog.ObjectInfo{}, err
		}
		return objectlog.ObjectInfo{}, fmt.Errorf("stat %s: it was absent, then present: ask again", b.location(key))
	}
	if err != nil {
		return objectlog.ObjectInfo{}, err
	}
	return objectlog.ObjectInfo{Key: key, Bytes: found.bytes, Created: created, Nonce: found.nonce, CRC32C: found.crc}, nil
}

// List implements objectlog.Bucket. Nonce and CRC32C are absent: a list does not show them.
func (b *Bucket) List(ctx context.Context, prefix, after string, limit int) ([]objectlog.ObjectInfo, error) {
	if limit < 1 || limit > 1000 {
		return nil, fmt.Errorf("list %s: limit %d is not in 1 to 1000", b.location(prefix), limit)
	}
	var infos []objectlog.ObjectInfo
	err := b.do(ctx, &exchange{kind: list, key: prefix}, func(ctx context.Context) error {
		noOwner := false
		last := after
		// The loop asks for a second page only when the store has cut the first one shorter than the limit.
		for object := range b.sdk.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{
			Prefix: prefix, StartAfter: after, MaxKeys: limit, Recursive: true, FetchOwner: &noOwner,
		}) {
			if object.Err != nil {
				return object.Err
			}
			if !strings.HasPrefix(object.Key, prefix) || object.Key <= last {
				return fmt.Errorf("the store lists %q after %q: not in bytewise order, or not of the prefix", object.Key, last)
			}
			last = object.Key
			created := objectlog.Timestamp(object.LastModified.UnixMilli())
			infos = append(infos, objectlog.ObjectInfo{Key: object.Key, Bytes: object.Size, Created: created})
			if len(infos) == limit {
				break
			}
		}
		return ctx.Err() // between two pages, the SDK ends without a word
	})
	if err != nil {
		return nil, err
	}
	return infos, nil
}
