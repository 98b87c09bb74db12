//go:build !linux

package file

import "os"

// direct is for Linux only.
func direct(*os.File, bool) bool { return false }
