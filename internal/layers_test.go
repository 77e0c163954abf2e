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

// layers are those of ARCHITECTURE.md, the lowest first: a package imports only layers below its
// own. A package without a layer fails the test.
var layers = [][]string{
	{"internal/timer", "internal/event", "internal/fault", "internal/goroutine", "internal/job", "internal/headtail",
		"internal/crontab", "internal/watch",
		"internal/line", "internal/lockfile", "internal/misspelled", "internal/request", "internal/procfs",
		"internal/safefile", "internal/schedule", "internal/self", "internal/credentials"},
	{"internal/config", "internal/daemonize", "internal/eventlog", "internal/heartbeat", "internal/history", "internal/jobfile",
		"internal/logging", "internal/logread", "internal/loop", "internal/pidfile", "internal/process", "internal/restart",
		"internal/sdnotify", "internal/signals", "internal/status", "internal/terminal"},
	{"internal/heartbeat/file", "internal/heartbeat/memcached", "internal/heartbeat/heartbeattest", "internal/api"},
	{"internal/lease"},
	{"internal/preflight", "internal/supervisor"},
	{"internal/daemon"},
	{"cmd/gophd"},
}

// sideways lists imports within a layer, and why each is better than a copy or another layer.
var sideways = map[[2]string]string{
	{"internal/timer", "internal/goroutine"}:        "every goroutine has a waiter",
	{"internal/watch", "internal/goroutine"}:        "every goroutine has a waiter",
	{"internal/event", "internal/goroutine"}:        "an event may be about a panic",
	{"internal/event", "internal/job"}:              "an event is about a run and its result",
	{"internal/job", "internal/schedule"}:           "the schedule of a job is a typed value",
	{"internal/schedule", "internal/misspelled"}:    "a name or a zone may be misspelled",
	{"internal/credentials", "internal/misspelled"}: "the name of a limit may be misspelled",
	{"internal/headtail", "internal/line"}:          "one rule says where a line ends",
	{"internal/eventlog", "internal/logging"}:       "it writes the event stream to the log",
	{"internal/logread", "internal/logging"}:        "what an archive is, and which names it has, is known in one place",
	{"internal/supervisor", "internal/preflight"}:   "a start opens what check and reload have validated, with the same code",
}

// owners lists the only packages that may import a package, and why.
var owners = []struct {
	imported string
	by       []string
	why      string
}{
	{"github.com/spf13/viper", []string{"internal/config"},
		"viper merges the sources of the config; other packages get typed settings, not a key-value store"},
	{"github.com/spf13/pflag", []string{"internal/config"}, "config defines what a flag means"},
	{"github.com/go-viper/mapstructure/v2", []string{"internal/config"}, "config decodes strictly"},
	{"github.com/spf13/cobra", []string{"cmd/gophd"}, "only cmd/gophd parses the command line"},
	{"github.com/rs/zerolog", []string{"internal/daemon", "internal/eventlog", "internal/logging", "internal/preflight"},
		"log lines are events: only their reader writes them; preflight and daemon know the level"},
	{"github.com/fsnotify/fsnotify", []string{"internal/watch"}, "one package knows what a change of a file is"},
	{"github.com/bradfitz/gomemcache/memcache", []string{"internal/heartbeat/memcached"},
		"one package handles its pitfalls"},
	{"os/signal", []string{"internal/signals", "internal/restart", "internal/daemonize", "internal/process",
		"internal/terminal"},
		"one table maps signals to requests; restart and daemonize only handle signals during a re-exec or a start, " +
			"process waits for children as process 1, and terminal is for a command that is no daemon"},
	{"os/exec", []string{"internal/self", "internal/daemonize", "internal/heartbeat/heartbeattest", "internal/logread"},
		"package process starts commands, and stops them too; logread starts journalctl(1) for gophd logs, and never in a daemon"},
	{"golang.org/x/term", []string{"internal/terminal"}, "one package restores the terminal"},
	{"net/http", []string{"internal/api"}, "its server costs memory: api makes it when the socket is used, and drops it"},
	{"text/template", nil, "it disables the linker's dead code elimination: 2 MB"},
	{"html/template", nil, "it disables the linker's dead code elimination: 2.7 MB"},
}

func TestPackagesImportOnlyLayersBelow(t *testing.T) {
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
			t.Errorf("%s: package %s has no layer; add it to layers_test.go and ARCHITECTURE.md", name, pkg)
			return
		}
		seen[pkg] = true
		for _, spec := range f.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			if other, ok := strings.CutPrefix(path, module); ok && other != pkg {
				below, known := layer[other]
				switch pair := [2]string{pkg, other}; {
				case known && below == own && sideways[pair] != "":
					used[pair] = true
				case !known || below >= own:
					t.Errorf("%s: %s (layer %d) imports %s (layer %d); a package imports only layers below its own",
						name, pkg, own, other, below)
				}
			}
			for _, o := range owners {
				if path == o.imported && !slices.Contains(o.by, pkg) {
					t.Errorf("%s: %s imports %s; only %v may: %s", name, pkg, path, o.by, o.why)
				}
			}
		}
	})
	for pkg := range layer {
		if !seen[pkg] {
			t.Errorf("package %s has a layer and no files", pkg)
		}
	}
	for pair := range sideways {
		if !used[pair] {
			t.Errorf("%s does not import %s any more: delete it from the list", pair[0], pair[1])
		}
	}
}

// Each package has one doc comment, which starts with the question that the package answers.
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
			t.Errorf("the doc comment of %s does not start with the question that it answers:\n%s", pkg, texts[0])
		}
	}
}

// eachFile calls visit for each Go file, except test files: a test may import any package. It
// parses the tree itself, because the test cache does not notice what `go list` reads: a violation
// would pass as "ok (cached)".
func eachFile(t *testing.T, visit func(pkg, name string, f *ast.File)) {
	root := ".."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// bench is not a part of gophd.
		if d.IsDir() && (d.Name() == "testdata" || path == filepath.Join(root, "bench") ||
			path != root && strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
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
