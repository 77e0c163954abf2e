package heartbeat

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// edit replaces the only occurrence of a text in the package.
type edit struct{ from, to string }

var (
	withoutYield = edit{"yield(ctx context.Context) error {\n	if h.traits.Lock {", "yield(ctx context.Context) error {\n	if true {"}
	withoutProof = edit{"proof(m memory) time.Duration {\n	switch {", "proof(m memory) time.Duration {\n	if true {\n		return 0\n	}\n	switch {"}
)

// mutants break a rule of the engine, by name.
var mutants = map[string][]edit{
	"no proof": {withoutYield, withoutProof},
	"no proof, trusted": {withoutYield, withoutProof,
		{"	w := &h.owner\n	if err := h.seize(ctx)", "	w, began := &h.owner, h.o.Boot()\n	if err := h.seize(ctx)"},
		{"	sent := h.o.Boot()\n	if entry, err = h.get(ctx, h.o.Key); err != nil {\n		return again(err)",
			"	if len(w.chain) == 0 {\n		return h.win(began)\n	}\n	sent := h.o.Boot()\n	if entry, err = h.get(ctx, h.o.Key); err != nil {\n		return again(err)"},
		{"		case h.own(r), !r.Foreign && h.o.Dead(r):\n", "		case h.own(r):\n			w.chain = nil\n			return nil\n		case h.own(r), !r.Foreign && h.o.Dead(r):\n"}},
	"no proof, last operation": {withoutYield, withoutProof,
		{"		if absent {\n			err = h.add(ctx, Active)", "		sent = h.o.Boot()\n		if absent {\n			err = h.add(ctx, Active)"},
		{"settle(ctx context.Context) error {\n	if h.traits.Lock {", "settle(ctx context.Context) error {\n	if true {"}},
	"proof where absent": {{"h.proof(m); wait > 0 {", "h.proof(m); wait > 0 && absent {"}},
	"half the wait": {withoutYield,
		{"return h.validity(max(h.o.TTL, h.owner.longest)) + strictExtra", "return h.validity(max(h.o.TTL, h.owner.longest)) / 2"}},
}

// TestMutants builds this test of an engine in which a rule is broken, and runs TestSimulation in it: it would notice.
func TestMutants(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for name, edits := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			replace := map[string]string{}
			for file, text := range mutate(t, edits) {
				replace[filepath.Join(dir, file)] = filepath.Join(out, file)
				write(t, filepath.Join(out, file), []byte(text))
			}
			overlay, err := json.Marshal(map[string]any{"Replace": replace})
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(out, "overlay.json"), overlay)
			program := filepath.Join(out, "heartbeat.test")
			build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", filepath.Join(out, "overlay.json"), "-o", program, ".")
			if said, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			run := exec.CommandContext(t.Context(), program, "-test.v", "-test.run", "^TestSimulation$", "-mutant", name,
				fmt.Sprint("-seeds=", *flagSeeds), fmt.Sprint("-seed=", *flagSeed))
			said, err := run.CombinedOutput()
			if err != nil || !strings.Contains(string(said), "--- PASS: TestSimulation/") {
				t.Errorf("%v\n%s", err, said)
			}
		})
	}
}

// mutate returns the files of the package that the edits change, changed.
func mutate(t *testing.T, edits []edit) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	texts, changed := map[string]string{}, map[string]string{}
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			texts[file] = string(b)
		}
	}
	for _, e := range edits {
		times := 0
		for file, text := range texts {
			if n := strings.Count(text, e.from); n > 0 {
				times += n
				texts[file] = strings.Replace(text, e.from, e.to, 1)
				changed[file] = texts[file]
			}
		}
		if times != 1 {
			t.Fatalf("the package has %d times, not once:\n%s", times, e.from)
		}
	}
	return changed
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSimulationsHaveTheirMutant: one that no mutant runs would never be run.
func TestSimulationsHaveTheirMutant(t *testing.T) {
	for _, c := range simulations {
		if _, ok := mutants[c.mutant]; !ok && c.mutant != "" {
			t.Errorf("%s: no mutant %q", c.name, c.mutant)
		}
	}
}
