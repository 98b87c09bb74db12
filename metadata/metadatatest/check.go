package metadatatest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/splashdam/splashdam/metadata"
)

func (s suite) key(sk string) metadata.Key { return metadata.Key{PK: s.pk, SK: sk} }

func (s suite) item(sk string, rev metadata.Rev, value string) metadata.Item {
	return metadata.Item{Key: s.key(sk), Rev: rev, Value: []byte(value)}
}

func (s suite) apply(item metadata.Item, cond metadata.If) {
	s.Helper()
	s.wantOutcome(metadata.Applied, s.table.Put(s.ctx, item, cond))
}

// refuse wants the put refused by current, nil for an absent item.
func (s suite) refuse(item metadata.Item, cond metadata.If, current *metadata.Item) {
	s.Helper()
	r := s.table.Put(s.ctx, item, cond)
	s.wantOutcome(metadata.Refused, r)
	if (r.Current == nil) != (current == nil) || current != nil && r.Current != nil && !equal(*r.Current, *current) {
		s.Errorf("put %v rev %d if %+v: %s", item.Key, item.Rev, cond, describe(r))
	}
}

func (s suite) get(sk string) (metadata.Item, bool) {
	s.Helper()
	item, ok, err := s.table.Get(s.ctx, s.key(sk))
	if err != nil {
		s.Errorf("get %s: %v", sk, err)
	}
	return item, ok
}

func (s suite) query(after string, limit int) []metadata.Item {
	s.Helper()
	items, err := s.table.Query(s.ctx, s.pk, after, limit)
	if err != nil {
		s.Errorf("query after %q: %v", after, err)
	}
	return items
}

func (s suite) wantItem(want metadata.Item) {
	s.Helper()
	got, ok, err := s.table.Get(s.ctx, want.Key)
	if err != nil || !ok || !equal(got, want) {
		s.Errorf("get %v: rev %d, %d bytes, %v, %v; want rev %d, %d bytes", want.Key, got.Rev, len(got.Value), ok, err, want.Rev, len(want.Value))
	}
}

func (s suite) wantAbsent(sk string) {
	s.Helper()
	if item, ok := s.get(sk); ok {
		s.Errorf("get %s: rev %d, want absent", sk, item.Rev)
	}
}

func (s suite) wantQuery(after string, limit int, want []string) {
	s.Helper()
	var got []string
	for _, item := range s.query(after, limit) {
		got = append(got, item.Key.SK)
		if item.Key.PK != s.pk {
			s.Errorf("query answers an item of %s", item.Key.PK)
		}
	}
	if !slices.Equal(got, want) {
		s.Errorf("query after %q limit %d: %q, want %q", after, limit, got, want)
	}
}

func (s suite) wantOutcome(want metadata.Outcome, r metadata.PutResult) {
	s.Helper()
	if r.Outcome != want || r.Err != nil || want == metadata.Applied && r.Current != nil {
		s.Errorf("got %s, want %s", describe(r), describe(metadata.PutResult{Outcome: want}))
	}
}

func equal(a, b metadata.Item) bool {
	return a.Key == b.Key && a.Rev == b.Rev && bytes.Equal(a.Value, b.Value)
}

func describe(r metadata.PutResult) string {
	switch {
	case r.Outcome == metadata.Applied:
		return "Applied"
	case r.Outcome == metadata.Unknown:
		return fmt.Sprintf("Unknown (%v)", r.Err)
	case r.Current == nil:
		return "Refused"
	}
	return fmt.Sprintf("Refused by rev %d, %d bytes", r.Current.Rev, len(r.Current.Value))
}
