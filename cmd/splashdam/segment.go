package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/objectlog"
)

func newSegment(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "segment",
		Short: "Look into stored segments",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	addSettings(cmd, "segment")
	cmd.AddCommand(newSegmentDump(env))
	return cmd
}

func newSegmentDump(env *environment) *cobra.Command {
	var records bool
	cmd := &cobra.Command{
		Use:   "dump FILE|KEY",
		Short: "Print what a segment holds, and check every checksum in it",
		Long: `Dump prints a segment as objectlog/FORMAT.md describes it: header, runs, batches, footer. The argument is a file, or
the key of an object in the data folder that --data names.`,
		Args: oneArgument("FILE|KEY"),
		RunE: func(_ *cobra.Command, args []string) error { return env.dumpSegment(args[0], records) },
	}
	cmd.Flags().BoolVar(&records, "records", false, "print the records too")
	return cmd
}

// What the bucket on a local folder writes behind the object's own bytes: see objectlog/file/trailer.go. A segment that was
// copied from elsewhere has none.
const (
	fileTrailerBytes = 40
	fileTrailerMagic = "SplashO1"
)

func (env *environment) dumpSegment(name string, records bool) error {
	body, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) && !filepath.IsAbs(name) {
		body, err = os.ReadFile(filepath.Join(env.config.Data, bucketFolder, filepath.FromSlash(name)))
	}
	if err != nil {
		return &terminalError{op: "dump segment", object: name, cause: unwrapPath(err), hint: "want a file, or a key in the folder of --data"}
	}
	if len(body) > fileTrailerBytes && bytes.HasSuffix(body, []byte(fileTrailerMagic)) {
		body = body[:len(body)-fileTrailerBytes]
	}
	out := bufio.NewWriter(env.out)
	dumpErr := objectlog.Dump(out, body, records)
	if err := out.Flush(); err != nil {
		return err
	}
	if dumpErr != nil {
		return &terminalError{op: "dump segment", object: name, cause: dumpErr}
	}
	return nil
}
