// Package test checks the repository as a whole: which package may import what, where third-party code may be used,
// and the shape that every file keeps.
package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/splashdam/splashdam/"

// anything stands in a row for every package of ours.
const anything = "*"

// row says what the files of one package, tests aside, may import of ours, and how many names it may export.
type row struct {
	may     []string
	exports int // 0: the usual 40; unlimited: exempt
}

const (
	exportsUsual = 40
	unlimited    = -1

	functionLinesMax = 70
	fileLinesMax     = 600
	testLinesMax     = 1000
	mainLinesMax     = 150
)

// layers is the import graph. A new package starts with a new row here.
var layers = map[string]row{
	"objectlog":               {exports: 46}, // one home for every type and error of the bytes at rest
	"objectlog/file":          {may: []string{"objectlog"}},
	"objectlog/mem":           {may: []string{"objectlog"}},
	"objectlog/objectlogtest": {may: []string{"objectlog"}},
	"objectlog/retry":         {may: []string{"objectlog"}},
	"objectlog/metered":       {may: []string{"objectlog"}},
	"objectlog/usage":         {},
	"objectlog/s3":            {may: []string{"objectlog", "objectlog/usage"}},
	"objectlog/hedge":         {may: []string{"objectlog"}},
	"objectlog/throttle":      {may: []string{"objectlog"}},

	"metadata":              {may: []string{"metadata/wire", "objectlog"}, exports: 55}, // one type per command of the log, and its result; results cross between agents
	"metadata/wire":         {may: []string{"objectlog"}},
	"metadata/shardlog":     {may: []string{"metadata", "objectlog"}, exports: 45}, // one type per event and per effect
	"metadata/bolt":         {may: []string{"metadata", "objectlog"}},
	"metadata/mem":          {may: []string{"metadata", "objectlog"}},
	"metadata/metadatatest": {may: []string{"metadata"}},
	"metadata/retry":        {may: []string{"metadata", "objectlog/retry"}}, // one budget for both stores
	"metadata/dynamo":       {may: []string{"metadata", "objectlog", "objectlog/usage"}},
	"metadata/throttle":     {may: []string{"metadata", "objectlog", "objectlog/throttle"}}, // one way to slow down for both
	"metadata/metered":      {may: []string{"metadata", "objectlog/metered"}},               // one way to count for both

	"groups": {may: []string{"metadata", "metadata/wire", "objectlog"}, exports: 42}, // one type per command of the log

	"queues": {may: []string{"metadata", "metadata/wire", "objectlog"}, exports: 90}, // one type per command of the log, its parts, and what a queue consists of

	"agent":       {may: []string{"agent/lead", "agent/write", "groups", "metadata", "metadata/shardlog", "objectlog", "queues"}, exports: 57}, // 25, what the edge between agents shares, groups, and queues
	"agent/write": {may: []string{"metadata", "metadata/shardlog", "objectlog"}},
	"agent/lead":  {may: []string{"metadata", "metadata/shardlog", "objectlog"}},
	"agent/peer":  {may: []string{"agent", "groups", "metadata", "metadata/shardlog", "objectlog", "proto/...", "queues"}},
	"agent/rpc":   {may: []string{"agent", "groups", "metadata", "metadata/shardlog", "objectlog", "objectlog/usage", "proto/...", "queues"}}, // shardlog: its errors have codes

	"proto/...":     {may: []string{"proto/..."}, exports: unlimited},
	"client":        {may: []string{"client/member", "objectlog", "proto/..."}, exports: unlimited},
	"client/member": {may: []string{"objectlog"}},

	"localstack":                {},
	"localstack/localstacktest": {may: []string{"localstack"}},
	"localstack/stack":          {may: []string{"localstack"}},

	"cmd/splashdam": {may: []string{"agent", "agent/peer", "agent/rpc", "client", "groups", "metadata/...", "objectlog/...", "queues"}, exports: unlimited},

	"test":     {may: []string{anything}},
	"test/...": {may: []string{anything}},
}

// homes says which packages, tests aside, may import a module from outside. Below test/ everything that has a home is
// allowed.
var homes = map[string][]string{
	"github.com/klauspost/compress":           {"objectlog"},
	"github.com/pierrec/lz4/v4":               {"objectlog"},
	"github.com/minio/minio-go/v7":            {"objectlog/s3"},
	"go.etcd.io/bbolt":                        {"metadata/bolt"},
	"github.com/aws/aws-sdk-go-v2":            {"metadata/dynamo"},
	"github.com/aws/smithy-go":                {"metadata/dynamo"},
	"connectrpc.com/connect":                  {"agent/peer", "agent/rpc", "client", "proto/..."},
	"connectrpc.com/grpcreflect":              {"agent/rpc"},
	"google.golang.org/protobuf":              {"agent/peer", "agent/rpc", "client", "proto/..."},
	"github.com/maypok86/otter/v2":            {"agent"},
	"golang.org/x/sync":                       {"agent"},
	"github.com/spf13/cobra":                  {"cmd/splashdam"},
	"github.com/spf13/pflag":                  {"cmd/splashdam"},
	"github.com/prometheus/client_golang":     {"cmd/splashdam"},
	"github.com/HdrHistogram/hdrhistogram-go": {"cmd/splashdam"},
	"go.yaml.in/yaml/v3":                      {"cmd/splashdam"},
}

// testModules may be imported by tests, acceptance suites and everything below test/.
var testModules = []string{"github.com/anishathalye/porcupine", "pgregory.net/rapid", "go.uber.org/goleak"}

func TestRepositoryKeepsItsLayersAndShape(t *testing.T) {
	sources := map[string]string{}
	root := ".."
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			if name != root && (strings.HasPrefix(base, ".") || base == "testdata" || base == "bin" || base == "splashdam-data") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") {
			return nil
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		sources[filepath.ToSlash(rel)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) < 10 {
		t.Fatalf("found only %d source files: looking in the wrong place", len(sources))
	}
	for _, f := range inspect(sources) {
		t.Error(f)
	}
	for _, f := range deadRows(sources) {
		t.Error(f)
	}
}

// file is one parsed source file.
type file struct {
	path, dir string // slash-separated, from the root of the repository
	lines     int
	test      bool
	fset      *token.FileSet
	ast       *ast.File
}

// inspect answers what is wrong with the sources, path to text, one line per finding in a stable order.
func inspect(sources map[string]string) []string {
	var findings []string
	packages := map[string][]file{}
	for name, text := range sources {
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			findings = append(findings, err.Error())
			continue
		}
		if ast.IsGenerated(tree) {
			continue
		}
		f := file{
			path: name, dir: path.Dir(name), lines: strings.Count(text, "\n"), fset: fset, ast: tree,
			test: strings.HasSuffix(name, "_test.go"),
		}
		packages[f.dir] = append(packages[f.dir], f)
	}
	for dir, files := range packages {
		sort.Slice(files, func(i, j int) bool { return files[i].path < files[j].path })
		findings = append(findings, inspectPackage(dir, files)...)
		for _, f := range files {
			findings = append(findings, checkImports(f)...)
			findings = append(findings, checkShape(f)...)
			findings = append(findings, checkName(f, sources)...)
			findings = append(findings, checkBodies(f)...)
		}
	}
	sort.Strings(findings)
	return findings
}

// rowOf finds the row of a package: its own, else the nearest that ends in "/...".
func rowOf(dir string) (name string, r row, ok bool) {
	if r, ok := layers[dir]; ok {
		return dir, r, true
	}
	for parent := dir; parent != "."; parent = path.Dir(parent) {
		if r, ok := layers[parent+"/..."]; ok {
			return parent + "/...", r, true
		}
	}
	return "", row{}, false
}

// covers says whether one of the patterns, a package or one with "/..." behind it, means dir.
func covers(patterns []string, dir string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		parent, below := strings.CutSuffix(p, "/...")
		return p == anything || p == dir || below && (dir == parent || strings.HasPrefix(dir, parent+"/"))
	})
}

func belowTest(dir string) bool { return covers([]string{"test/..."}, dir) }

func deadRows(sources map[string]string) []string {
	used := map[string]bool{}
	for name := range sources {
		r, _, _ := rowOf(path.Dir(name))
		used[r] = true
	}
	var findings []string
	for name := range layers {
		if !used[name] {
			findings = append(findings, fmt.Sprintf("layers: the row of %s has no package", name))
		}
	}
	sort.Strings(findings)
	return findings
}

func checkImports(f file) []string {
	var findings []string
	bad := func(format string, args ...any) {
		findings = append(findings, f.path+": "+fmt.Sprintf(format, args...))
	}
	_, r, ok := rowOf(f.dir)
	if !ok {
		return nil // said once for the package
	}
	for _, spec := range f.ast.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		ours, isOurs := strings.CutPrefix(name, module)
		switch {
		case isOurs:
			// Tests may use stores and suites of other layers; the compiler keeps cycles out.
			if !f.test && !covers(r.may, ours) {
				bad("imports %s, which the row of %s does not allow", ours, f.dir)
			}
		case !strings.Contains(strings.Split(name, "/")[0], "."):
			// standard library
		case slices.ContainsFunc(testModules, func(m string) bool { return name == m || strings.HasPrefix(name, m+"/") }):
			if !f.test && !belowTest(f.dir) && !strings.HasSuffix(f.dir, "test") {
				bad("imports %s outside of tests", name)
			}
		default:
			home, known := homeOf(name)
			if !known {
				bad("imports %s, which has no home", name)
			} else if !covers(home, f.dir) && !belowTest(f.dir) {
				bad("imports %s, whose home is %s", name, strings.Join(home, ", "))
			}
		}
	}
	return findings
}

func homeOf(name string) ([]string, bool) {
	for m, home := range homes {
		if name == m || strings.HasPrefix(name, m+"/") {
			return home, true
		}
	}
	return nil, false
}

// inspectPackage judges what belongs to a package as a whole.
func inspectPackage(dir string, files []file) []string {
	var findings []string
	_, r, ok := rowOf(dir)
	if !ok {
		return []string{dir + ": the package has no row in test/layers_test.go"}
	}
	onlyTests := !slices.ContainsFunc(files, func(f file) bool { return !f.test })
	comments := 0
	for _, f := range files {
		if f.ast.Doc != nil && (onlyTests || !f.test) {
			comments++
		}
	}
	if comments != 1 {
		findings = append(findings, fmt.Sprintf("%s: %d package comments, want one that touches a package line", dir, comments))
	}
	if name := files[0].ast.Name.Name; slices.Contains(emptyNames, name) {
		findings = append(findings, fmt.Sprintf("%s: a package named %s says nothing about what it holds", dir, name))
	}
	budget := r.exports
	if budget == 0 {
		budget = exportsUsual
	}
	if names := exported(files); budget != unlimited && len(names) > budget {
		findings = append(findings, fmt.Sprintf("%s: exports %d names, at most %d: %s", dir, len(names), budget, strings.Join(names, " ")))
	}
	return findings
}

var emptyNames = []string{"common", "util", "utils", "types", "models", "helpers", "core", "base", "impl", "misc"}

// exported lists the names that a package exports. Methods and fields do not count, and constants of an exported
// type of the package count with their type.
func exported(files []file) []string {
	types, names := map[string]bool{}, []string{}
	var groups []*ast.GenDecl
	for _, f := range files {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.IsExported() {
					names = append(names, d.Name.Name)
				}
			case *ast.GenDecl:
				groups = append(groups, d)
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok && s.Name.IsExported() {
						types[s.Name.Name] = true
						names = append(names, s.Name.Name)
					}
				}
			}
		}
	}
	for _, d := range groups {
		inherited := "" // the type that a constant without one has from those above it
		for _, s := range d.Specs {
			s, ok := s.(*ast.ValueSpec)
			if !ok {
				continue
			}
			if id, ok := s.Type.(*ast.Ident); ok {
				inherited = id.Name
			} else if s.Type != nil || len(s.Values) > 0 {
				inherited = ""
			}
			for _, id := range s.Names {
				if id.IsExported() && !(d.Tok == token.CONST && types[inherited]) {
					names = append(names, id.Name)
				}
			}
		}
	}
	sort.Strings(names)
	return names
}

// longReason marks a function that is longer than the limit for a reason that follows it.
const longReason = "//layers:long "

func checkShape(f file) []string {
	var findings []string
	bad := func(format string, args ...any) {
		findings = append(findings, f.path+": "+fmt.Sprintf(format, args...))
	}
	limit := fileLinesMax
	if f.test {
		limit = testLinesMax
	}
	if f.lines > limit {
		bad("%d lines, at most %d", f.lines, limit)
	}
	for _, d := range f.ast.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if fn.Name.Name == "init" && fn.Recv == nil {
			bad("init does work that nobody asked for")
		}
		if fn.Name.Name == "main" && f.ast.Name.Name == "main" && f.lines > mainLinesMax {
			bad("%d lines around main, at most %d: main is wiring", f.lines, mainLinesMax)
		}
		lines := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
		excused := fn.Doc != nil && slices.ContainsFunc(fn.Doc.List, func(c *ast.Comment) bool {
			return len(strings.TrimPrefix(c.Text, longReason)) > 20 && strings.HasPrefix(c.Text, longReason)
		})
		if lines > functionLinesMax && !excused {
			bad("%s has %d lines, at most %d", fn.Name.Name, lines, functionLinesMax)
		}
	}
	return findings
}

var (
	emptyFile  = regexp.MustCompile(`^(helpers?|utils?|common|misc|types|models)(_test)?\.go$`)
	numbered   = regexp.MustCompile(`^(.*[^0-9])[0-9]+((_test)?\.go)$`)
	unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
)

func checkName(f file, sources map[string]string) []string {
	base := path.Base(f.path)
	if emptyFile.MatchString(base) {
		return []string{f.path + ": the name says nothing about what the file holds"}
	}
	if m := numbered.FindStringSubmatch(base); m != nil {
		if _, ok := sources[path.Join(f.dir, strings.TrimSuffix(m[1], "_")+m[2])]; ok {
			return []string{f.path + ": a numbered second file; name it for what it holds"}
		}
	}
	return nil
}

// checkBodies looks for sleeps and skips in tests, and for unfinished work anywhere.
func checkBodies(f file) []string {
	var findings []string
	bad := func(at token.Pos, format string, args ...any) {
		findings = append(findings, fmt.Sprintf("%s:%d: ", f.path, f.fset.Position(at).Line)+fmt.Sprintf(format, args...))
	}
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if word := unfinished.FindString(c.Text); word != "" {
				bad(c.Pos(), "%s: do it, or say what is not promised", word)
			}
		}
	}
	if !f.test && !belowTest(f.dir) {
		return findings
	}
	clock := importName(f, "time")
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && clock != "" && id.Name == clock && sel.Sel.Name == "Sleep" {
				bad(n.Pos(), "time.Sleep in a test: wait for the event itself")
			}
		}
		return true
	})
	for _, at := range skips(f) {
		bad(at, "a test that skips is a test that nobody misses: run it or delete it")
	}
	return findings
}

// importName is the name under which the file knows a package, "" when it does not import it.
func importName(f file, pkg string) string {
	for _, spec := range f.ast.Imports {
		if name, _ := strconv.Unquote(spec.Path.Value); name == pkg {
			if spec.Name != nil {
				return spec.Name.Name
			}
			return path.Base(pkg)
		}
	}
	return ""
}

// skips finds calls of Skip, Skipf and SkipNow on a parameter of a type of package testing. (rapid's Skip, which only
// draws another example, is not meant.)
func skips(f file) []token.Pos {
	var found []token.Pos
	testingName := importName(f, "testing")
	var walk func(n ast.Node, params map[string]bool)
	walk = func(root ast.Node, params map[string]bool) {
		ast.Inspect(root, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Body != nil {
					walk(n.Body, withParams(n.Type, params, testingName))
				}
				return false
			case *ast.FuncLit:
				walk(n.Body, withParams(n.Type, params, testingName))
				return false
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
					return true
				}
				if id, ok := sel.X.(*ast.Ident); ok && params[id.Name] {
					found = append(found, n.Pos())
				}
			}
			return true
		})
	}
	walk(f.ast, map[string]bool{})
	return found
}

// withParams adds a function's parameters to those around it: true for those of a type of package testing.
func withParams(fn *ast.FuncType, outer map[string]bool, testingName string) map[string]bool {
	inner := map[string]bool{}
	for name, is := range outer {
		inner[name] = is
	}
	for _, field := range fn.Params.List {
		typ := field.Type
		if star, ok := typ.(*ast.StarExpr); ok {
			typ = star.X
		}
		sel, ok := typ.(*ast.SelectorExpr)
		is := false
		if ok {
			id, isIdent := sel.X.(*ast.Ident)
			is = isIdent && testingName != "" && id.Name == testingName
		}
		for _, name := range field.Names {
			inner[name.Name] = is
		}
	}
	return inner
}
