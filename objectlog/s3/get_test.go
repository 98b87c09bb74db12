package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/objectlog"
)

// getRow is what a store answers to a Get, and what Get makes of it.
type getRow struct {
	extent objectlog.Extent
	answer func(http.ResponseWriter)
	want   error // nil, a sentinel, or errAny
}

const tenBytes = "0123456789"

var part = objectlog.Extent{Start: 2, Next: 6}

func getRows() map[string]getRow {
	body := []byte(tenBytes)
	own := contentFor(body, newNonce())
	damaged := own
	damaged.crc++
	answer := func(status int, c content, contentRange, text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			found(w, c)
			if contentRange != "" {
				w.Header().Set("Content-Range", contentRange)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, text)
		}
	}
	ranged := own
	ranged.bytes = 4
	short := own
	short.bytes = 3
	return map[string]getRow{
		"the extent":            {part, answer(206, ranged, "bytes 2-5/10", "2345"), nil},
		"a shorter one":         {part, answer(206, short, "bytes 2-4/5", "234"), objectlog.ErrRange},
		"another one":           {part, answer(206, ranged, "bytes 3-6/10", "3456"), objectlog.ErrRange},
		"a body that ends":      {part, answer(206, ranged, "bytes 2-5/10", "23"), errAny},
		"fewer bytes than said": {part, answer(206, short, "bytes 2-5/10", "234"), errAny},
		"more bytes than said":  {part, answer(206, own, "bytes 2-5/10", "2345678901"), errAny},
		"200 for a range":       {part, answer(200, own, "", "0123456789"), errAny},
		"416":                   {part, func(w http.ResponseWriter) { refuse(w, 416, "InvalidRange", "") }, objectlog.ErrRange},
		"absent":                {part, func(w http.ResponseWriter) { refuse(w, 404, "NoSuchKey", "") }, objectlog.ErrNotFound},
		"absent bucket":         {part, func(w http.ResponseWriter) { refuse(w, 404, "NoSuchBucket", "") }, errAny},
		"404 of a gateway":      {part, func(w http.ResponseWriter) { w.WriteHeader(404); fmt.Fprint(w, "not here") }, errAny},
		"HTML": {part, func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			answer(206, ranged, "bytes 2-5/10", "2345")(w)
		}, errAny},
		"slow down":              {part, func(w http.ResponseWriter) { refuse(w, 503, "SlowDownRead", "") }, objectlog.ErrThrottled},
		"503 of a gateway":       {part, func(w http.ResponseWriter) { w.WriteHeader(503); fmt.Fprint(w, "no upstream") }, errAny},
		"the whole":              {objectlog.Extent{}, answer(200, own, "", "0123456789"), nil},
		"the whole, damaged":     {objectlog.Extent{}, answer(200, damaged, "", "0123456789"), errAny},
		"the whole, ended early": {objectlog.Extent{}, answer(200, own, "", "01234567"), errAny},
		"the whole, without length": {objectlog.Extent{}, func(w http.ResponseWriter) {
			found(w, own)
			w.Header().Del("Content-Length")
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
		}, errAny},
		"the whole, absurdly long":   {objectlog.Extent{}, func(w http.ResponseWriter) { found(w, content{bytes: 1 << 50}) }, errAny},
		"the whole, with no answer":  {objectlog.Extent{}, cut, errAny},
		"the whole, of another's":    {objectlog.Extent{}, func(w http.ResponseWriter) { found(w, own); w.Header().Del(crcHeader); fmt.Fprint(w, string(body)) }, nil},
		"the whole, as no content":   {objectlog.Extent{}, func(w http.ResponseWriter) { w.WriteHeader(204) }, errAny},
		"the whole, as not modified": {objectlog.Extent{}, func(w http.ResponseWriter) { w.WriteHeader(304) }, errAny},
	}
}

// TestGetIsExactOrAnError has one row per answer of a store to a Get of [2,6) or of the whole of an object.
func TestGetIsExactOrAnError(t *testing.T) {
	for name, test := range getRows() {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(w http.ResponseWriter, _ request) { test.answer(w) })
			got, err := f.bucket.Get(t.Context(), "key", test.extent)
			want := tenBytes
			if test.extent == part {
				want = "2345"
			}
			switch {
			case test.want == nil && (err != nil || string(got) != want):
				t.Errorf("got %q, %v; want %q", got, err, want)
			case test.want != nil && (err == nil || got != nil):
				t.Errorf("got %q, %v; want an error and nothing else", got, err)
			case test.want == errAny && (errors.Is(err, objectlog.ErrNotFound) || errors.Is(err, objectlog.ErrRange)):
				t.Errorf("got %v, which says too much", err)
			case test.want != nil && test.want != errAny && !errors.Is(err, test.want):
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// TestStatTellsAnAbsentObjectFromAnAbsentBucket: a HEAD does not.
func TestStatTellsAnAbsentObjectFromAnAbsentBucket(t *testing.T) {
	for code, absent := range map[string]bool{"NoSuchKey": true, "NoSuchBucket": false} {
		f := newFake(t, func(w http.ResponseWriter, r request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(404)
				return
			}
			refuse(w, 404, code, "")
		})
		if _, err := f.bucket.Stat(t.Context(), "key"); err == nil || errors.Is(err, objectlog.ErrNotFound) != absent {
			t.Errorf("%s: stat answers %v", code, err)
		}
	}
}

func TestDeleteTakesAbsenceOfTheObjectOnlyForDone(t *testing.T) {
	for code, done := range map[string]bool{"NoSuchKey": true, "NoSuchBucket": false} {
		f := newFake(t, func(w http.ResponseWriter, _ request) { refuse(w, 404, code, "") })
		if err := f.bucket.Delete(t.Context(), "key"); (err == nil) != done {
			t.Errorf("%s: delete answers %v", code, err)
		}
	}
}

func TestListIsOneRequestAPage(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, _ request) {
		fmt.Fprint(w, "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"+
			"<Contents><Key>p/a</Key><Size>1</Size></Contents><Contents><Key>p/b</Key><Size>2</Size></Contents></ListBucketResult>")
	})
	infos, err := f.bucket.List(t.Context(), "p/", "p/", 2)
	if err != nil || len(infos) != 2 || infos[1].Key != "p/b" || infos[1].Bytes != 2 {
		t.Errorf("got %+v, %v", infos, err)
	}
	if len(f.all()) != 1 || f.all()[0].URL.Query().Get("max-keys") != "2" || f.all()[0].URL.Query().Get("start-after") != "p/" {
		t.Errorf("requests %s", f.requests())
	}
}

// TestListIsOfTheStoreOrAnError: what is no listing must not read as an empty one, on the second page neither.
func TestListIsOfTheStoreOrAnError(t *testing.T) {
	first := "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>" +
		"<Contents><Key>p/a</Key></Contents></ListBucketResult>"
	for text, want := range map[string]string{
		"<ListBucketResult/>": "",
		"<?xml version=\"1.0\"?>\n<!-- x --><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><KeyCount>0</KeyCount></ListBucketResult>": "",
		"<Error><Code>InternalError</Code><Message>m</Message></Error>":                                                                                    "InternalError",
		"<Error><Code>SlowDown</Code></Error>": "throttled",
		"<Foo/>":                               "<Foo/>",
		"<Foo><ListBucketResult/></Foo>":       "<Foo>",
		"{}":                                   "{}",
		"ok":                                   "ok",
		"":                                     "empty",
		" \n ":                                 "empty",
		"<ListBucketResult><Contents><Key>p/b</Key></Contents>":                          "EOF",
		"<ListBucketResult>" + strings.Repeat(" ", pageBytesMax) + "</ListBucketResult>": "longer",
	} {
		for _, page := range []int{1, 2} {
			pages := 0
			f := newFake(t, func(w http.ResponseWriter, _ request) {
				w.Header().Set("Content-Type", "application/xml")
				if pages++; pages < page {
					fmt.Fprint(w, first)
					return
				}
				fmt.Fprint(w, text)
			})
			infos, err := f.bucket.List(t.Context(), "p/", "", 10)
			switch {
			case want == "" && (err != nil || len(infos) != page-1):
				t.Errorf("%.60q as page %d: %v, %v", text, page, infos, err)
			case want != "" && (err == nil || infos != nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%.60q as page %d: %v, %v; want an error that says %q", text, page, infos, err, want)
			case want == "throttled" && !errors.Is(err, objectlog.ErrThrottled):
				t.Errorf("%.60q as page %d: %v is not ErrThrottled", text, page, err)
			}
		}
	}
}

// TestListThatIsCutShortByTheCallerIsAnError has a store that answers less than a page, and a caller who goes away before the next.
func TestListThatIsCutShortByTheCallerIsAnError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	page := "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>" +
		"<Contents><Key>p/a</Key></Contents></ListBucketResult>"
	answered := answering(func(req *http.Request) *http.Response {
		cancel()
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(page)), Request: req}
	})
	b, err := Open(Config{Bucket: "bucket", Endpoint: "http://127.0.0.1:1", Transport: answered})
	if err != nil {
		t.Fatal(err)
	}
	if infos, err := b.List(ctx, "p/", "", 9); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v; want context.Canceled", infos, err)
	}
}

func TestListRefusesWhatIsOutOfOrder(t *testing.T) {
	for _, key := range []string{"p/a", "q/z", "p/0"} {
		f := newFake(t, func(w http.ResponseWriter, _ request) {
			fmt.Fprintf(w, "<ListBucketResult><Contents><Key>p/a</Key></Contents><Contents><Key>%s</Key></Contents></ListBucketResult>", key)
		})
		if infos, err := f.bucket.List(t.Context(), "p/", "", 9); err == nil {
			t.Errorf("%s after p/a: got %v, want an error", key, infos)
		}
	}
}

// TestWholeObjectHasTheTimeOfItsSize: how long an object is, a Get of all of it learns only when it comes.
func TestWholeObjectHasTheTimeOfItsSize(t *testing.T) {
	var extended int64
	x := exchange{extend: func(bytes int64) { extended = bytes }}
	if _, err := x.readWhole(strings.NewReader(tenBytes), http.Header{"Content-Length": {"10"}}); err != nil || extended != 10 {
		t.Errorf("extended for %d bytes, %v; want 10", extended, err)
	}
	for bytes, want := range map[int64]time.Duration{0: 0, 4 << 20: 64 * time.Second, 5 << 30: 5 * 1024 * 16 * time.Second} {
		if got := patience(bytes) - answerMax; got != want {
			t.Errorf("%d bytes get %s more, want %s", bytes, got, want)
		}
	}
}
