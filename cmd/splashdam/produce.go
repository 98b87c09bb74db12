package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/client"
)

// produceOptions are the flags of produce.
type produceOptions struct {
	file         string
	keyField     string
	keySeparator string
	headers      []string
	partition    int32
	compression  string
	acks         string
}

func newProduce(env *environment) *cobra.Command {
	var o produceOptions
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Send lines to a topic, one record a line",
		Long: `Produce reads lines from standard input or a file and sends each as one record, without its newline. An empty line is
an empty record. With --key-field the lines are JSON objects and the key is the field's value; with --key-separator
the key stands before the first separator. Records of one key keep their order.

Every record is sent exactly once, in order, while this process lives. What was acknowledged is durable.`,
		Example: `  splashdam produce matches --key-field match < events.ndjson
  echo 'bra-arg:goal' | splashdam produce matches --key-separator :`,
		Args: oneArgument("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error { return env.produce(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "file", "f", "", "read this file instead of standard input")
	f.StringVar(&o.keyField, "key-field", "", "lines are JSON objects; the key is this field")
	f.StringVar(&o.keySeparator, "key-separator", "", "the key stands before this text")
	f.StringArrayVar(&o.headers, "header", nil, "name=value, beside every record; may be repeated")
	f.Int32Var(&o.partition, "partition", -1, "send to this partition; -1: by key")
	f.StringVar(&o.compression, "compression", "snappy", "none, gzip, snappy, lz4 or zstd")
	f.StringVar(&o.acks, "acks", "durable", "durable, or none: do not wait, records may be lost")
	addSettings(cmd, "produce")
	return cmd
}

// produceResult is the summary of produce.
type produceResult struct {
	transferred
	Topic      string           `json:"topic"`
	Failed     int64            `json:"failed"`
	Duplicates int64            `json:"duplicates,omitempty"` // acknowledged by an attempt before the last
	Partitions map[string]int64 `json:"next_offsets"`         // partition to the offset behind the last record acknowledged
}

func (env *environment) produce(ctx context.Context, topic string, o produceOptions) error {
	read, err := o.reader()
	if err != nil {
		return err
	}
	headers, err := parseHeaders(o.headers)
	if err != nil {
		return err
	}
	in := env.in
	if o.file != "" {
		f, err := os.Open(o.file)
		if err != nil {
			return &terminalError{op: "read", object: o.file, cause: unwrapPath(err)}
		}
		defer f.Close()
		in = f
	}
	c, err := env.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	producer, err := c.NewProducer(o.config())
	if err != nil {
		return usage{err}
	}
	s := &sending{env: env, topic: topic, producer: producer, progress: newProgress("produced"), next: map[client.Partition]client.Offset{}}
	stop := s.progress.show(ctx, env.err)
	readErr := s.sendAll(ctx, in, read, client.Record{Topic: topic, Partition: client.Partition(o.partition), Headers: headers})
	closeErr := s.close()
	stop()
	if s.progress.records.Load() > 0 || readErr == nil && s.failure == nil {
		if err := s.print(); err != nil {
			return err
		}
	}
	return firstError(s.failure, readErr, closeErr)
}

// reader answers how a line becomes key and value.
func (o produceOptions) reader() (func(line []byte) (key, value []byte, err error), error) {
	switch {
	case o.keyField != "" && o.keySeparator != "":
		return nil, usageError("produce: --key-field and --key-separator exclude each other")
	case o.acks != "durable" && o.acks != "none":
		return nil, usageError("produce: --acks %q: want durable or none", o.acks)
	case o.partition < -1:
		return nil, usageError("produce: --partition %d: want a partition's number, or -1 for any", o.partition)
	case o.keyField != "":
		return func(line []byte) ([]byte, []byte, error) {
			key, err := jsonField(line, o.keyField)
			return key, line, err
		}, nil
	case o.keySeparator != "":
		separator := []byte(o.keySeparator)
		return func(line []byte) ([]byte, []byte, error) {
			key, value, ok := bytes.Cut(line, separator)
			if !ok {
				return nil, nil, fmt.Errorf("no separator %q", o.keySeparator)
			}
			return key, value, nil
		}, nil
	}
	return func(line []byte) ([]byte, []byte, error) { return nil, line, nil }, nil
}

func (o produceOptions) config() client.ProducerConfig {
	c := client.ProducerConfig{Compression: o.compression}
	if o.partition >= 0 {
		c.Partitioner = client.Manual
	}
	if o.acks == "none" {
		c.Acks = client.AcksNone
	}
	return c
}

// jsonField is the text of one field of a JSON object: a string's characters, anything else as written.
func jsonField(line []byte, field string) ([]byte, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	raw, ok := object[field]
	if !ok {
		return nil, fmt.Errorf("no field %q", field)
	}
	var text string
	if json.Unmarshal(raw, &text) == nil && string(raw) != "null" {
		return []byte(text), nil
	}
	return raw, nil
}

func parseHeaders(list []string) ([]client.Header, error) {
	var headers []client.Header
	for _, kv := range list {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			return nil, usageError("produce: --header %q: want name=value", kv)
		}
		headers = append(headers, client.Header{Key: name, Value: []byte(value)})
	}
	return headers, nil
}

// sending is one run of produce.
type sending struct {
	env      *environment
	topic    string
	producer *client.Producer
	progress *progress

	mu         sync.Mutex // all below
	next       map[client.Partition]client.Offset
	failed     int64
	duplicates int64
	failure    error // the first
}

// lineBytesMax bounds one line: the agent takes no larger record.
const lineBytesMax = 32 << 20

// sendAll hands every line to the producer, which blocks when the agent is slower than the input. It stops at the first
// line that is wrong and at the first record that failed: what follows would be out of order.
func (s *sending) sendAll(ctx context.Context, in io.Reader, read func([]byte) (key, value []byte, err error), template client.Record) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 1<<20), lineBytesMax)
	n := 0
	for lines.Scan() {
		n++
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.broken() != nil {
			return nil
		}
		key, value, err := read(bytes.Clone(lines.Bytes()))
		if err != nil {
			return &terminalError{op: "read", object: fmt.Sprintf("line %d", n), cause: err, hint: "the lines before it were sent"}
		}
		r := template
		r.Key, r.Value = key, value
		if r.Value == nil {
			r.Value = []byte{} // an empty line is an empty record, not a tombstone
		}
		size := int64(len(key) + len(value))
		s.producer.Produce(ctx, r, func(result client.Result) { s.done(result, size) })
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return &terminalError{op: "read", object: fmt.Sprintf("line %d", n+1), cause: fmt.Errorf("longer than %d bytes", lineBytesMax)}
	} else if err != nil {
		return &terminalError{op: "read", object: "input", cause: err}
	}
	return nil
}

func (s *sending) broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// done takes the decision on one record.
func (s *sending) done(r client.Result, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Err != nil {
		s.failed++
		if s.failure == nil || errors.Is(r.Err, client.ErrUnknownOutcome) && !errors.Is(s.failure, client.ErrUnknownOutcome) {
			s.failure = r.Err
		}
		return
	}
	if r.Duplicate {
		s.duplicates++
	}
	if r.Offset >= 0 {
		s.next[r.Partition] = max(s.next[r.Partition], r.Offset+1)
	}
	s.progress.add(1, size)
}

// closeTimeout bounds the wait for records that are under way when the input ends or the user interrupts.
const closeTimeout = 2*time.Minute + 30*time.Second

func (s *sending) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return s.producer.Close(ctx)
}

func (s *sending) print() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	result := produceResult{transferred: s.progress.result(), Topic: s.topic, Failed: s.failed, Duplicates: s.duplicates, Partitions: map[string]int64{}}
	var partitions []int
	for p, next := range s.next {
		partitions = append(partitions, int(p))
		result.Partitions[fmt.Sprint(p)] = int64(next)
	}
	sort.Ints(partitions)
	return s.env.print(result, func() {
		fmt.Fprintf(s.env.out, "produced %s to %s\n", result.transferred, s.topic)
		const shown = 16
		for i, p := range partitions {
			if i == shown {
				fmt.Fprintf(s.env.out, "  and %d more partitions\n", len(partitions)-shown)
				break
			}
			fmt.Fprintf(s.env.out, "  partition %d: next offset %d\n", p, s.next[client.Partition(p)])
		}
		if s.failed > 0 {
			fmt.Fprintf(s.env.out, "  %s records were not acknowledged\n", humanCount(s.failed))
		}
	})
}

// firstError is the first error that is not nil.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
