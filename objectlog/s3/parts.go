package s3

import (
	"context"
	"errors"
	"hash/crc32"
	"sync"

	"github.com/minio/minio-go/v7"
)

const (
	// partBytes is the size of all parts but the last. Stores want 5 MiB at least, and 10,000 parts at most.
	partBytes = 16 << 20
	// partsAtOnce bounds the requests of one put, so that a merge leaves connections to the flushes.
	partsAtOnce = 4
)

// putParts stores a body in parts. The object appears, whole and with its nonce, by the last request only, which is conditional as the
// one of a small put is; whatever goes wrong before leaves parts without a name, which are given up. Should that fail too, a
// lifecycle rule of the bucket for incomplete uploads clears them away.
//
// The store verifies a checksum per part. One of the whole object it is not told: stores differ in whether they take it, and ours is in the
// metadata.
func (b *Bucket) putParts(ctx context.Context, key string, body []byte, want content) (err, errAbort error) {
	var id string
	err = b.do(ctx, &exchange{kind: create, key: key}, func(ctx context.Context) (err error) {
		options := putOptions(want)
		options.UserMetadata["X-Amz-Checksum-Algorithm"] = "CRC32C"
		id, err = b.sdk.NewMultipartUpload(ctx, b.name, key, options)
		return err
	})
	if err != nil {
		return err, nil
	}
	parts, err := b.uploadParts(ctx, key, id, body)
	if err == nil {
		err = b.do(ctx, &exchange{kind: complete, key: key, bytes: want.bytes}, func(ctx context.Context) error {
			var options minio.PutObjectOptions
			options.SetMatchETagExcept("*")
			_, err := b.sdk.CompleteMultipartUpload(ctx, b.name, key, id, parts, options)
			return err
		})
	}
	if err == nil {
		return nil, nil
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortMax)
	defer cancel()
	errAbort = insist(bounded, func() error { // nobody knows the id later
		x := &exchange{kind: abort, key: key}
		return b.do(bounded, x, func(ctx context.Context) error {
			if err := b.sdk.AbortMultipartUpload(ctx, b.name, key, id); x.header == nil {
				return err
			}
			return nil // the SDK takes a 200 for an error
		})
	})
	if r := (*refusal)(nil); errors.As(errAbort, &r) && r.code == "NoSuchUpload" { // it was completed after all, or given up already
		errAbort = nil
	}
	return err, errAbort
}

// uploadParts stores the parts, a few at a time. The first error ends the others.
func (b *Bucket) uploadParts(ctx context.Context, key, id string, body []byte) ([]minio.CompletePart, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parts := make([]minio.CompletePart, (len(body)+b.partBytes-1)/b.partBytes)
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(partsAtOnce, len(parts)) {
		workers.Go(func() {
			for i := range next {
				part, err := b.uploadPart(ctx, key, id, i+1, body[i*b.partBytes:min(len(body), (i+1)*b.partBytes)])
				if err != nil {
					cancel(err)
				}
				parts[i] = part
			}
		})
	}
	for i := range parts {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	workers.Wait()
	return parts, context.Cause(ctx)
}

func (b *Bucket) uploadPart(ctx context.Context, key, id string, number int, body []byte) (minio.CompletePart, error) {
	p := newPayload(body)
	defer p.cut()
	sum := encodeCRC(crc32.Checksum(body, castagnoli()))
	x := &exchange{kind: upload, key: key, bytes: int64(len(body)), body: p}
	var part minio.ObjectPart
	err := b.do(ctx, x, func(ctx context.Context) (err error) {
		options := minio.PutObjectPartOptions{DisableContentSha256: true, CustomHeader: map[string][]string{storeCRCHeader: {sum}}}
		part, err = b.sdk.PutObjectPart(ctx, b.name, key, id, number, p.open(), int64(len(body)), options)
		return err
	})
	// A store that knows checksums compares this one with what it received; to others it means nothing.
	return minio.CompletePart{PartNumber: number, ETag: part.ETag, ChecksumCRC32C: part.ChecksumCRC32C}, err
}
