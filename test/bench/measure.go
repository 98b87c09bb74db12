package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// bench is one run: a broker of its own, and what is known of its process.
type bench struct {
	dir, data, binary string
	duration          time.Duration // of each measurement
	args              []string      // that start the broker

	*process // nil: it does not run
}

func (b *bench) start() (err error) {
	if b.process, err = startProcess(b.binary, b.args...); err != nil {
		return err
	}
	fmt.Printf("start to ready                      %d ms\n", b.ready.Milliseconds())
	return nil
}

func (b *bench) stop() error {
	err := b.process.stop()
	b.process = nil
	return err
}

func (b *bench) idle() error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.pid))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	line, _, _ := strings.Cut(rest, "\n")
	fmt.Printf("idle memory                         %s\n", strings.TrimSpace(line))
	return nil
}

// flatOut compares the broker with the minimal pipe at so many partitions.
func (b *bench) flatOut(partitions int) func() error {
	return func() error {
		before, err := b.cpu()
		if err != nil {
			return err
		}
		var r struct {
			Bytes int64   `json:"bytes"`
			Rate  float64 `json:"bytes_per_second"`
			Ratio float64 `json:"ratio_to_pipe"`
			Pipe  struct {
				Rate float64 `json:"bytes_per_second"`
			}
		}
		err = b.verb(&r, "produce", "--topic", fmt.Sprintf("flat-%d", partitions), "--partitions", strconv.Itoa(partitions), "--pipe-folder", b.dir)
		if err != nil {
			return err
		}
		after, err := b.cpu()
		if err != nil {
			return err
		}
		fmt.Printf("flat out, %3d partitions            %.1f MiB/s; minimal pipe %.1f MiB/s; ratio %.2f; agent CPU %.2f s/GiB\n",
			partitions, r.Rate/(1<<20), r.Pipe.Rate/(1<<20), r.Ratio, (after-before).Seconds()/float64(r.Bytes)*(1<<30))
		return nil
	}
}

// lowRate compares the wait for an acknowledgement at 1 MiB/s with the two fsyncs that it can't do without.
func (b *bench) lowRate() error {
	type percentiles struct {
		P50 float64 `json:"p50_ms"`
		P99 float64 `json:"p99_ms"`
	}
	var disk struct{ Segment, Table, Flush percentiles }
	if err := b.verb(&disk, "pipe", "--segment", "4KiB", "--folder", b.dir); err != nil {
		return err
	}
	var r struct {
		Ack      percentiles
		EndToEnd percentiles `json:"end_to_end"`
	}
	if err := b.verb(&r, "e2e", "--topic", "low", "--rate", "1024"); err != nil {
		return err
	}
	fmt.Printf("1 MiB/s, due to acknowledged        p50 %.2f ms, p99 %.2f ms; to received p50 %.2f ms, p99 %.2f ms\n", r.Ack.P50, r.Ack.P99, r.EndToEnd.P50, r.EndToEnd.P99)
	fmt.Printf("  fsync of segment + table          p50 %.2f ms, p99 %.2f ms (segment %.2f, table %.2f)\n", disk.Flush.P50, disk.Flush.P99, disk.Segment.P50, disk.Table.P50)
	return nil
}

func (b *bench) catchUp() error {
	var r struct {
		Rate    float64 `json:"bytes_per_second"`
		Records int64   `json:"records"`
	}
	if err := b.verb(&r, "consume", "--topic", "flat-1"); err != nil {
		return err
	}
	fmt.Printf("catch-up read, 1 partition          %.1f MiB/s, %d records\n", r.Rate/(1<<20), r.Records)
	return nil
}

// verb runs a verb of bench at the broker and reads its result.
func (b *bench) verb(result any, verb string, args ...string) error {
	return b.verbAt(b.address, b.duration, result, verb, args...)
}

func (b *bench) verbAt(address string, duration time.Duration, result any, verb string, args ...string) error {
	common := []string{"bench", verb, "-o", "json", "--server", address}
	if verb != "consume" {
		common = append(common, "--duration", duration.String())
	}
	args = append(common, args...)
	cmd := exec.Command(b.binary, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("splashdam %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return json.Unmarshal(out, result)
}
