package client

// Generation is the group's generation in which a partition is this member's, and in which it commits: a later one when asked again, while others come
// and go. In OnRevoked it is still the old one. 0: the partition is not this member's, or not any more, as in OnLost. No two members of a group have
// a partition in one generation.
func (c *Consumer) Generation(topic string, p Partition) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.member == nil || c.cursors[place{topic, p}] == nil {
		return 0
	}
	_, generation := c.member.core.Committing()
	return generation
}
