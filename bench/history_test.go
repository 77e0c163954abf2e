package bench_test

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkHistory measures runs per second at an interval of 0 with the history on and off, in turn, so
// that both run under the same conditions. The ratio is the median of those of all rounds.
func BenchmarkHistory(b *testing.B) {
	const length, rounds = time.Second, 16
	k := build(b)
	var ratios []float64
	rates := map[string]float64{}
	for b.Loop() {
		for i := range rounds {
			round := map[string]float64{}
			sizes := []string{"2M", "0"}
			if i%2 == 1 {
				slices.Reverse(sizes)
			}
			for _, size := range sizes {
				k.during(b, length, k.start(b, "env", "GOPHD_HISTORY_SIZE="+size, k.path("gophd"), "run", "--name", "bench",
					"--interval", "0", "--", k.path("stamp"), k.path("stamps")))
				round[size] = rate(k.stamps(b))
				rates[size] += round[size] / rounds
			}
			ratios = append(ratios, round["2M"]/round["0"])
		}
	}
	slices.Sort(ratios)
	b.ReportMetric(rates["2M"], "on-runs/s")
	b.ReportMetric(rates["0"], "off-runs/s")
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(0, "ns/op")
}
