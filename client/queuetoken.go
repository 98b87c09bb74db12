package client

// Token names this delivery of the record, for another process that acknowledges it: see Queue.Locked.
func (r *QueuedRecord) Token() []byte { return r.token }

// Locked is a record of the queue of which only the token is known. It can be acknowledged, here as where it was pulled.
func (q *Queue) Locked(token []byte) *QueuedRecord {
	return &QueuedRecord{Record: Record{Topic: q.cfg.Topic, Partition: AnyPartition, Offset: NoOffset}, token: token}
}
