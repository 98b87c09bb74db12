package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/shardlog"
	"github.com/splashdam/splashdam/objectlog"
)

// ErrNoCluster: the table is there, but no cluster was made in it.
var ErrNoCluster = errors.New("no cluster was made in this table yet")

// formatLevel is that of everything this program writes: items, entries, segments.
const formatLevel = 1

// cluster is the value of the item that makes a table a cluster.
type cluster struct {
	ID     string `json:"id"`
	Format int    `json:"format"`
	Shards int    `json:"shards"`
	Slots  int    `json:"slots"`
	// Table is the table's own identity when the cluster was made, empty where tables have none. A restored copy has another.
	Table string `json:"table,omitempty"`
	// Mark is the mark's own UUID, so that a cluster has its objects in one place only: a making that was cut off may have marked
	// another bucket before.
	Mark string `json:"mark,omitempty"`
	// Ready is set once every item that a cluster must have exists. From then on a missing one is damage.
	Ready bool `json:"ready"`
}

func (c cluster) encode() []byte {
	value, _ := json.Marshal(c) // a struct of numbers and strings always encodes
	return value
}

// Create makes the cluster in bucket and table, or finds it there: made says which. What was cut off is gone on with. It refuses
// what Open refuses.
func Create(ctx context.Context, cfg Config, bucket objectlog.Bucket, table metadata.Table) (id objectlog.UUID, made bool, err error) {
	if err := cfg.Validate(); err != nil {
		return id, false, fmt.Errorf("create cluster: %w", err)
	}
	j := &joiner{cfg: cfg.withDefaults(), bucket: bucket, table: table}
	c, made, err := j.find(ctx)
	if err != nil {
		return id, false, fmt.Errorf("create cluster: %w", err)
	}
	return j.keys(c).Cluster, made, nil
}

// joiner finds or makes the cluster in a bucket and a table.
type joiner struct {
	cfg    Config
	bucket objectlog.Bucket
	table  metadata.Table
}

// find answers the cluster of the table, and makes it if the table has none. Every step of the making may be repeated,
// by this agent or others, so a making that was cut off is just gone on with:
//
//	cluster item, not ready · mark in the bucket · counters · rings and lease items · cluster item, ready
func (j *joiner) find(ctx context.Context) (c cluster, made bool, err error) {
	item, ok, err := j.table.Get(ctx, metadata.ClusterKey())
	if err != nil {
		return c, false, fmt.Errorf("read the cluster item: %w", err)
	}
	if !ok {
		if j.cfg.JoinOnly {
			return c, false, ErrNoCluster
		}
		if item, err = j.found(ctx); err != nil {
			return c, false, err
		}
	}
	if c, err = j.check(item); err != nil {
		return c, false, err
	}
	if c.Ready {
		return c, false, j.checkMark(ctx, c)
	}
	if j.cfg.JoinOnly {
		return c, false, fmt.Errorf("cluster %s is not complete: its making is under way or was cut off, go on with it (splashdam cluster init)", c.ID)
	}
	c, err = j.finish(ctx, c, item)
	return c, err == nil, err
}

// found puts the item of a new cluster and answers the one that is there then.
func (j *joiner) found(ctx context.Context) (metadata.Item, error) {
	if err := j.checkEmpty(ctx); err != nil {
		return metadata.Item{}, err
	}
	c := cluster{ID: j.newUUID().String(), Format: formatLevel, Shards: cmp.Or(j.cfg.Shards, shardsDefault), Slots: cmp.Or(j.cfg.Slots, slotsDefault), Table: j.cfg.TableID}
	item := metadata.Item{Key: metadata.ClusterKey(), Rev: 1, Value: c.encode()}
	switch r := j.table.Put(ctx, item, metadata.If{}); {
	case r.Outcome == metadata.Applied:
		return item, nil
	case r.Outcome == metadata.Refused && r.Current != nil:
		return *r.Current, nil // another agent was faster
	default:
		return metadata.Item{}, fmt.Errorf("put the cluster item: outcome unknown: %w", r.Err)
	}
}

// checkEmpty refuses to found a cluster where another one has left something: a lost item is not a new table.
func (j *joiner) checkEmpty(ctx context.Context) error {
	for _, key := range []metadata.Key{metadata.AgentKey("next"), metadata.ProducersKey(), metadata.LeaseKey(0)} {
		_, ok, err := j.table.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("look for %s %s: %w", key.PK, key.SK, err)
		}
		if ok {
			return fmt.Errorf("cluster item: %w", errDamaged)
		}
	}
	id, _, err := j.readMark(ctx)
	if err != nil || id == "" {
		return err
	}
	// Another agent may be founding the very cluster, and then its item is there by now.
	if _, ok, err := j.table.Get(ctx, metadata.ClusterKey()); err != nil || ok {
		return err
	}
	return fmt.Errorf("the table is empty, but the bucket holds cluster %s under prefix %q: restore its table, or use another prefix or bucket", id, j.cfg.Prefix)
}

// mark puts the mark, or finds it there, and answers its own UUID.
func (j *joiner) mark(ctx context.Context, c cluster) (string, error) {
	own := j.newUUID()
	err := j.bucket.Put(ctx, j.keys(c).Mark(), []byte(c.ID+" "+own.String()+"\n"), own)
	if !errors.Is(err, objectlog.ErrExists) {
		if err != nil {
			err = fmt.Errorf("put the cluster's mark: %w", err)
		}
		return own.String(), err
	}
	id, there, err := j.readMark(ctx)
	switch {
	case err != nil:
		return "", err
	case id != c.ID:
		return "", fmt.Errorf("prefix %q of the bucket belongs to another cluster, %s: use another prefix or bucket", j.cfg.Prefix, id)
	}
	return there, nil // of a making that was cut off, or of another agent's
}

// readMark answers the cluster that the prefix belongs to, and the mark's own UUID; empty when it is nobody's.
func (j *joiner) readMark(ctx context.Context) (id, own string, err error) {
	key := objectlog.Keys{Prefix: j.cfg.Prefix}.Mark()
	body, err := j.bucket.Get(ctx, key, objectlog.Extent{})
	switch {
	case errors.Is(err, objectlog.ErrNotFound):
		return "", "", nil
	case err != nil:
		return "", "", fmt.Errorf("read whose the prefix is: %w", err)
	}
	id, own, ok := strings.Cut(strings.TrimSuffix(string(body), "\n"), " ")
	if !ok {
		return "", "", fmt.Errorf("read whose the prefix is: %s: %w", key, errDamaged)
	}
	return id, own, nil
}

// check decodes the cluster item and compares it with the configuration.
func (j *joiner) check(item metadata.Item) (cluster, error) {
	var c cluster
	if err := json.Unmarshal(item.Value, &c); err != nil {
		return c, fmt.Errorf("cluster item: %w: %w", errDamaged, err)
	}
	if c.Format != formatLevel {
		return c, fmt.Errorf("cluster %s has format level %d, this program knows %d: use the program that wrote it, or a later one", c.ID, c.Format, formatLevel)
	}
	if _, err := objectlog.ParseUUID(c.ID); err != nil || c.Shards < 1 || c.Slots < 1 {
		return c, fmt.Errorf("cluster item: %w", errDamaged)
	}
	if c.Table != "" && c.Table != j.cfg.TableID {
		return c, fmt.Errorf("cluster %s was made in the table with the id %s, this one has the id %q: it was restored, copied or made anew, "+
			"and what was written since is not in it; use the table that the cluster was made in", c.ID, c.Table, j.cfg.TableID)
	}
	if j.cfg.Shards != 0 && c.Shards != j.cfg.Shards {
		return c, fmt.Errorf("cluster %s has %d shards, not %d: the number is fixed at its creation", c.ID, c.Shards, j.cfg.Shards)
	}
	if j.cfg.Slots != 0 && c.Slots != j.cfg.Slots {
		return c, fmt.Errorf("cluster %s has rings of %d slots, not %d: the size is fixed at its creation", c.ID, c.Slots, j.cfg.Slots)
	}
	return c, nil
}

// checkMark refuses a bucket that is not the cluster's.
func (j *joiner) checkMark(ctx context.Context, c cluster) error {
	switch id, own, err := j.readMark(ctx); {
	case err != nil:
		return err
	case id == "":
		return fmt.Errorf("bucket and table do not belong together: cluster %s of the table has no %s in the bucket; check both addresses and the prefix", c.ID, j.keys(c).Mark())
	case id != c.ID:
		return fmt.Errorf("bucket and table do not belong together: the table has cluster %s, the bucket %s under prefix %q; check both addresses and the prefix", c.ID, id, j.cfg.Prefix)
	case own != c.Mark:
		return fmt.Errorf("bucket and table do not belong together: cluster %s was completed in another bucket or prefix than this one, which only a making that was cut off has marked; "+
			"check both addresses and the prefix", c.ID)
	}
	return nil
}

func (j *joiner) keys(c cluster) objectlog.Keys {
	id, _ := objectlog.ParseUUID(c.ID) // check has parsed it
	return objectlog.Keys{Prefix: j.cfg.Prefix, Cluster: id}
}

// finish makes what a cluster must have, then says that it is ready.
func (j *joiner) finish(ctx context.Context, c cluster, item metadata.Item) (cluster, error) {
	mark, err := j.mark(ctx, c)
	if err != nil {
		return c, err
	}
	for _, key := range []metadata.Key{metadata.AgentKey("next"), metadata.ProducersKey()} {
		if r := j.table.Put(ctx, counterItem(key, 1, 1, c.ID), metadata.If{}); r.Outcome == metadata.Unknown {
			return c, fmt.Errorf("put counter %s: outcome unknown: %w", key.PK, r.Err)
		}
	}
	for i := range c.Shards {
		if err := shardlog.Create(ctx, j.table, objectlog.Shard(i), c.Slots, j.cfg.Random); err != nil {
			return c, fmt.Errorf("make the ring of shard %d: %w", i, err)
		}
	}
	c.Ready, c.Mark = true, mark
	ready := metadata.Item{Key: item.Key, Rev: item.Rev + 1, Value: c.encode()}
	r := j.table.Put(ctx, ready, metadata.RevIs(item.Rev))
	switch {
	case r.Outcome == metadata.Applied:
		return c, nil
	case r.Outcome == metadata.Refused && r.Current != nil: // an earlier sending, or another agent was faster
		if c, err = j.check(*r.Current); err == nil {
			err = j.checkMark(ctx, c)
		}
		return c, err
	}
	return c, fmt.Errorf("put the cluster item: outcome unknown, go on with it: %w", r.Err)
}

func (j *joiner) newUUID() objectlog.UUID { return objectlog.NewUUID(j.cfg.Random) }
