package objectlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compress appends the compressed form of body to dst. body is not empty.
func compress(dst []byte, codec Codec, body []byte) []byte {
	switch codec {
	case CodecGzip:
		return appendGzip(dst, body)
	case CodecSnappy:
		return appendSnappy(dst, body)
	case CodecLZ4:
		return appendLZ4(dst, body)
	default:
		return zstdEncoder().EncodeAll(body, dst)
	}
}

// encodedEstimate is how much room to set aside for a compressed body: what the codec writes at most, or for gzip and
// zstd, which grow the buffer themselves, half.
func (codec Codec) encodedEstimate(bodyBytes int) int {
	switch codec {
	case CodecNone:
		return bodyBytes
	case CodecSnappy:
		return maxSnappyLen(bodyBytes)
	case CodecLZ4:
		return maxLZ4Len(bodyBytes)
	default:
		return bodyBytes / 2
	}
}

// decompress answers the decompressed form of stored, in dst's memory if there is room. Memory beyond that is bounded
// by limit and one block of the codec: more than limit is ErrTooLarge, undecodable bytes are ErrInvalid.
func decompress(dst []byte, codec Codec, stored []byte, limit int) ([]byte, error) {
	var err error
	switch codec {
	case CodecGzip:
		dst, err = readGzip(dst, stored, limit)
	case CodecSnappy:
		dst, err = readSnappy(dst, stored, limit)
	case CodecLZ4:
		dst, err = readLZ4(dst, stored, limit)
	case CodecZstd:
		dst, err = readZstd(dst, stored, limit)
	default:
		err = fmt.Errorf("codec %d is unknown: %w", codec, ErrInvalid)
	}
	return dst, err
}

func errDecoded(codec string, limit int) error {
	return fmt.Errorf("%s decompresses to more than the limit of %d bytes: %w", codec, limit, ErrTooLarge)
}

// scratch is a buffer for the time of one call.
type scratch struct{ b []byte }

// scratchBytesMax is what an idle buffer may keep: room for usual batches, while one that grew for a batch at the
// decoding limit is dropped.
const scratchBytesMax = 4 << 20

var scratchPool = sync.Pool{New: func() any { return new(scratch) }}

func getScratch() *scratch { return scratchPool.Get().(*scratch) }

// put gives the scratch back. used is its buffer as it grew, to which nothing may refer any longer.
func (s *scratch) put(used []byte) {
	if cap(used) > cap(s.b) && cap(used) <= scratchBytesMax {
		s.b = used[:0]
	}
	scratchPool.Put(s)
}

// room answers dst with space for n more bytes. It doubles, but goes beyond most only if n demands it.
func room(dst []byte, n, most int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst
	}
	grown := make([]byte, len(dst), max(len(dst)+n, min(2*cap(dst), most)))
	copy(grown, dst)
	return grown
}

type gzipReader struct {
	source bytes.Reader
	gzip.Reader
}

var gzipReaders = sync.Pool{New: func() any { return new(gzipReader) }}

func readGzip(dst, stored []byte, limit int) ([]byte, error) {
	r := gzipReaders.Get().(*gzipReader)
	defer gzipReaders.Put(r)
	r.source.Reset(stored)
	defer r.source.Reset(nil)
	err := r.Reset(&r.source)
	dst = room(dst, min(4*len(stored), limit)+1, limit+1)
	for err == nil && len(dst) <= limit {
		dst = room(dst, 1, limit+1)
		var n int
		n, err = r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
	}
	if len(dst) > limit {
		return dst, errDecoded("gzip", limit)
	}
	if err != io.EOF {
		return dst, fmt.Errorf("gzip: %w: %w", ErrInvalid, err)
	}
	return dst, nil
}

// appendWriter is the end of dst as an io.Writer.
type appendWriter struct{ b []byte }

func (w *appendWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

type gzipWriter struct {
	sink appendWriter
	*gzip.Writer
}

var gzipWriters = sync.Pool{New: func() any { return &gzipWriter{Writer: gzip.NewWriter(nil)} }}

func appendGzip(dst, body []byte) []byte {
	w := gzipWriters.Get().(*gzipWriter)
	defer gzipWriters.Put(w)
	w.sink.b = dst
	w.Reset(&w.sink)
	// The sink never fails, so neither do Write and Close.
	_, _ = w.Write(body)
	_ = w.Close()
	dst, w.sink.b = w.sink.b, nil
	return dst
}

const (
	// zstdWindowMax is what Kafka's Java client reads at most (its library's default). Decoding into one buffer
	// needs no window besides, so this costs nothing.
	zstdWindowMax = 128 << 20
	// zstdWindowWritten keeps the memory of consumers low that decode as a stream and must hold a window.
	zstdWindowWritten = 1 << 20
)

// The decoder's limit is the capacity of the buffer it is given.
var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(zstdWindowMax),
		zstd.WithDecoderMaxMemory(1<<31), zstd.WithDecoderConcurrency(0))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
})

var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	// The batch's own checksum covers the compressed bytes: no second one inside.
	e, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithWindowSize(zstdWindowWritten))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
})

// zstdSlack is the room that a decoder may want behind what it has written: the largest block, and some bytes that its
// copies write too many.
const zstdSlack = 128<<10 + 64

func readZstd(dst, stored []byte, limit int) ([]byte, error) {
	want := min(8*len(stored), limit)
	var frame zstd.Header
	if err := frame.Decode(stored); err == nil && frame.HasFCS {
		if frame.FrameContentSize > uint64(limit) {
			return dst, errDecoded("zstd", limit)
		}
		want = int(frame.FrameContentSize)
	}
	for {
		dst = room(dst[:0], want+zstdSlack, limit+zstdSlack)
		space := dst[:0:min(cap(dst), limit+zstdSlack)]
		got, err := zstdDecoder().DecodeAll(stored, space)
		switch full := cap(space)-len(got) < zstdSlack || errors.Is(err, zstd.ErrDecoderSizeExceeded); {
		case len(got) > limit:
			return dst, errDecoded("zstd", limit)
		case err == nil && len(got) == 0:
			return dst, fmt.Errorf("zstd: no frame: %w", ErrInvalid)
		case err == nil:
			return got, nil
		case errors.Is(err, zstd.ErrWindowSizeExceeded):
			return dst, fmt.Errorf("zstd: window beyond %d bytes: %w", zstdWindowMax, ErrTooLarge)
		case !full:
			return dst, fmt.Errorf("zstd: %w: %w", ErrInvalid, err)
		case want >= limit:
			return dst, errDecoded("zstd", limit)
		}
		// The decoder ran out of room, which it reports as one of several errors.
		want = min(4*(want+zstdSlack), limit)
	}
}
