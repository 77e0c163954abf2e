package process

import (
	"os"
	"slices"
	"testing"
	"time"
)

// BenchmarkForkExecWait, BenchmarkSpawn and BenchmarkSpawnCaptured measure what a run costs in
// addition to the bare start and wait of a process. The budget is 20 us per run.

func BenchmarkForkExecWait(b *testing.B) {
	run := bareRun(b)
	for b.Loop() {
		run()
	}
}

func BenchmarkSpawn(b *testing.B) {
	s := newSpawner(b)
	benchmarkRun(b, s, Output{File: s.null})
}

func BenchmarkSpawnCaptured(b *testing.B) {
	benchmarkRun(b, newSpawner(b), discard())
}

func benchmarkRun(b *testing.B, s *Spawner, out Output) {
	run := spawnedRun(b, s, out)
	for b.Loop() {
		run()
	}
}

// BenchmarkShortRuns measures runs back to back with the blocking wait and with the wait in the
// runtime's poller, against bare ones. The three alternate. Each ratio is the median of the rounds.
func BenchmarkShortRuns(b *testing.B) {
	const rounds, length = 31, 100 * time.Millisecond
	blocking, poller := newSpawner(b), newSpawner(b)
	poller.blocking = nil
	ways := []struct {
		name  string
		run   func()
		rates []float64
	}{
		{name: "bare", run: bareRun(b)},
		{name: "blocking", run: spawnedRun(b, blocking, Output{File: blocking.null})},
		{name: "poller", run: spawnedRun(b, poller, Output{File: poller.null})},
	}
	median := func(all []float64) float64 { return slices.Sorted(slices.Values(all))[len(all)/2] }
	for b.Loop() {
		for range rounds {
			for i := range ways {
				n, started := 0, time.Now()
				for ; time.Since(started) < length; n++ {
					ways[i].run()
				}
				ways[i].rates = append(ways[i].rates, float64(n)/time.Since(started).Seconds())
			}
		}
	}
	for _, way := range ways {
		var ratios []float64
		for i, rate := range way.rates {
			ratios = append(ratios, rate/ways[0].rates[i])
		}
		b.ReportMetric(median(way.rates), way.name+"/s")
		b.ReportMetric(median(ratios), way.name+"-ratio")
	}
	b.ReportMetric(0, "ns/op")
}

// bareRun returns a function that starts a command and waits for it, without this package.
func bareRun(b *testing.B) func() {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { null.Close() })
	attr := &os.ProcAttr{Files: []*os.File{null, null, null}, Env: os.Environ()}
	return func() {
		p, err := os.StartProcess("/bin/true", []string{"true"}, attr)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

// spawnedRun returns a function that does the same with this package.
func spawnedRun(b *testing.B, s *Spawner, out Output) func() {
	c := Command{Argv: []string{"/bin/true"}, Dir: "/", Env: os.Environ(), Stdout: out, Stderr: out}
	return func() {
		p, err := s.Start(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		if r := p.Wait(); !r.OK() {
			b.Fatal(r)
		}
	}
}
