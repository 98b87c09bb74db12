package metadata

import (
	"fmt"
	"strings"

	"github.com/splashdam/splashdam/objectlog"
)

// This file names every key of the table.
//
//	pk                      sk          value
//	cluster                 meta        cluster id, format level, shards, ring size, table id
//	agents                  next        counter of boot ordinals
//	agents                  <boot>      ordinal, addresses, zone, version, heartbeat
//	shard#<n>               lease       ring id, holder, epoch, lease nonce, snapshots
//	ring#<ring>#<slot%16>   <slot, 6>   one entry of a shard log
//	producers               next        counter of producer ids
//	self-test               <random>    scratch item of a starting agent, removed again
//
// A ring spreads over sixteen partition keys because one key takes 1,000 write units a second.

const ringSpread = 16

// ClusterKey is the item that makes a table a cluster.
func ClusterKey() Key { return Key{"cluster", "meta"} }

// AgentKey is the item of one boot; AgentKey("next") counts boot ordinals.
func AgentKey(boot string) Key { return Key{"agents", boot} }

// Family answers what kind of item the key is for: "cluster", "agents", "shard", "ring" or "producers".
func (k Key) Family() string {
	family, _, _ := strings.Cut(k.PK, "#")
	return family
}

// LeaseKey is the shard's lease item.
func LeaseKey(s objectlog.Shard) Key { return Key{fmt.Sprintf("shard#%d", s), "lease"} }

// SlotKey is the ring slot of the entry with this seq, in a ring of the given number of slots.
func SlotKey(ring objectlog.UUID, slots int, n Seq) Key {
	slot := int(n % Seq(slots))
	return Key{fmt.Sprintf("ring#%s#%d", ring, slot%ringSpread), fmt.Sprintf("%06d", slot)}
}

// ProducersKey counts producer ids.
func ProducersKey() Key { return Key{"producers", "next"} }

// SelfTestKey is a scratch item, of one start of one agent.
func SelfTestKey(random string) Key { return Key{"self-test", random} }
