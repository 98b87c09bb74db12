//go:build !unix

package main

import "os/exec"

// separate does nothing: there are no groups of processes here that a signal reaches.
func separate(*exec.Cmd) {}

// endGroup does nothing, as separate.
func endGroup(*exec.Cmd) {}
