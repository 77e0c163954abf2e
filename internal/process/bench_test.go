package process

import (
	"os"
	"testing"
)

// These benchmarks measure what a run costs in addition to the bare start and wait of a
// process. The budget is 20 us per run.

func BenchmarkForkExecWait(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	attr := &os.ProcAttr{Files: []*os.File{null, null, null}, Env: os.Environ()}
	for b.Loop() {
		p, err := os.StartProcess("/bin/true", []string{"true"}, attr)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSpawn(b *testing.B) {
	s := newSpawner(b)
	benchmarkRun(b, s, Output{File: s.null})
}

// BenchmarkSpawnInPoller is BenchmarkSpawn without the blocking wait.
func BenchmarkSpawnInPoller(b *testing.B) {
	s := newSpawner(b)
	s.blocking = nil
	benchmarkRun(b, s, Output{File: s.null})
}

func BenchmarkSpawnCaptured(b *testing.B) {
	benchmarkRun(b, newSpawner(b), discard())
}

func benchmarkRun(b *testing.B, s *Spawner, out Output) {
	c := Command{Argv: []string{"/bin/true"}, Dir: "/", Env: os.Environ(), Stdout: out, Stderr: out}
	for b.Loop() {
		p, err := s.Start(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		if r := p.Wait(); !r.OK() {
			b.Fatal(r)
		}
	}
}
