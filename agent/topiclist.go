package agent

import (
	"sync"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/objectlog"
)

// topicList is the active topics at one moment. It is not changed.
type topicList struct {
	version uint64 // of the catalog
	byName  map[string]metadata.Topic
	byID    map[objectlog.UUID]metadata.Topic
}

// Topic implements groups.Catalog.
func (l *topicList) Topic(name string) (objectlog.UUID, int32, bool) {
	t, ok := l.byName[name]
	return t.ID, t.Partitions, ok
}

// Names implements groups.Catalog.
func (l *topicList) Names(f func(string)) {
	for name := range l.byName {
		f(name)
	}
}

// topicLists keeps the newest list.
type topicLists struct {
	mu     sync.Mutex // taken before the catalog is read
	newest *topicList
}

// of answers the active topics in the catalog as it is applied here: the same list until that changes.
func (l *topicLists) of(catalog shard) *topicList {
	l.mu.Lock()
	defer l.mu.Unlock()
	catalog.log.Read(func(metadata.Seq) {
		version := catalog.state.CatalogChanges() + 1 // 0 is no catalog's
		if l.newest != nil && l.newest.version == version {
			return
		}
		l.newest = &topicList{version: version, byName: map[string]metadata.Topic{}, byID: map[objectlog.UUID]metadata.Topic{}}
		for after := ""; ; {
			page := catalog.state.Topics(after, topicsPage)
			if len(page) == 0 {
				return
			}
			for _, t := range page {
				if after = t.Name; t.State == metadata.TopicActive {
					l.newest.byName[t.Name], l.newest.byID[t.ID] = t, t
				}
			}
		}
	})
	return l.newest
}
