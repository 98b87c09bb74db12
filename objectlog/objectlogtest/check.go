package objectlogtest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/splashdam/splashdam/objectlog"
)

// The methods below take keys without the test's prefix. put, delete and get may run in any goroutine, so they do not end the test.

func (s suite) put(key string, body []byte, nonce objectlog.UUID) {
	s.Helper()
	if err := s.bucket.Put(s.ctx, s.prefix+key, body, nonce); err != nil {
		s.Errorf("put %s: %v", key, err)
	}
}

func (s suite) delete(key string) {
	s.Helper()
	if err := s.bucket.Delete(s.ctx, s.prefix+key); err != nil {
		s.Errorf("delete %s: %v", key, err)
	}
}

func (s suite) get(key string, e objectlog.Extent) []byte {
	s.Helper()
	got, err := s.bucket.Get(s.ctx, s.prefix+key, e)
	if err != nil {
		s.Errorf("get %s %v: %v", key, e, err)
	}
	return got
}

func (s suite) stat(key string) objectlog.ObjectInfo {
	s.Helper()
	info, err := s.bucket.Stat(s.ctx, s.prefix+key)
	if err != nil {
		s.Errorf("stat %s: %v", key, err)
	}
	return info
}

func (s suite) list(prefix, after string, limit int) []string {
	s.Helper()
	if after != "" {
		after = s.prefix + after
	}
	infos, err := s.bucket.List(s.ctx, s.prefix+prefix, after, limit)
	if err != nil {
		s.Errorf("list %s after %s: %v", prefix, after, err)
	}
	var keys []string
	for _, info := range infos {
		keys = append(keys, strings.TrimPrefix(info.Key, s.prefix))
	}
	return keys
}

func (s suite) wantBody(key string, want []byte) {
	s.Helper()
	if got := s.get(key, objectlog.Extent{}); !bytes.Equal(got, want) {
		s.Errorf("get %s: %d bytes, want the %d that were put", key, len(got), len(want))
	}
}

func (s suite) wantList(prefix, after string, limit int, want []string) {
	s.Helper()
	if got := s.list(prefix, after, limit); !slices.Equal(got, want) {
		s.Errorf("list %q after %q limit %d: %q, want %q", prefix, after, limit, got, want)
	}
}

func (s suite) wantErr(want, got error) {
	s.Helper()
	if !errors.Is(got, want) {
		s.Errorf("got error %v, want %v", got, want)
	}
}

// clean deletes what the test left under its prefix; the store may be one that costs money.
func (s suite) clean() {
	ctx := context.WithoutCancel(s.ctx)
	for {
		infos, err := s.bucket.List(ctx, s.prefix, "", 1000)
		if err != nil {
			s.Errorf("clean %s: %v", s.prefix, err)
		}
		if len(infos) == 0 {
			return
		}
		for _, info := range infos {
			if err := s.bucket.Delete(ctx, info.Key); err != nil {
				s.Errorf("clean %s: %v", s.prefix, err)
				return
			}
		}
	}
}
