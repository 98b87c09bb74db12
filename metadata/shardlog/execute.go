package shardlog

import (
	"context"
	"log/slog"
	"time"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// Deadlines of remote calls.
const (
	// itemTimeout: an attempt that takes longer is better sent again; the table answers in milliseconds.
	itemTimeout = 2 * time.Second
	// footersTimeout: some small ranges of objects.
	footersTimeout = 10 * time.Second
	// snapshotTimeout: an object of up to some hundred MB, up and down again.
	snapshotTimeout = 2 * time.Minute
)

// listMax is how many snapshots one List answers.
const listMax = 1000

// execute does what the Core wants and answers the event that says how it went; nil: there is none.
func (s *Shard) execute(ctx context.Context, e Effect) Event {
	limit := itemTimeout
	switch e.(type) {
	case ReadFooters:
		limit = footersTimeout
	case LoadSnapshot, StoreSnapshot, DeleteSnapshots:
		limit = snapshotTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	switch e := e.(type) {
	case PutItem:
		return PutDone{ID: e.ID, Result: s.table.Put(ctx, e.Item, e.Cond)}
	case GetItem:
		item, ok, err := s.table.Get(ctx, e.Key)
		return ItemRead{ID: e.ID, Item: item, Found: ok, Err: err}
	case ReadFooters:
		footers, err := s.readFooters(ctx, e.Refs)
		return FootersRead{ID: e.ID, Footers: footers, Err: err}
	case LoadSnapshot:
		body, err := s.bucket.Get(ctx, s.keys.Snapshot(e.Name), objectlog.Extent{})
		return SnapshotLoaded{ID: e.ID, Body: body, Err: err}
	case StoreSnapshot:
		body, err := s.storeSnapshot(ctx, e)
		return SnapshotStored{ID: e.ID, Body: body, Err: err}
	case HashState:
		return StateHashed{ID: e.ID, Hash: e.Hash()}
	case DeleteSnapshots:
		if err := s.deleteSnapshots(ctx, e); err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "delete snapshots", "shard", s.shard, "error", err)
		}
	}
	return nil
}

func (s *Shard) readFooters(ctx context.Context, refs []metadata.FooterRef) ([][]byte, error) {
	footers := make([][]byte, len(refs))
	for i, ref := range refs {
		var err error
		if footers[i], err = s.bucket.Get(ctx, s.keys.Segment(ref.Segment), ref.Section.Extent); err != nil {
			return nil, err
		}
	}
	return footers, nil
}

// storeSnapshot puts the snapshot and reads it back.
func (s *Shard) storeSnapshot(ctx context.Context, e StoreSnapshot) ([]byte, error) {
	key := s.keys.Snapshot(e.Name)
	if err := s.bucket.Put(ctx, key, e.Encode(), e.Nonce); err != nil {
		return nil, err
	}
	return s.bucket.Get(ctx, key, objectlog.Extent{})
}

// deleteSnapshots deletes what e covers: by name first, then by listing.
func (s *Shard) deleteSnapshots(ctx context.Context, e DeleteSnapshots) error {
	for _, n := range e.Names {
		if e.Covers(n) {
			if err := s.bucket.Delete(ctx, s.keys.Snapshot(n)); err != nil {
				return err
			}
		}
	}
	if e.Below <= 0 {
		return nil
	}
	prefix, after := s.keys.SnapshotPrefix(s.shard), ""
	for {
		objects, err := s.bucket.List(ctx, prefix, after, listMax)
		if err != nil {
			return err
		}
		for _, o := range objects {
			after = o.Key
			if n, ok := s.keys.ParseSnapshot(o.Key); ok && n.Shard == s.shard && e.Covers(n) {
				if err := s.bucket.Delete(ctx, o.Key); err != nil {
					return err
				}
			}
		}
		if len(objects) < listMax {
			return nil
		}
	}
}
