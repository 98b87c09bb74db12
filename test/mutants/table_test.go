package main

import "testing"

// A row whose text was edited away breaks nothing, and would be noticed only by whoever plays it.
func TestEveryMutantStillApplies(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		if _, err := overlayFor(root, t.TempDir(), m); err != nil {
			t.Errorf("%s %s: %v", m.Hole, m.Rule, err)
		}
	}
}
