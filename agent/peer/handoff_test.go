package peer

import (
	"context"
	"testing"

	"github.com/splashdam/splashdam/objectlog"
)

func TestAHandOffNamesItsCallerAsTheHolder(t *testing.T) {
	var shard objectlog.Shard
	var holder objectlog.UUID
	var epoch objectlog.Epoch
	address := start(t, &fake{own: identity(calledBoot), takeOver: func(_ context.Context, s objectlog.Shard, h objectlog.UUID, e objectlog.Epoch) error {
		shard, holder, epoch = s, h, e
		return nil
	}})
	err := connected(t, identity(callerBoot)).HandOff(soon(t), called(address), 3, 9)
	if err != nil || shard != 3 || holder != uuid(callerBoot) || epoch != 9 {
		t.Errorf("got shard %d, holder %s, epoch %d, %v", shard, holder, epoch, err)
	}
}
