package file

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/splashdam/splashdam/objectlog"
)

// placed is a body of n bytes that begins so many bytes behind a place that suits direct writes.
func placed(n, behind int) []byte {
	b := make([]byte, n+2*directAlign)
	off := (directAlign-int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))%directAlign))%directAlign + behind
	b = b[off : off+n]
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// refuse refuses a direct write behind n bytes.
func refuse(f *os.File, p []byte, n int) (int, error) {
	if conn, err := f.SyscallConn(); err == nil {
		var flags uintptr
		_ = conn.Control(func(fd uintptr) { flags, _, _ = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0) })
		if flags&syscall.O_DIRECT != 0 {
			n, err := f.Write(p[:n])
			if err == nil {
				err = &os.PathError{Op: "write", Path: f.Name(), Err: syscall.EINVAL}
			}
			return n, err
		}
	}
	return f.Write(p)
}

func TestEveryLengthAndPlaceInMemoryIsStoredWhole(t *testing.T) {
	for name, write := range map[string]func(f *os.File, p []byte) (int, error){
		"as the disk likes it":                (*os.File).Write,
		"a disk that refuses direct writes":   func(f *os.File, p []byte) (int, error) { return refuse(f, p, 0) },
		"a disk that refuses the rest of one": func(f *os.File, p []byte) (int, error) { return refuse(f, p, directAlign) },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, t.TempDir())
			b.steps.write = write
			for _, n := range []int{directBytesMin - 1, directBytesMin, directBytesMin + 1, 3*directBytesMin + 5, 1<<20 - 1} {
				for _, behind := range []int{0, 1, 512} {
					key := fmt.Sprintf("a/%d-%d", n, behind)
					body := placed(n, behind)
					if err := b.Put(context.Background(), key, body, objectlog.UUID{1}); err != nil {
						t.Fatal(err)
					}
					got, err := b.Get(context.Background(), key, objectlog.Extent{Start: 0, Next: int64(n)})
					if err != nil || !bytes.Equal(got, body) {
						t.Errorf("%s: %d bytes, %v", key, len(got), err)
					}
				}
			}
		})
	}
}
