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

// floors lists every package with its floor: a package imports only floors below its own, never
// sideways and never up. A package that is missing here fails the test, so that it gets a place first.
var floors = map[string]int{
	"internal/fault": 0, "internal/job": 0, "internal/order": 0, "internal/self": 0, "internal/goroutine": 0,
	"internal/lockfile": 0, "internal/procfs": 0, "internal/safefile": 0, "internal/world": 0,

	"internal/alarm": 1, "internal/config": 1, "internal/daemonize": 1, "internal/event": 1, "internal/heartbeat": 1,
	"internal/keep": 1, "internal/logging": 1, "internal/loop": 1, "internal/pidfile": 1, "internal/process": 1,
	"internal/restart": 1, "internal/sdnotify": 1, "internal/signals": 1,

	"internal/eventlog": 2, "internal/status": 2,
	"internal/heartbeat/file": 2, "internal/heartbeat/memcached": 2, "internal/heartbeat/heartbeattest": 2,

	"internal/lease":      3,
	"internal/preflight":  4,
	"internal/supervisor": 5,
	"internal/daemon":     6,
	"cmd/gophd":           7,
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
	{"github.com/spf13/cobra", []string{"cmd/gophd"}, "the words of the command line end at floor 7"},
	{"github.com/rs/zerolog", []string{"internal/daemon", "internal/eventlog", "internal/logging", "internal/preflight"}, "log lines are events: only their reader writes them; preflight and daemon know the level"},
	{"github.com/bradfitz/gomemcache/memcache", []string{"internal/heartbeat/memcached"}, "its traps are known in one place"},
	{"os/signal", []string{"internal/signals", "internal/restart", "internal/daemonize", "internal/process"},
		"one table from signal to order; restart and daemonize only see a signal through while one image becomes another, and process hears of ends as process 1"},
	{"os/exec", []string{"internal/self", "internal/daemonize", "internal/heartbeat/heartbeattest"}, "commands are started by process, which owns their death too"},
	{"net/http", nil, "0.6 MB of idle memory that nothing here needs yet"},
	{"text/template", nil, "it turns off the linker's pruning: 2 MB"},
	{"html/template", nil, "it turns off the linker's pruning: 2.7 MB"},
}

func TestFloors(t *testing.T) {
	seen := map[string]bool{}
	eachFile(t, func(pkg, name string, f *ast.File) {
		floor, known := floors[pkg]
		if !known {
			t.Errorf("%s: package %s has no floor; give it one in floors_test.go, and a place in ARCHITECTURE.md", name, pkg)
			return
		}
		seen[pkg] = true
		for _, spec := range f.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			if other, ok := strings.CutPrefix(path, module); ok && other != pkg {
				if below, known := floors[other]; !known || below >= floor {
					t.Errorf("%s: %s (floor %d) imports %s (floor %d); a package imports only floors below its own",
						name, pkg, floor, other, below)
				}
			}
			for _, o := range owners {
				if path == o.imported && !slices.Contains(o.by, pkg) {
					t.Errorf("%s: %s imports %s, which is for %v alone: %s", name, pkg, path, o.by, o.why)
				}
			}
		}
	})
	for pkg := range floors {
		if !seen[pkg] {
			t.Errorf("package %s has a floor and no files", pkg)
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
	for pkg := range floors {
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
