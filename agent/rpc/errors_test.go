package rpc

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/splashdam/splashdam/agent"
	"github.com/splashdam/splashdam/metadata"
)

// constants lists the names of a package's constants of one type, as its source declares them.
func constants(t *testing.T, dir, typeName string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			group, ok := d.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			ours := false
			for _, s := range group.Specs {
				spec := s.(*ast.ValueSpec)
				if spec.Type != nil || spec.Values != nil { // a line without either repeats the one before
					kind, _ := spec.Type.(*ast.Ident)
					ours = kind != nil && kind.Name == typeName
				}
				if ours {
					names = append(names, spec.Names[0].Name)
				}
			}
		}
	}
	return names
}

func TestEveryFaultAndReasonHasARow(t *testing.T) {
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	faults, reasons := constants(t, "..", "Fault"), constants(t, "../../metadata", "Reason")
	ofGroups, ofQueues := constants(t, "../../groups", "Reason"), constants(t, "../../queues", "Reason")
	if len(faults) < 9 || len(reasons) < 10 || len(ofGroups) < 8 || len(ofQueues) < 6 {
		t.Fatalf("found %v, %v, %v and %v, want at least 9 faults, and 10, 8 and 6 reasons", faults, reasons, ofGroups, ofQueues)
	}
	for i, name := range faults {
		faults[i] = "agent." + name
	}
	for _, name := range reasons {
		if name != "ReasonNone" {
			faults = append(faults, "metadata."+name)
		}
	}
	for _, name := range ofGroups {
		if name != "ReasonNone" {
			faults = append(faults, "groups."+name)
		}
	}
	for _, name := range ofQueues {
		if name != "ReasonNone" {
			faults = append(faults, "queues."+name)
		}
	}
	for _, name := range faults {
		if !strings.Contains(string(source), "\t{"+name+", connect.Code") {
			t.Errorf("%s has no row", name)
		}
	}
}

func TestTheTableOfErrorsIsTheContract(t *testing.T) {
	var got strings.Builder
	for _, r := range causes {
		if found, known := classify(fmt.Errorf("around: %w", r.cause)); !known || found != r {
			t.Errorf("%v: got %v, want its own row %v", r.cause, found, r)
		}
		fmt.Fprintf(&got, "%-20v %-31s %3d %-5v %s\n", r.code, r.reason, r.kafka, r.retriable, r.cause)
	}
	golden := filepath.Join("testdata", "errors.txt")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestAnUnknownOutcomeIsNeverADefiniteFailure(t *testing.T) {
	for _, wrapped := range []error{agent.Unavailable, metadata.ReasonUnknownTopic, context.Canceled, errors.New("anything")} {
		err := errors.Join(wrapped, agent.OutcomeUnknown)
		if r, _ := classify(err); r.code != connect.CodeDeadlineExceeded || !r.retriable {
			t.Errorf("%v: got %v, want deadline_exceeded", err, r)
		}
	}
}

func TestDetailsOfTheEngineReachTheClient(t *testing.T) {
	w := start(t)
	w.fake.fault = &agent.Error{Op: "produce", Object: "a/0", Cause: agent.Busy, Hint: "slow down", RetryAfter: 250 * time.Millisecond, Details: map[string]string{"held": "9"}}
	status, body := w.post("ClusterService/GetCluster", `{}`)
	if status != 429 || !strings.Contains(body, `"message":"produce a/0: busy; slow down"`) ||
		!strings.Contains(body, `"retryAfter":"0.250s"`) || !strings.Contains(body, `"metadata":{"held":"9"}`) {
		t.Errorf("got %d %s, want hint, delay and figures", status, body)
	}
}
