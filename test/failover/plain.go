package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/test/history"
)

const (
	// plainEvery is between the calls of one caller.
	plainEvery   = 50 * time.Millisecond
	plainTimeout = 40 * time.Second
	// plainProducer is the number of the first caller in the history; a caller takes the next but those of the others when it does not know
	// what became of a call, since that may yet land behind the next one.
	plainProducer = 100
	// errorsMax is how many errors are printed.
	errorsMax = 20
)

// calls counts what clients were told.
type calls struct {
	mu     sync.Mutex // all below
	counts Counts
	errors []string // the first
}

// Counts are calls of clients and those of them that failed.
type Counts struct {
	SDKFailed   int `json:"sdkFailed"`
	Plain       int `json:"plain"`
	PlainFailed int `json:"plainFailed"`
}

func (c *calls) sdkFailed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.SDKFailed++
	c.remember(fmt.Sprintf("SDK: %v", err))
}

func (c *calls) called(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts.Plain++; err != nil {
		c.counts.PlainFailed++
		c.remember(fmt.Sprintf("plain call: %v", err))
	}
}

// remember keeps the first errors; c.mu is held.
func (c *calls) remember(text string) {
	if len(c.errors) < errorsMax {
		c.errors = append(c.errors, time.Now().Format("15:04:05.000 ")+strings.Join(strings.Fields(text), " "))
	}
}

func (c *calls) sum() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}

func (c *calls) firstErrors() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.errors...)
}

// callOn makes one unary call in JSON after the other, and repeats none. Every second caller opens a connection for each call, as curl does.
func (l *load) callOn(ctx context.Context, n int) {
	c := http.Client{Timeout: plainTimeout, Transport: &http.Transport{DisableKeepAlives: n%2 == 1}}
	defer c.CloseIdleConnections()
	producer := plainProducer + n
	for i := 0; tick(ctx, plainEvery); i++ {
		v := history.Value{Producer: producer, Sequence: i}
		l.h.Send(l.plain[n], v)
		o, definite, err := call(context.WithoutCancel(ctx), &c, l.addresses[0], l.plain[n], v.String())
		l.calls.called(err)
		switch {
		case err == nil:
			l.h.Ack(v, o)
		case definite:
			l.h.Fail(v)
		default:
			l.h.Doubt(v)
			producer += len(l.plain)
		}
	}
}

// produced is as much of an answer to Produce as is looked at.
type produced struct {
	Code    string
	Results []struct {
		Error     *struct{ Code, Message string }
		Positions []struct{ Offset string }
	}
}

// call produces one record. A definite error is an agent's word that the record is not in the log.
func call(ctx context.Context, c *http.Client, address string, p client.Partition, value string) (o client.Offset, definite bool, err error) {
	body := fmt.Sprintf(`{"batches":[{"topic":%q,"partition":%d,"records":{"records":[{"value":{"text":%q}}]}}]}`, topicName, p, value)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/splashdam.v1.LogService/Produce", bytes.NewReader([]byte(body)))
	if err != nil {
		return client.NoOffset, true, err
	}
	req.GetBody = nil // with it net/http might repeat the call by itself
	req.Header.Set("Content-Type", "application/json")
	r, err := c.Do(req)
	if err != nil {
		return client.NoOffset, false, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return client.NoOffset, false, err
	}
	var answer produced
	parseErr := json.Unmarshal(text, &answer)
	switch {
	case r.StatusCode != http.StatusOK:
		// A balancer's page is no agent's word.
		return client.NoOffset, parseErr == nil && refuses(answer.Code), fmt.Errorf("%s: %.300s", r.Status, text)
	case parseErr != nil || len(answer.Results) != 1:
		return client.NoOffset, false, fmt.Errorf("%s: %.300s", r.Status, text)
	case answer.Results[0].Error != nil:
		return client.NoOffset, refuses(answer.Results[0].Error.Code), fmt.Errorf("%s: %s", answer.Results[0].Error.Code, answer.Results[0].Error.Message)
	case len(answer.Results[0].Positions) != 1:
		return client.NoOffset, false, fmt.Errorf("%s: no position: %.300s", r.Status, text)
	}
	n, err := strconv.ParseInt(answer.Results[0].Positions[0].Offset, 10, 64)
	return client.Offset(n), false, err
}

// refuses says whether a code tells that nothing was done.
func refuses(code string) bool { return code == "unavailable" || code == "resource_exhausted" }
