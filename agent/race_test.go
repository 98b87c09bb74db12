//go:build race

package agent

// underRace: a timer of a bubble of virtual time that fires within a select does so in the race detector's context of that bubble's timers, whichever
// goroutine it is. On two processors at once that breaks the detector itself (Go 1.26), which takes the test with it. On one processor it finds races of
// goroutines as well.
const underRace = true
