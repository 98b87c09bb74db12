package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// print writes v as JSON when that was asked for, else calls text.
func (env *environment) print(v any, text func()) error {
	if env.output == "json" {
		enc := json.NewEncoder(env.out)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		return nil
	}
	text()
	return nil
}

// table writes aligned columns under a heading.
func (env *environment) table(heading []string, rows [][]string) {
	w := tabwriter.NewWriter(env.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heading, "\t"))
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	w.Flush()
}

// isTerminal says whether w is a terminal, where progress may be redrawn in place.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// humanBytes is n as a person reads it: 1.5 MiB.
func humanBytes(n float64) string {
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if n < 1024 {
			return fmt.Sprintf("%.4g %s", n, unit)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.4g GiB", n)
}

// humanCount is n with thousands apart: 1,000,000.
func humanCount(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted is n of what, whose plural ends in s: 1 member, 2,000 members.
func counted(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return humanCount(n) + " " + what
}
