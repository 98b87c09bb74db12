package client

import "time"

// SetGrace makes a Run that is to end wait less long for its handlers.
func (q *Queue) SetGrace(d time.Duration) { q.grace = d }

// Closing ends when Close has begun.
func (q *Queue) Closing() <-chan struct{} { return q.ctx.Done() }
