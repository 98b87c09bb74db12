package faultproxy

import (
	"bufio"
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const (
	bucketContent = "application/xml"
	tableContent  = "application/x-amz-json-1.0"
)

// reply is an answer of the proxy itself.
type reply struct {
	status      int
	contentType string
	body        []byte
}

// named is an error as a store calls it. The first of a status is what the status alone stands for.
type named struct {
	name   string
	status int
}

// The errors of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html that a client has reason to handle.
var bucketErrors = []named{
	{"InternalError", 500}, {"SlowDown", 503}, {"ServiceUnavailable", 503}, {"ConditionalRequestConflict", 409}, {"OperationAborted", 409},
	{"PreconditionFailed", 412}, {"AccessDenied", 403}, {"ExpiredToken", 400}, {"InvalidAccessKeyId", 403}, {"SignatureDoesNotMatch", 403},
	{"RequestTimeTooSkewed", 403}, {"RequestTimeout", 400}, {"NoSuchBucket", 404}, {"NoSuchKey", 404}, {"BadDigest", 400},
}

// The same of https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html.
var tableErrors = []named{
	{"InternalServerError", 500}, {"ServiceUnavailable", 503}, {"ThrottlingException", 400}, {"ProvisionedThroughputExceededException", 400},
	{"RequestLimitExceeded", 400}, {"ExpiredTokenException", 400}, {"InvalidSignatureException", 400}, {"UnrecognizedClientException", 400},
	{"AccessDeniedException", 400}, {"ResourceNotFoundException", 400}, {"ConditionalCheckFailedException", 400},
}

// frontErrors come from what stands in front of all services, which has a namespace of its own.
var frontErrors = []string{
	"ThrottlingException", "ExpiredTokenException", "InvalidSignatureException", "UnrecognizedClientException", "AccessDeniedException",
}

// errorOf completes name and status from one another. anyStore looks in both lists, as long as it is not known who will ask.
func (a Action) errorOf(anyStore bool, lists ...[]named) (name string, status int, err error) {
	if anyStore {
		lists = [][]named{bucketErrors, tableErrors}
	}
	name, status = a.Error, a.Status
	for _, list := range lists {
		for _, e := range list {
			if name == "" && e.status == status || status == 0 && e.name == name {
				name, status = e.name, e.status
			}
		}
	}
	if name == "" || status < 100 || status > 599 {
		return "", 0, fmt.Errorf("status %d, error %q: want a name that is known, or a status that has a usual one, or both", a.Status, a.Error)
	}
	return name, status, nil
}

// reply is the answer of a Status in the language of the request.
func (a Action) reply(req *request) (reply, error) {
	if !req.table {
		name, status, err := a.errorOf(false, bucketErrors, tableErrors)
		text := fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
			`<Error><Code>%s</Code><Message>fault proxy</Message><RequestId>%d</RequestId></Error>`, name, req.n)
		return reply{status, bucketContent, []byte(text)}, err
	}
	name, status, err := a.errorOf(false, tableErrors, bucketErrors)
	namespace := "com.amazonaws.dynamodb.v20120810"
	if slices.Contains(frontErrors, name) {
		namespace = "com.amazon.coral.service"
	}
	return reply{status, tableContent, fmt.Appendf(nil, `{"__type":"%s#%s","message":"fault proxy"}`, namespace, name)}, err
}

// loginPage is what networks with a login put in front of everything.
func loginPage() reply {
	return reply{http.StatusOK, "text/html; charset=utf-8", []byte("<!DOCTYPE html><html><head><title>Log in</title></head>" +
		"<body><form method=post action=/login><input name=user><input name=password type=password></form></body></html>\n")}
}

// writeTo writes the reply to a request; errors show when w is flushed.
func (r reply) writeTo(w *bufio.Writer, req *request) {
	id := "X-Amz-Request-Id"
	if req.table {
		id = "X-Amzn-Requestid"
	}
	fmt.Fprintf(w, "HTTP/1.1 %d %s\r\n", r.status, cmp.Or(http.StatusText(r.status), "Status"))
	fmt.Fprintf(w, "Date: %s\r\n%s: fault-%d\r\n", time.Now().UTC().Format(http.TimeFormat), id, req.n)
	fmt.Fprintf(w, "Content-Type: %s\r\nContent-Length: %d\r\n", r.contentType, len(r.body))
	if req.last {
		fmt.Fprint(w, "Connection: close\r\n")
	}
	fmt.Fprint(w, "\r\n")
	if req.method != http.MethodHead {
		w.Write(r.body)
	}
}
