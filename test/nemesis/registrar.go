package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/splashdam/splashdam/client"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
	"github.com/splashdam/splashdam/proto/splashdam/v1/splashdamv1connect"
	"github.com/splashdam/splashdam/test/history"
)

// prefix keeps values from being taken for numbers.
const prefix = "v"

// registrar is one client of a history of one partition.
type registrar struct {
	topic     string
	partition client.Partition
	number    int
	began     time.Time
	chance    *rand.Rand

	c     *client.Client
	raw   splashdamv1connect.LogServiceClient // a Consumer reads ahead: its records may be older than its Poll
	p     *client.Producer
	known client.Offset // where the log ended when this client last heard of it
	value int
	ops   []history.Op
}

// play does one operation after the other, and answers those that say something.
func (r *registrar) play(ctx context.Context, addresses []string) (ops []history.Op, err error) {
	if r.c, err = client.New(client.Config{Addresses: addresses, RequestTimeout: callTimeout}); err != nil {
		return nil, err
	}
	defer r.c.Close()
	if r.p, err = r.c.NewProducer(client.ProducerConfig{Partitioner: client.Manual, DeliveryTimeout: callTimeout, Unary: r.number%2 == 0}); err != nil {
		return nil, err
	}
	defer r.p.Close(ctx)
	hc := &http.Client{Transport: &http.Transport{}, Timeout: callTimeout}
	defer hc.CloseIdleConnections()
	r.raw = splashdamv1connect.NewLogServiceClient(hc, "http://"+addresses[r.chance.IntN(len(addresses))])
	for range registerOps {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		switch r.chance.IntN(8) {
		case 0, 1:
			r.append(ctx)
		case 2, 3, 4:
			r.appendAt(ctx)
		case 5:
			err = r.read(ctx)
		default:
			r.latest(ctx)
		}
		if err != nil {
			return nil, err
		}
	}
	return r.ops, nil
}

// next is a value that no other operation of the history has.
func (r *registrar) next() (int, client.Record) {
	r.value++
	v := r.value*registerClients + r.number
	return v, client.Record{Topic: r.topic, Partition: r.partition, Value: []byte(prefix + strconv.Itoa(v))}
}

// timed does a call between the operation's two times.
func (r *registrar) timed(call func() history.Op) history.Op {
	from := time.Since(r.began)
	o := call()
	o.Client, o.Call, o.Return = r.number, from, time.Since(r.began)
	return o
}

// done notes an operation.
func (r *registrar) done(o history.Op) {
	r.ops = append(r.ops, o)
	if !o.Unknown && o.Offset != client.NoOffset {
		r.known = o.Offset
		if o.Do == history.Append || o.Do == history.AppendAt && !o.Mismatch {
			r.known++
		}
	}
}

func (r *registrar) append(ctx context.Context) {
	v, record := r.next()
	failed := false
	o := r.timed(func() history.Op {
		o := history.Op{Do: history.Append, Value: v, Offset: client.NoOffset}
		results, _ := r.p.ProduceSync(ctx, record) // the result has the error
		switch {
		case len(results) == 1 && results[0].Err == nil:
			o.Offset = results[0].Offset
		case len(results) != 1 || errors.Is(results[0].Err, client.ErrUnknownOutcome):
			o.Unknown = true
		default:
			failed = true
		}
		return o
	})
	if !failed {
		r.done(o)
	}
}

// appendAt is a conditional append where this client believes the end to be.
func (r *registrar) appendAt(ctx context.Context) {
	v, record := r.next()
	failed := false
	o := r.timed(func() history.Op {
		o := history.Op{Do: history.AppendAt, Value: v, Expected: r.known, Offset: client.NoOffset}
		at, err := r.c.AppendAt(ctx, r.topic, r.partition, r.known, record)
		var e *client.Error
		switch {
		case err == nil:
			o.Offset = at
		case errors.Is(err, client.ErrUnknownOutcome):
			o.Unknown = true
		case errors.Is(err, client.ErrOffsetMismatch) && errors.As(err, &e):
			o.Mismatch = true
			if actual, err := strconv.ParseInt(e.Metadata["actual"], 10, 64); err == nil {
				o.Offset = client.Offset(actual)
			}
		default:
			failed = true
		}
		return o
	})
	if !failed {
		r.done(o)
	}
}

// read reads one record, near the end or behind it.
func (r *registrar) read(ctx context.Context) (err error) {
	at := max(0, r.known-4+client.Offset(r.chance.IntN(8)))
	silent := false
	o := r.timed(func() history.Op {
		o := history.Op{Do: history.ReadAt, Expected: at, Offset: client.NoOffset}
		offset, partition := int64(at), int32(r.partition)
		res, failed := r.raw.Fetch(ctx, &splashdamv1.FetchRequest{MaxRecords: 1, Partitions: []*splashdamv1.FetchRequest_Partition{{
			Topic: r.topic, Partition: &partition, Start: &splashdamv1.Start{At: &splashdamv1.Start_Offset{Offset: offset}}}}})
		if failed != nil || len(res.GetPartitions()) != 1 {
			silent = true
			return o
		}
		p := res.GetPartitions()[0]
		switch {
		case p.GetError().GetReason() == "OFFSET_OUT_OF_RANGE":
			o.Mismatch = true
			if end, err := strconv.ParseInt(p.GetError().GetMetadata()["high_watermark"], 10, 64); err == nil {
				o.Offset = client.Offset(end)
			}
		case p.GetError() != nil || len(p.GetRecords()) == 0:
			silent = true
		default:
			o.Value, err = valueOf(p.GetRecords()[0], at)
		}
		return o
	})
	if err == nil && !silent {
		r.done(o)
	}
	return err
}

// valueOf is the value in a record that was read at an offset.
func valueOf(record *splashdamv1.FetchedRecord, at client.Offset) (int, error) {
	text := string(record.GetValue().GetData()) + record.GetValue().GetText()
	v, err := strconv.Atoi(strings.TrimPrefix(text, prefix))
	if err != nil || record.GetOffset() != int64(at) {
		return 0, fmt.Errorf("read at %d: got %q at %d: %w", at, text, record.GetOffset(), err)
	}
	return v, nil
}

// latest asks where the log ends.
func (r *registrar) latest(ctx context.Context) {
	silent := false
	o := r.timed(func() history.Op {
		o := history.Op{Do: history.Latest}
		found, err := r.c.Offsets(ctx, r.topic, client.Latest(), r.partition)
		if silent = err != nil || len(found) != 1 || found[0].Err != nil; !silent {
			o.Offset = found[0].Offset
		}
		return o
	})
	if !silent {
		r.done(o)
	}
}
