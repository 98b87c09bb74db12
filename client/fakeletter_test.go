package client_test

import (
	"context"
	"slices"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/objectlog"
	splashdamv1 "github.com/splashdam/splashdam/proto/splashdam/v1"
)

// codeOf is the code of a whole call with this detail.
func codeOf(d *splashdamv1.ErrorDetail) connect.Code {
	for c := connect.CodeCanceled; c <= connect.CodeUnauthenticated; c++ {
		if c.String() == d.GetCode() {
			return c
		}
	}
	return connect.CodeUnknown
}

// store appends a record to partition 0 of a topic, which is made if it is not there.
func (f *fake) store(topic string, r *splashdamv1.FetchedRecord) int64 {
	t := f.topics[topic]
	if t == nil {
		t = &fakeTopic{id: objectlog.UUID{byte(len(f.topics))}, topic: &splashdamv1.Topic{Name: topic, Partitions: 1}}
		t.partitions = []*fakePartition{{producers: map[objectlog.ProducerID]*fakeProducer{}}}
		f.topics[topic] = t
	}
	b, err := objectlog.EncodeBatch(nil, []objectlog.Record{{
		Key: r.GetKey().GetData(), Value: r.GetValue().GetData(), Timestamp: objectlog.Timestamp(r.GetTimestamp().AsTime().UnixMilli()),
	}}, objectlog.BatchOptions{Codec: objectlog.CodecNone, LogAppendTime: objectlog.NoTimestamp, ProducerID: objectlog.NoProducer})
	if err != nil {
		panic(err)
	}
	p := t.partitions[0]
	objectlog.PatchBatch(b, objectlog.Offset(p.next), 1)
	p.batches = append(p.batches, fakeBatch{base: p.next, next: p.next + 1, bytes: b})
	p.next++
	f.wake()
	return p.next - 1
}

// bury makes a dead letter.
func (f *fake) bury(home string, d *splashdamv1.DeadLetter) {
	if f.gone == nil {
		f.gone, f.homes = map[*splashdamv1.DeadLetter]bool{}, map[*splashdamv1.DeadLetter]string{}
	}
	r := d.Record
	d.Partition = new(int32(0))
	d.Record = &splashdamv1.FetchedRecord{Offset: new(f.store(home, r)), Key: r.GetKey(), Value: r.GetValue(), Timestamp: r.GetTimestamp()}
	f.homes[d] = home
	f.letters = append(f.letters, d)
}

func (f *fake) SendDeadLetter(_ context.Context, req *splashdamv1.SendDeadLetterRequest) (*splashdamv1.SendDeadLetterResponse, error) {
	return queueCall(f, "SendDeadLetter", func() (*splashdamv1.SendDeadLetterResponse, error) {
		f.givenUp = append(f.givenUp, req)
		home := req.GetDeadLetterTopic()
		if home == "" {
			home = req.GetTopic() + "-dlq"
		}
		known := slices.ContainsFunc(f.letters, func(d *splashdamv1.DeadLetter) bool {
			return d.GetGroup() == req.GetGroup() && d.GetSourceTopic() == req.GetTopic() && d.GetSourcePartition() == req.GetPartition() && d.GetSourceOffset() == req.GetOffset()
		})
		if !known {
			f.bury(home, &splashdamv1.DeadLetter{
				Record: f.recordsFrom(req.GetTopic(), req.GetPartition(), req.GetOffset(), 1)[0], SourceTopic: req.GetTopic(), SourcePartition: req.Partition,
				SourceOffset: req.Offset, Group: req.GetGroup(), Deliveries: req.GetAttempts(), FirstFailure: req.GetFirstFailure(), Reason: "given-up", Error: req.GetError(),
			})
		}
		return &splashdamv1.SendDeadLetterResponse{}, nil
	})
}

// dead lists the dead letters of a topic, of only if it names any.
func (f *fake) dead(topic string, only []*splashdamv1.DeadLetterPosition) (list []*splashdamv1.DeadLetter) {
	for _, d := range f.letters {
		named := slices.ContainsFunc(only, func(p *splashdamv1.DeadLetterPosition) bool { return p.GetOffset() == d.GetRecord().GetOffset() })
		if f.homes[d] == topic && !f.gone[d] && (len(only) == 0 || named) {
			list = append(list, d)
		}
	}
	return list
}

func (f *fake) CountDeadLetters(_ context.Context, req *splashdamv1.CountDeadLettersRequest) (*splashdamv1.CountDeadLettersResponse, error) {
	return queueCall(f, "CountDeadLetters", func() (*splashdamv1.CountDeadLettersResponse, error) {
		res := &splashdamv1.CountDeadLettersResponse{}
		for _, name := range req.GetTopics() {
			out := &splashdamv1.CountDeadLettersResponse_Count{Topic: name, DeadLetters: int64(len(f.dead(name, nil)))}
			if f.topics[name] == nil {
				out.Error = unknownTopic()
			}
			res.Counts = append(res.Counts, out)
		}
		return res, nil
	})
}

func (f *fake) ListDeadLetters(_ context.Context, req *splashdamv1.ListDeadLettersRequest) (*splashdamv1.ListDeadLettersResponse, error) {
	return queueCall(f, "ListDeadLetters", func() (*splashdamv1.ListDeadLettersResponse, error) {
		res := &splashdamv1.ListDeadLettersResponse{}
		for _, d := range f.dead(req.GetTopic(), req.GetOnly()) {
			switch token := d.GetRecord().GetValue().GetData(); {
			case req.GetPageToken() > string(token): // before this page
			case len(res.DeadLetters) == int(req.GetPageSize()) && req.GetPageSize() > 0:
				res.NextPageToken = string(token)
				return res, nil
			default:
				res.DeadLetters = append(res.DeadLetters, d)
			}
		}
		return res, nil
	})
}

func (f *fake) RedriveDeadLetters(_ context.Context, req *splashdamv1.RedriveDeadLettersRequest) (*splashdamv1.RedriveDeadLettersResponse, error) {
	return queueCall(f, "RedriveDeadLetters", func() (*splashdamv1.RedriveDeadLettersResponse, error) {
		res := &splashdamv1.RedriveDeadLettersResponse{}
		left := f.dead(req.GetTopic(), req.GetOnly())
		for _, d := range left {
			if n := req.GetMaxRecords(); n > 0 && res.Redriven == int64(n) {
				break
			}
			to := req.GetToTopic()
			if to == "" {
				to = d.GetSourceTopic()
			}
			r := &splashdamv1.FetchedRecord{Key: d.GetRecord().GetKey(), Value: d.GetRecord().GetValue(), Timestamp: d.GetRecord().GetTimestamp()}
			if e := req.GetEditedValue(); e != nil {
				r.Value = e
			}
			f.store(to, r)
			f.gone[d] = true
			res.Redriven++
		}
		res.Remaining = int64(len(left)) - res.Redriven
		for _, p := range req.GetOnly() {
			if len(f.letters) <= int(p.GetOffset()) {
				d := detail("not_found", "UNKNOWN_RECORD", -1, false)
				res.Refused = append(res.Refused, &splashdamv1.RedriveDeadLettersResponse_Refused{Position: p, Error: d})
			}
		}
		return res, nil
	})
}

func (f *fake) DiscardDeadLetters(_ context.Context, req *splashdamv1.DiscardDeadLettersRequest) (*splashdamv1.DiscardDeadLettersResponse, error) {
	return queueCall(f, "DiscardDeadLetters", func() (*splashdamv1.DiscardDeadLettersResponse, error) {
		res := &splashdamv1.DiscardDeadLettersResponse{}
		for _, d := range f.dead(req.GetTopic(), req.GetOnly()) {
			f.gone[d] = true
			res.Discarded++
		}
		if res.Discarded < int64(len(req.GetOnly())) {
			res.Refused = req.GetOnly()
		}
		return res, nil
	})
}
