package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestReadmeListsEverySettingAsItIs(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, s := range settings() {
		fallback := "none"
		if s.fallback != "" {
			fallback = "`" + s.fallback + "`"
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", s.name, fallback, strings.Join(s.verbs, ", "), s.doc)
	}
	if !strings.Contains(string(text), "|---|---|---|---|\n"+want.String()+"\n") {
		t.Errorf("the settings table of README.md is not what Config says:\n%s", want.String())
	}
}
