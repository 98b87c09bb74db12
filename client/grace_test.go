package client

import "time"

// SetGrace makes a Run that is to end wait less long for its handlers.
func (q *Queue) SetGrace(d time.Duration) { q.grace = d }
