// Command feed writes a made-up feed of football events, one JSON object a line. The same seed gives the same lines.
//
//	go run ./test/feed -n 1000000 -seed 1 > events.ndjson
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/splashdam/splashdam/test/matches"
)

func main() {
	n := flag.Int("n", 1000, "number of lines")
	seed := flag.Uint64("seed", 1, "of the random numbers")
	count := flag.Int("matches", 3, fmt.Sprintf("matches at once, 1 to %d", matches.FixturesMax))
	speed := flag.Float64("speed", 0, "write in real time, so many times as fast; 0: at once")
	flag.Parse()
	if *n < 0 || *count < 1 || *count > matches.FixturesMax || *speed < 0 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "feed: a flag is out of its range, or an argument is too many")
		flag.Usage()
		os.Exit(2)
	}
	if err := write(os.Stdout, matches.New(*seed, *count), *n, *speed); err != nil {
		fmt.Fprintln(os.Stderr, "feed:", err)
		os.Exit(1)
	}
}

func write(w io.Writer, feed *matches.Feed, n int, speed float64) error {
	buffered := bufio.NewWriterSize(w, 1<<20)
	start := time.Now()
	for range n {
		e := feed.Next()
		if speed > 0 {
			due := start.Add(time.Duration(float64(e.At) / speed))
			if wait := time.Until(due); wait > 0 {
				if err := buffered.Flush(); err != nil {
					return fmt.Errorf("write feed: %w", err)
				}
				<-time.After(wait)
			}
		}
		buffered.Write(e.Line)
		if err := buffered.WriteByte('\n'); err != nil {
			return fmt.Errorf("write feed: %w", err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("write feed: %w", err)
	}
	return nil
}
