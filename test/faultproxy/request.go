package faultproxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// itemBytesMax is the longest request that DynamoDB takes. The key of a longer one is not looked for.
const itemBytesMax = 16 << 20

// bucketKinds are the kinds of requests to a bucket.
var bucketKinds = []string{
	"put", "get", "head", "list", "delete", "multi-delete", "copy", "create-upload", "upload-part", "complete-upload", "abort-upload", "bucket",
}

func knownKind(kind string) bool {
	return kind == "" || kind[0] >= 'A' && kind[0] <= 'Z' || slices.Contains(bucketKinds, kind)
}

// request is one request of a client, as far as it was read.
type request struct {
	n         int64 // of all requests that the proxy saw, from 1
	kind, key string
	table     bool // DynamoDB's protocol, else S3's

	method string
	head   []byte // through the empty line, as received
	last   bool   // the client wants the connection closed behind the answer
	body   body
}

// readRequest reads the head of the next request.
func readRequest(r *bufio.Reader, conn net.Conn) (*request, error) {
	head, err := readHead(r)
	if err != nil {
		return nil, err
	}
	parsed, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return nil, fmt.Errorf("read head of request: %w", err)
	}
	req := &request{
		method: parsed.Method,
		head:   head,
		last:   parsed.Close,
		body:   body{r: r, conn: conn, length: parsed.ContentLength, awaited: strings.EqualFold(parsed.Header.Get("Expect"), "100-continue")},
	}
	if target := parsed.Header.Get("X-Amz-Target"); target != "" {
		req.table = true
		_, req.kind, _ = strings.Cut(target, ".")
	} else {
		req.kind, req.key = bucketKind(parsed)
	}
	return req, nil
}

// bucketKind tells from path and query, with the bucket's name as the first part of the path, what a request to a bucket is.
func bucketKind(r *http.Request) (kind, key string) {
	query := r.URL.Query()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if key == "" {
		switch {
		case r.Method == http.MethodPost && query.Has("delete"):
			return "multi-delete", bucket
		case r.Method == http.MethodGet && bucket != "" && lists(query):
			return "list", query.Get("prefix")
		}
		return "bucket", bucket
	}
	upload := query.Has("uploadId")
	switch r.Method {
	case http.MethodPut:
		switch {
		case upload:
			return "upload-part", key
		case r.Header.Get("X-Amz-Copy-Source") != "":
			return "copy", key
		}
		return "put", key
	case http.MethodPost:
		if upload {
			return "complete-upload", key
		}
		return "create-upload", key
	case http.MethodDelete:
		if upload {
			return "abort-upload", key
		}
		return "delete", key
	case http.MethodHead:
		return "head", key
	}
	return "get", key
}

// lists tells a listing of a bucket's objects from questions about its settings.
func lists(query url.Values) bool {
	return len(query) == 0 || slices.ContainsFunc([]string{"list-type", "prefix", "delimiter", "marker", "max-keys", "versions"}, query.Has)
}

// attributes are those of an item that make its key.
type attributes struct {
	PK struct{ S string } `json:"pk"`
	SK struct{ S string } `json:"sk"`
}

func (a *attributes) key() string { return a.PK.S + "/" + a.SK.S }

// findKey reads the body of a request to a table and looks there for the keys of its items.
func (req *request) findKey() error {
	if !req.table || req.body.length < 0 || req.body.length > itemBytesMax {
		return nil
	}
	if err := req.body.load(itemBytesMax); err != nil {
		return err
	}
	var fields struct {
		Item, Key                 *attributes
		RequestItems              map[string]json.RawMessage
		ExpressionAttributeValues map[string]struct{ S *string }
	}
	if json.Unmarshal(req.body.data, &fields) != nil {
		return nil // the target will say so
	}
	items := []*attributes{fields.Item, fields.Key}
	for _, raw := range fields.RequestItems {
		items = append(items, batchItems(raw)...)
	}
	var keys []string
	for _, item := range items {
		if item != nil {
			keys = append(keys, item.key())
		}
	}
	if len(keys) == 0 { // a query: the values it compares keys with
		for _, v := range fields.ExpressionAttributeValues {
			if v.S != nil {
				keys = append(keys, *v.S)
			}
		}
		slices.Sort(keys)
	}
	req.key = strings.Join(keys, " ")
	return nil
}

// batchItems are those that a batch writes to or reads from one table.
func batchItems(raw json.RawMessage) []*attributes {
	var reads struct{ Keys []*attributes }
	if json.Unmarshal(raw, &reads) == nil {
		return reads.Keys
	}
	var writes []struct {
		PutRequest    struct{ Item *attributes }
		DeleteRequest struct{ Key *attributes }
	}
	if json.Unmarshal(raw, &writes) != nil {
		return nil
	}
	var items []*attributes
	for _, w := range writes {
		items = append(items, w.PutRequest.Item, w.DeleteRequest.Key)
	}
	return items
}

// unprocessed is the answer to a batch of which nothing was done.
func (req *request) unprocessed() ([]byte, error) {
	if err := req.body.load(itemBytesMax); err != nil {
		return nil, err
	}
	var fields struct{ RequestItems json.RawMessage }
	if err := json.Unmarshal(req.body.data, &fields); err != nil {
		return nil, fmt.Errorf("read %s: %w", req.kind, err)
	}
	if req.kind == "BatchGetItem" {
		return fmt.Appendf(nil, `{"Responses":{},"UnprocessedKeys":%s}`, fields.RequestItems), nil
	}
	return fmt.Appendf(nil, `{"UnprocessedItems":%s}`, fields.RequestItems), nil
}
