package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "gophd/"

// layers are those of ARCHITECTURE.md, the lowest first: a package imports only layers below its own. A
// package that is missing here fails the test, so that it gets a place first.
var layers = [][]string{
	{"internal/alarm", "internal/event", "internal/fault", "internal/goroutine", "internal/job", "internal/keep", "internal/lockfile",
		"internal/order", "internal/procfs", "internal/safefile", "internal/self", "internal/world"},
	{"internal/config", "internal/daemonize", "internal/eventlog", "internal/heartbeat", "internal/logging", "internal/loop",
		"internal/pidfile", "internal/process", "internal/restart", "internal/sdnotify", "internal/signals", "internal/status"},
	{"internal/heartbeat/file", "internal/heartbeat/memcached", "internal/heartbeat/heartbeattest"},
	{"internal/lease"},
	{"internal/preflight", "internal/supervisor"},
	{"internal/daemon"},
	{"cmd/gophd"},
}

// sideways lists imports within a layer, and why each is better than a copy or another layer.
var sideways = map[[2]string]string{
	{"internal/alarm", "internal/goroutine"}:      "no goroutine without a waiter",
	{"internal/event", "internal/goroutine"}:      "an event may be about a panic",
	{"internal/event", "internal/job"}:            "an event is about a run and its result",
	{"internal/eventlog", "internal/logging"}:     "it is the log's reader of the event stream",
	{"internal/supervisor", "internal/preflight"}: "a start opens what check and reload have looked at, by the same code",
}

// owners lists who alone may import a package, and why.
var owners = []struct {
	imported string
	by       []string
	why      string
}{
	{"github.com/spf13/viper", []string{"internal/config"}, "viper is a merge engine for one room; nobody else may see a key-value store"},
	{"github.com/spf13/pflag", []string{"internal/config"}, "what a flag means is config's to say"},
	{"github.com/go-viper/mapstructure/v2", []string{"internal/config"}, "strict decoding is config's"},
	{"github.com/spf13/cobra", []string{"cmd/gophd"}, "the words of the command line end in cmd/gophd"},
	{"github.com/rs/zerolog", []string{"internal/daemon", "internal/eventlog", "internal/logging", "internal/preflight"}, "log lines are events: only their reader writes them; preflight and daemon know the level"},
	{"github.com/bradfitz/gomemcache/memcache", []string{"internal/heartbeat/memcached"}, "its traps are known in one place"},
	{"os/signal", []string{"internal/signals", "internal/restart", "internal/daemonize", "internal/process"},
		"one table from signal to order; restart and daemonize only see a signal through while one image becomes another, and process hears of ends as process 1"},
	{"os/exec", []string{"internal/self", "internal/daemonize", "internal/heartbeat/heartbeattest"}, "commands are started by process, which owns their death too"},
	{"net/http", nil, "0.6 MB of idle memory that nothing here needs yet"},
	{"text/template", nil, "it turns off the linker's pruning: 2 MB"},
	{"html/template", nil, "it turns off the linker's pruning: 2.7 MB"},
}

func TestLayers(t *testing.T) {
	layer := map[string]int{}
	for i, packages := range layers {
		for _, pkg := range packages {
			layer[pkg] = i
		}
	}
	seen, used := map[string]bool{}, map[[2]string]bool{}
	eachFile(t, func(pkg, name string, f *ast.File) {
		own, known := layer[pkg]
		if !known {
			t.Errorf("%s: package %s has no layer; give it one in layers_test.go, and a place in ARCHITECTURE.md", name, pkg)
			return
		}
		seen[pkg] = true
		for _, spec := range f.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			if other, ok := strings.CutPrefix(path, module); ok && other != pkg {
				below, known := layer[other]
				switch beside := [2]string{pkg, other}; {
				case known && below == own && sideways[beside] != "":
					used[beside] = true
				case !known || below >= own:
					t.Errorf("%s: %s (layer %d) imports %s (layer %d); a package imports only layers below its own",
						name, pkg, own, other, below)
				}
			}
			for _, o := range owners {
				if path == o.imported && !slices.Contains(o.by, pkg) {
					t.Errorf("%s: %s imports %s, which is for %v alone: %s", name, pkg, path, o.by, o.why)
				}
			}
		}
	})
	for pkg := range layer {
		if !seen[pkg] {
			t.Errorf("package %s has a layer and no files", pkg)
		}
	}
	for beside := range sideways {
		if !used[beside] {
			t.Errorf("%s does not import %s any more: delete it from the list", beside[0], beside[1])
		}
	}
}

// TestEveryPackageAnswersItsQuestion: one doc comment each, which begins with the question.
func TestEveryPackageAnswersItsQuestion(t *testing.T) {
	docs := map[string][]string{}
	eachFile(t, func(pkg, _ string, f *ast.File) {
		if f.Doc != nil {
			docs[pkg] = append(docs[pkg], f.Doc.Text())
		}
	})
	for _, pkg := range slices.Concat(layers...) {
		switch texts := docs[pkg]; {
		case len(texts) != 1:
			t.Errorf("package %s has %d doc comments, want one", pkg, len(texts))
		case !strings.Contains(texts[0], "answers: ") || !strings.Contains(texts[0], "?"):
			t.Errorf("the doc comment of %s does not begin with the question that it answers:\n%s", pkg, texts[0])
		}
	}
}

// eachFile parses the tree itself: `go list` would not be seen by the test cache, and a breach would
// pass as "ok (cached)". Test files are left out: a test may reach sideways.
func eachFile(t *testing.T, visit func(pkg, name string, f *ast.File)) {
	root := ".."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// What bench has is no part of gophd: it is measured beside it.
		if d.IsDir() && (d.Name() == "testdata" || path == filepath.Join(root, "bench") || path != root && strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(filepath.Dir(rel)), rel, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
