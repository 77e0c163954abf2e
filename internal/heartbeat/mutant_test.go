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

// edit replaces the only occurrence of a text in engine.go.
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
	engine, err := os.ReadFile("engine.go")
	if err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs("engine.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, edits := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, text := t.TempDir(), string(engine)
			for _, e := range edits {
				if n := strings.Count(text, e.from); n != 1 {
					t.Fatalf("the engine has %d times, not once:\n%s", n, e.from)
				}
				text = strings.Replace(text, e.from, e.to, 1)
			}
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: filepath.Join(dir, "engine.go")}})
			if err != nil {
				t.Fatal(err)
			}
			for file, content := range map[string][]byte{"engine.go": []byte(text), "overlay.json": overlay} {
				if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			program := filepath.Join(dir, "heartbeat.test")
			build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, ".")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			run := exec.CommandContext(t.Context(), program, "-test.v", "-test.run", "^TestSimulation$", "-mutant", name,
				fmt.Sprint("-seeds=", *flagSeeds), fmt.Sprint("-seed=", *flagSeed))
			out, err := run.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "--- PASS: TestSimulation/") {
				t.Errorf("%v\n%s", err, out)
			}
		})
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
