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
	withoutRestore = edit{"waitForRestore(ctx context.Context) error {\n	if h.traits.Lock {",
		"waitForRestore(ctx context.Context) error {\n	if true {"}
	withoutProof = edit{"proof(m stateRecord) time.Duration {\n	switch {",
		"proof(m stateRecord) time.Duration {\n	if true {\n		return 0\n	}\n	switch {"}
)

// mutants break a rule of the engine, by name.
var mutants = map[string][]edit{
	"no proof": {withoutRestore, withoutProof},
	"no proof, trusted": {withoutRestore, withoutProof,
		{"	w := &h.engine\n	if err := h.claimKey(ctx)",
			"	w, start := &h.engine, h.o.Boot()\n	if err := h.claimKey(ctx)"},
		{"	sent := h.o.Boot()\n	if entry, err = h.get(ctx, h.o.Key); err != nil {\n		return again(err)",
			"	if len(w.claim.Ops) == 0 {\n		return h.setHeld(start)\n	}\n" +
				"	sent := h.o.Boot()\n	if entry, err = h.get(ctx, h.o.Key); err != nil {\n		return again(err)"},
		{"		case h.own(r), !r.Foreign && h.o.Dead(r):\n",
			"		case h.own(r):\n			w.claim = Claim{}\n			return nil\n" +
				"		case h.own(r), !r.Foreign && h.o.Dead(r):\n"}},
	"no proof, last operation": {withoutRestore, withoutProof,
		{"		if absent {\n			err = h.add(ctx, Active)",
			"		sent = h.o.Boot()\n		if absent {\n			err = h.add(ctx, Active)"},
		{"waitServerDelay(ctx context.Context) error {\n	if h.traits.Lock {",
			"waitServerDelay(ctx context.Context) error {\n	if true {"},
		{"end := h.o.Boot() + serverDelay;", "end := h.o.Boot();"}},
	"proof where absent": {{"h.proof(m); wait > 0 {", "h.proof(m); wait > 0 && absent {"}},
	"early":              {{"Kept: w.kept,", "Kept: 1 << 62,"}},
	"nothing kept":       {{"TTL: h.o.TTL.Seconds(), Kept: m.Kept})", "TTL: h.o.TTL.Seconds()})"}},
	"half the wait": {withoutRestore,
		{"return h.validity(max(h.o.TTL, h.engine.longest)) + proofExtra",
			"return h.validity(max(h.o.TTL, h.engine.longest)) / 2"}},
}

// TestMutants builds this test program with an engine that breaks a rule, and runs TestSimulation
// in it, which must detect that.
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
			build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off",
				"-overlay", filepath.Join(out, "overlay.json"), "-o", program, ".")
			if output, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			run := exec.CommandContext(t.Context(), program,
				"-test.v", "-test.run", "^TestSimulation$", "-mutant", name,
				fmt.Sprint("-seeds=", *flagSeeds), fmt.Sprint("-seed=", *flagSeed))
			output, err := run.CombinedOutput()
			if err != nil || !strings.Contains(string(output), "--- PASS: TestSimulation/") {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}

// mutate returns the changed text of each file that the edits change.
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
			t.Fatalf("the package has this text %d times, not once:\n%s", times, e.from)
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

// TestEverySimulationHasItsMutant: a simulation whose mutant does not exist would never run.
func TestEverySimulationHasItsMutant(t *testing.T) {
	for _, c := range simulations {
		if _, ok := mutants[c.mutant]; !ok && c.mutant != "" {
			t.Errorf("%s: no mutant %q", c.name, c.mutant)
		}
	}
}
