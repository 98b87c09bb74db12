package shardlog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/splashdam/splashdam/metadata"
)

// startNewer adds a replica of a version that has one more machine.
func (w *world) startNewer() (n *node, newer *list) {
	n = w.start()
	newer = &list{}
	cfg := w.config(n.boot)
	cfg.SnapshotEveryEntries = 4
	n.effects = nil
	n.core = New(cfg, []Registration{{Name: "list", From: 1, To: 64, Machine: n.list}, {Name: "newer", From: 64, To: 96, Machine: newer}})
	n.step(Tick{})
	return n, newer
}

func TestMachineThatIsNewerThanTheSnapshotBeginsInItsInitialState(t *testing.T) {
	w := filled(t)
	n, newer := w.startNewer()
	w.untilLeading(n)
	n.wantItems("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
	if len(newer.items) != 0 {
		t.Fatalf("the newer machine holds %v", newer.items)
	}
	for i := range 8 {
		n.step(Proposed{ID: uint64(1000 + i), Commands: []metadata.Command{{Kind: 64, Body: []byte(fmt.Sprint("newer ", i))}}})
		w.settle()
	}
	n.kill()

	again, newer := w.startNewer() // from a snapshot that has both
	w.untilLeading(again)
	if got := strings.Join(newer.items, ","); got != "newer 0,newer 1,newer 2,newer 3,newer 4,newer 5,newer 6,newer 7" {
		t.Fatalf("the newer machine holds %s", got)
	}
	again.kill()

	older := w.start()
	w.until("it halts", func() bool { return older.status().Role == RoleHalted })
	if err := older.status().Fault; err == nil || !strings.Contains(err.Error(), "at most 1 sections") {
		t.Fatalf("halted by %v", err)
	}
}
