package agent

import "github.com/splashdam/splashdam/metadata/shardlog"

// Replicas describes the own replicas, by shard number, for those who watch this agent, and asks nobody. behind: entries that the shard's leader had
// applied, when it was heard last, and the replica has not. live: agents that are alive as far as this one knows, itself included.
func (a *Agent) Replicas() (replicas []shardlog.Status, behind []int64, live int) {
	live = 1
	if a.leaders != nil {
		live = len(a.leaders.live())
	}
	for i, s := range a.shards {
		status, entries := s.log.Status(), int64(0)
		if a.leaders != nil && status.Role != shardlog.RoleLeading {
			if said, ago := a.leaders.last(status.Leader); ago >= 0 && i < len(said.Shards) {
				entries = max(0, int64(said.Shards[i].Applied-status.Applied))
			}
		}
		replicas, behind = append(replicas, status), append(behind, entries)
	}
	return replicas, behind, live
}
