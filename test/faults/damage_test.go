package faults

import (
	"context"
	"errors"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/splashdam/splashdam/client"
	"github.com/splashdam/splashdam/metadata"
	"github.com/splashdam/splashdam/metadata/dynamo"
	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/s3"
	"github.com/splashdam/splashdam/test/faultproxy"
)

// manySlots are enough for a short history to need no snapshot: all its entries are replayed from the ring.
const manySlots = 1024

// damaged is a cluster with some history whose agent was killed, to be damaged by an edit of its stores.
type damaged struct {
	*cluster
	agent   *instance
	load    *load
	objects *s3.Bucket    // direct
	items   *dynamo.Table // direct
	rings   []string      // their ids
}

var ringOfKey = regexp.MustCompile(`ring#([0-9a-f-]{36})#`)

// newDamaged makes one; with less than manySlots its rings have gone round.
func newDamaged(t *testing.T, slots int) damaged {
	t.Helper()
	d := damaged{cluster: newCluster(t, slots)}
	d.agent = d.newInstance(t)
	// Nothing but a way to learn the keys of the rings.
	d.setRules(t, nil, list(all("PutItem", "ring#", faultproxy.Action{DelayMillis: 1})))
	d.agent.start()
	d.agent.awaitReady()
	d.load = startLoad(t, client.HTTPAuto, d.agent.address)
	d.load.awaitAcks(100)
	if slots < manySlots {
		d.load.awaitLap(d.agent.address) // without its snapshots the log has no beginning
	}
	d.load.finish()
	d.agent.crash()
	for _, f := range d.table.Faults() {
		if m := ringOfKey.FindStringSubmatch(f.Key); m != nil && !slices.Contains(d.rings, m[1]) {
			d.rings = append(d.rings, m[1])
		}
	}
	if len(d.rings) != shards {
		t.Fatalf("puts to %d rings, want %d", len(d.rings), shards)
	}
	d.heal()
	d.objects, d.items = directBucket(t, d.cluster.objects, d.name), directTable(t, d.cluster.log, d.name)
	return d
}

func directBucket(t *testing.T, endpoint, prefix string) *s3.Bucket {
	t.Helper()
	cfg, _, err := s3.ParseAddress(bucketAddress(endpoint, prefix))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s3.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func directTable(t *testing.T, endpoint, name string) *dynamo.Table {
	t.Helper()
	cfg, err := dynamo.ParseAddress(tableAddress(endpoint, name))
	if err != nil {
		t.Fatal(err)
	}
	table, err := dynamo.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// keys lists the objects with a suffix.
func (d damaged) keys(t *testing.T, suffix string) []string {
	t.Helper()
	var found []string
	for after := ""; ; {
		page, err := d.objects.List(t.Context(), d.name+"/", after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page {
			if after = o.Key; strings.HasSuffix(o.Key, suffix) {
				found = append(found, o.Key)
			}
		}
		if len(page) < 1000 {
			break
		}
	}
	if len(found) == 0 {
		t.Fatalf("no %s in the bucket", suffix)
	}
	return found
}

// edit replaces objects by what change makes of them; nil: by nothing.
func (d damaged) edit(t *testing.T, keys []string, change func([]byte) []byte) {
	t.Helper()
	for i, key := range keys {
		body, err := d.objects.Get(t.Context(), key, objectlog.Extent{})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.objects.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if body = change(body); body == nil {
			continue
		}
		if err := d.objects.Put(t.Context(), key, body, objectlog.UUID{15: byte(i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
}

func flipMiddle(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)/2] ^= 0x10
	return b
}

// flipRecords flips a bit in each of some bytes in a row where the batches of a segment lie. A single one may hit what the log knows better, such as
// a base offset, or the footer, which no reader needs.
func flipRecords(b []byte) []byte {
	b = slices.Clone(b)
	for i := len(b) / 4; i < len(b)/4+24; i++ {
		b[i] ^= 0x10
	}
	return b
}

func half(b []byte) []byte { return b[:len(b)/2] }

func nothing([]byte) []byte { return nil }

func TestDamagedSegmentIsAnErrorAndNeverOtherData(t *testing.T) {
	t.Parallel()
	for _, damage := range []struct {
		name   string
		change func([]byte) []byte
	}{
		{"F18 bits flipped in a segment", flipRecords},
		{"F18 segment cut short", half},
		{"F19 segment deleted", nothing},
	} {
		t.Run(damage.name, func(t *testing.T) {
			t.Parallel()
			d := newDamaged(t, slots)
			segments := d.keys(t, ".seg")
			d.edit(t, segments[len(segments)/2:len(segments)/2+1], damage.change)
			d.agent.start()
			d.agent.awaitReady()
			r := d.load.h.Reader("reader of damaged data")
			err := d.load.read(r, d.agent.address)
			if e := (*client.Error)(nil); !errors.As(err, &e) || e.Code != "data_loss" {
				t.Errorf("got %v, want data_loss", err)
			}
			d.load.result(damage.name, -1, 1) // nothing wrong was read, nothing skipped
		})
	}
}

func TestBitsFlippedOnTheWayAreNoDamage(t *testing.T) {
	t.Parallel()
	d := newDamaged(t, slots)
	if err := d.bucket.SetRules(every(2, "get", "/seg/", faultproxy.Action{Do: faultproxy.FlipBit})); err != nil {
		t.Fatal(err)
	}
	d.agent.start()
	d.agent.awaitReady()
	// An error or the records, nothing else.
	r := d.load.h.Reader("reader behind a noisy line")
	if err := d.load.read(r, d.agent.address); err != nil {
		t.Log(err)
	}
	played := len(d.bucket.Faults())
	if played == 0 {
		t.Error("no bit was flipped")
	}
	d.heal()
	d.load.readAll("reader of the healed line", d.agent.address)
	d.load.result("F18 bits flipped in answers of the bucket", -1, played)
}

// says starts the agent and answers what it says of the damage. It must not be ready as if nothing were wrong: it ends with exit status 1 when no
// shard is left, and else serves the others and shows in the cluster's status which one stopped.
func (d damaged) says(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, d.agent.args...)
	cmd.Env = cleanEnvironment()
	var said lockedBuffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("got %v, want exit status 1 or a word in the cluster's status: %s", err, said.String())
			}
			return strings.TrimSpace(said.String())
		case <-poll.C:
		}
		if ready, _, err := d.agent.readyz(); err != nil || !ready || !strings.Contains(said.String(), "shard halted") {
			continue
		}
		status, err := run("cluster", "status", "--server", d.agent.address)
		if err != nil || !strings.Contains(status, "shard halted") {
			t.Errorf("the status says nothing of it: %v: %s", err, status)
		}
		_ = cmd.Process.Kill()
		<-ended
		return status
	}
}

// newest is the last entry of a ring.
func (d damaged) newest(t *testing.T, ring string) metadata.Item {
	t.Helper()
	id, err := objectlog.ParseUUID(ring)
	if err != nil {
		t.Fatal(err)
	}
	var last metadata.Item
	for seq := range metadata.Seq(manySlots) {
		item, ok, err := d.items.Get(t.Context(), metadata.SlotKey(id, manySlots, seq))
		if err != nil || !ok {
			t.Fatalf("slot %d: %t, %v", seq, ok, err)
		}
		if item.Rev < 0 {
			return last
		}
		last = item
	}
	t.Fatal("the ring is full")
	return last
}

// editItem is a conditional edit of one item; a nil value removes it.
func (d damaged) editItem(t *testing.T, item metadata.Item, value []byte) {
	t.Helper()
	var r metadata.PutResult
	if value == nil {
		r = d.items.Delete(t.Context(), item.Key, metadata.RevIs(item.Rev))
	} else {
		r = d.items.Put(t.Context(), metadata.Item{Key: item.Key, Rev: item.Rev, Value: value}, metadata.RevIs(item.Rev))
	}
	if r.Outcome != metadata.Applied {
		t.Fatalf("edit %v: %v", item.Key, r.Err)
	}
}

func TestDamagedLogStopsTheAgentLoudly(t *testing.T) {
	t.Parallel()
	for _, damage := range []struct {
		name   string
		change func([]byte) []byte
	}{
		{"F18 bit flipped in a slot", flipMiddle},
		{"F18 slot cut short", half},
		{"F19 slot deleted", nothing},
	} {
		t.Run(damage.name, func(t *testing.T) {
			t.Parallel()
			d := newDamaged(t, manySlots)
			item := d.newest(t, d.rings[0])
			d.editItem(t, item, damage.change(item.Value))
			d.staysHalted(t, damage.name, "slot")
		})
	}
	t.Run("F18 bit flipped in a lease item", func(t *testing.T) {
		t.Parallel()
		d := newDamaged(t, slots)
		item, ok, err := d.items.Get(t.Context(), metadata.LeaseKey(1))
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		d.editItem(t, item, flipMiddle(item.Value))
		d.staysHalted(t, "F18 bit flipped in a lease item", "lease")
	})
	t.Run("F18 bit flipped in snapshots", func(t *testing.T) {
		t.Parallel()
		d := newDamaged(t, slots)
		d.edit(t, d.keys(t, ".snap"), flipMiddle)
		d.staysHalted(t, "F18 bit flipped in snapshots", "snapshot")
	})
}

// staysHalted starts the agent twice on damaged state: it must have a word about what is damaged, and not mend anything by itself.
func (d damaged) staysHalted(t *testing.T, name, word string) {
	t.Helper()
	for range 2 {
		began := time.Now()
		said := d.says(t)
		if !strings.Contains(said, word) || !strings.Contains(strings.ToLower(said), "shard ") {
			t.Errorf("want a word about the shard's %s, got %q", word, said)
		}
		t.Logf("after %s: %s", time.Since(began).Round(time.Millisecond), said)
	}
	d.load.result(name, -1, 1)
}
