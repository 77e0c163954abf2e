package bench_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"
)

// BenchmarkCalendarAtOnce measures how long after their due time all of 500 jobs have started that are due in
// the same second, against a plain loop that starts 500 commands.
func BenchmarkCalendarAtOnce(b *testing.B) {
	const jobs, ticks, rounds, interval = 500, 4, 3, 2 * time.Second
	k := build(b)
	late := map[string][]time.Duration{}
	b.Setenv("PLAIN_JOBS", strconv.Itoa(jobs))
	file := k.config(b, same(jobs, fmt.Sprintf(`command: [%q, %q], seconds: yes, schedule: "*/2 * * * * *"`,
		k.path("stamp"), k.path("stamps"))))
	for b.Loop() {
		for range rounds { // in turn, so that both run under the same conditions
			k.during(b, 0, k.start(b, k.path("plain"), fmt.Sprint(interval.Nanoseconds()), strconv.Itoa(ticks+2),
				k.path("stamp"), k.path("stamps")))
			late["plain"] = append(late["plain"], k.lastOfEach(b, jobs)...)
			m := k.run(b, file)
			time.Sleep((ticks + 2) * interval)
			m.stop(b)
			late["gophd"] = append(late["gophd"], k.lastOfEach(b, jobs)...)
		}
	}
	ms := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
	plain, ours := percentile(late["plain"], 50), percentile(late["gophd"], 50)
	b.ReportMetric(ms(plain), "plain-p50-ms")
	b.ReportMetric(ms(ours), "gophd-p50-ms")
	b.ReportMetric(float64(ours)/float64(plain), "ratio-p50")
	b.ReportMetric(float64(percentile(late["gophd"], 100))/float64(percentile(late["plain"], 100)), "ratio-max")
	b.ReportMetric(0, "ns/op")
}

// lastOfEach returns how late the last command of each due time started, apart from the first and the last due
// time. It fails if a due time between them has not one command for each job.
func (k kit) lastOfEach(tb testing.TB, jobs int) (late []time.Duration) {
	tb.Helper()
	last, count := map[time.Duration]time.Duration{}, map[time.Duration]int{}
	for _, s := range k.stamps(tb) {
		last[s.due] = max(last[s.due], s.started-s.due)
		count[s.due]++
	}
	dues := slices.Sorted(maps.Keys(last))
	for i, due := range dues {
		switch {
		case i == 0 || i == len(dues)-1: // during the start, and during the stop
		case count[due] != jobs:
			tb.Fatalf("%d of %d commands started", count[due], jobs)
		default:
			late = append(late, last[due])
		}
	}
	return late
}

// BenchmarkCalendarIdle measures the wake-ups of 10,000 jobs with a schedule: while none is due, and while one
// more is due every ten seconds, against that one alone. It ends before two minutes have passed, when Go collects
// garbage.
func BenchmarkCalendarIdle(b *testing.B) {
	const settled, watched, jobs = 70 * time.Second, 40 * time.Second, 10_000
	k := build(b)
	day := time.Now().UTC().AddDate(0, 6, 0).Format("2 1")
	far := fmt.Sprintf(`command: "true", timezone: UTC, schedule: "0 0 %s *"`, day)
	const often = `command: "true", seconds: yes, schedule: "*/10 * * * * *"`
	with := same(jobs, far)
	with["often"] = often
	daemons := map[string]*many{
		"none-due":        k.run(b, k.config(b, same(jobs, far))),
		"one-due":         k.run(b, k.config(b, with)),
		"one-of-one-jobs": k.run(b, k.config(b, map[string]string{"often": often})),
	}
	for b.Loop() {
		time.Sleep(settled)
		before := map[string]int{}
		for name, m := range daemons {
			before[name] = contextSwitches(b, m)
		}
		time.Sleep(watched)
		for name, m := range daemons {
			b.ReportMetric(float64(contextSwitches(b, m)-before[name]), "wake-ups/"+name)
		}
	}
	for _, m := range daemons {
		m.stop(b)
	}
	b.ReportMetric(0, "ns/op")
}
