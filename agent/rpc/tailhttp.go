package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// errEnough ends a plain tail that has written as many records as were asked for.
var errEnough = errors.New("enough records")

// tailHTTP is Tail for shells without tools: one line of JSON per record, or server-sent events where the client
// accepts those. Query: partition (all), from (earliest, latest, an offset, or an RFC 3339 time; latest), max (records).
func (e *edge) tailHTTP(w http.ResponseWriter, r *http.Request) {
	request, most, err := tailQuery(r.PathValue("topic"), r.URL.Query())
	if err != nil {
		e.failHTTP(w, r, err)
		return
	}
	defer func(started time.Time) {
		e.cfg.Logger.DebugContext(r.Context(), "plain tail", "topic", r.PathValue("topic"), "peer", r.RemoteAddr, "duration", time.Since(started))
	}(time.Now())
	out := &lineWriter{w: w, events: strings.Contains(r.Header.Get("Accept"), "text/event-stream"), most: most}
	err = e.tail(r.Context(), request, func(response *v1.TailResponse) error {
		return e.sendWithin(r.Context(), e.claimOf(r.Context()).held/answerCopies, func() error { return out.write(response) })
	})
	switch {
	case err == nil || out.ended || r.Context().Err() != nil:
	case !out.begun:
		e.failHTTP(w, r, err)
	default:
		_ = out.line("error", map[string]any{"error": json.RawMessage(jsonOf(e.detail(err)))})
	}
}

func tailQuery(topic string, query url.Values) (request *v1.TailRequest, most int64, err error) {
	for name := range query {
		switch name {
		case "partition", "from", "max":
		default:
			return nil, 0, invalid("tail", "query", "unknown parameter %q: want partition, from, max", name)
		}
	}
	partition := &v1.FetchRequest_Partition{Topic: topic}
	if text := query.Get("partition"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, 0, invalid("tail", "partition", "%q is no partition number", text)
		}
		partition.Partition = new(int32(n))
	}
	if partition.Start, err = tailStart(query.Get("from")); err != nil {
		return nil, 0, err
	}
	if text := query.Get("max"); text != "" {
		if most, err = strconv.ParseInt(text, 10, 64); err != nil || most < 1 {
			return nil, 0, invalid("tail", "max", "%q: want a number from 1", text)
		}
	}
	return &v1.TailRequest{Partitions: []*v1.FetchRequest_Partition{partition}}, most, nil
}

func tailStart(from string) (*v1.Start, error) {
	switch strings.ToLower(from) {
	case "earliest":
		return &v1.Start{At: &v1.Start_Point{Point: v1.StartPoint_START_POINT_EARLIEST}}, nil
	case "latest", "":
		return &v1.Start{At: &v1.Start_Point{Point: v1.StartPoint_START_POINT_LATEST}}, nil
	}
	if offset, err := strconv.ParseInt(from, 10, 64); err == nil {
		return &v1.Start{At: &v1.Start_Offset{Offset: offset}}, nil
	}
	t, err := time.Parse(time.RFC3339, from)
	if err != nil {
		return nil, invalid("tail", "from", "%q: want earliest, latest, an offset, or a time such as 2026-01-31T12:00:00Z", from)
	}
	return &v1.Start{At: &v1.Start_Timestamp{Timestamp: timestamppb.New(t)}}, nil
}

// lineWriter writes a tail as text.
type lineWriter struct {
	w      http.ResponseWriter
	events bool  // server-sent events, else NDJSON
	most   int64 // records; 0: no end
	count  int64
	begun  bool
	ended  bool // enough is written, or the client doesn't take more
}

// write writes the message and hands it to the network.
func (l *lineWriter) write(response *v1.TailResponse) error {
	if !l.begun {
		l.begun = true
		kind := "application/x-ndjson"
		if l.events {
			kind = "text/event-stream"
		}
		l.w.Header().Set("Content-Type", kind)
		l.w.Header().Set("X-Accel-Buffering", "no") // proxies that gather answers would hold records back
		l.w.WriteHeader(http.StatusOK)
	}
	err := l.lines(response)
	if flush := http.NewResponseController(l.w).Flush(); err == nil {
		err = flush
	}
	l.ended = err != nil
	return err
}

func (l *lineWriter) lines(response *v1.TailResponse) error {
	if len(response.Partitions) == 0 && len(response.Resume) == 0 {
		heartbeat := "\n"
		if l.events {
			heartbeat = ": heartbeat\n\n"
		}
		_, err := l.w.Write([]byte(heartbeat))
		return err
	}
	for _, p := range response.Partitions {
		if p.Error != nil {
			if err := l.line("error", map[string]any{"topic": p.Topic, "partition": p.Partition, "error": json.RawMessage(jsonOf(p.Error))}); err != nil {
				return err
			}
		}
		for _, r := range p.Records {
			if err := l.record(p.GetPartition(), r); err != nil {
				return err
			}
			if l.count++; l.count == l.most {
				return errEnough
			}
		}
	}
	if len(response.Resume) == 0 {
		return nil
	}
	return l.line("resume", json.RawMessage(jsonOf(&v1.TailResponse{Resume: response.Resume})))
}

func (l *lineWriter) record(partition int32, r *v1.FetchedRecord) error {
	presentRecord(r)
	rest := bytes.TrimPrefix(jsonOf(r), []byte("{"))
	return l.line("record", json.RawMessage(fmt.Appendf(nil, `{"partition":%d,%s`, partition, rest)))
}

// line writes one value as a line or as an event of this kind. json.Marshal makes it one line.
func (l *lineWriter) line(event string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if l.events {
		b = fmt.Appendf(nil, "event: %s\ndata: %s\n", event, b)
	}
	_, err = l.w.Write(append(b, '\n'))
	return err
}

// jsonOf is the message's JSON form. What this file writes is made by this package and always has one.
func jsonOf(m proto.Message) []byte {
	b, err := protojson.Marshal(m)
	if err != nil {
		panic("rpc: " + err.Error())
	}
	return b
}
