package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/splashdam/splashdam/objectlog"
	"github.com/splashdam/splashdam/objectlog/file"
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
the key of an object in the data folder that --data names. Damage is printed where it is found, and the rest goes on; the
exit code is 1 then.

-o json prints one object with all fields of every batch. Key and value of a record are text, or base64 under key_base64
and value_base64 when they are not; a null is left out. Damage is {"at": byte, "cause": text} where it is found, and error
is the first.`,
		Args: oneArgument("FILE|KEY"),
		RunE: func(_ *cobra.Command, args []string) error { return env.dumpSegment(args[0], records) },
	}
	cmd.Flags().BoolVar(&records, "records", false, "print the records too")
	return cmd
}

func (env *environment) dumpSegment(name string, records bool) error {
	body, damage, err := env.readSegment(name)
	if err != nil {
		return &terminalError{op: "dump segment", object: name, cause: unwrapPath(err), hint: "want a file, or a key in the folder of --data"}
	}
	d := objectlog.DescribeSegment(body, records)
	if err := d.Err(); err != nil {
		damage = err // it says where
	} else if damage != nil {
		d.Error = damage.Error()
	}
	var writeErr error
	if err := env.print(&d, func() { writeErr = d.WriteText(env.out) }); err != nil {
		return err
	}
	if writeErr != nil {
		return fmt.Errorf("print result: %w", writeErr)
	}
	if damage != nil {
		return &terminalError{op: "dump segment", object: name, cause: damage}
	}
	return nil
}

// readSegment reads a file or the object of a key. damage is what is wrong with the file around the segment.
func (env *environment) readSegment(name string) (body []byte, damage, err error) {
	b, err := os.ReadFile(name)
	isKey := errors.Is(err, os.ErrNotExist) && !filepath.IsAbs(name)
	if isKey {
		b, err = os.ReadFile(filepath.Join(env.config.Data, bucketFolder, filepath.FromSlash(name)))
	}
	if err != nil {
		return nil, nil, err
	}
	body, damage = file.Body(b)
	if errors.Is(damage, file.ErrNoTrailer) && !isKey {
		damage = nil // a segment that was copied from elsewhere has none
	}
	return body, damage, nil
}
