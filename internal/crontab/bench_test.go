package crontab

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gophd/internal/schedule"
)

// BenchmarkTenThousandLines parses a crontab of 10,000 jobs and computes when each is due next. x-lines is the
// ratio to reading the same file line by line, in the same run.
func BenchmarkTenThousandLines(b *testing.B) {
	const jobs = 10_000
	expressions := []string{"*/5 * * * *", "17 3 * * 1-5", "0 0 1 1 *", "0 0 13 * 5", "1,31 8-18/2 * jan-jun,sep 1-5", "@daily"}
	var text strings.Builder
	for i := range jobs {
		fmt.Fprintf(&text, "%s /usr/local/bin/job-%d --of host >/dev/null\n", expressions[i%len(expressions)], i)
	}
	file := filepath.Join(b.TempDir(), "crontab")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var parse, next, lines time.Duration
	for b.Loop() {
		start := time.Now()
		table, errs := Parse(text.String(), Options{})
		if len(errs) > 0 || len(table.Jobs) != jobs {
			b.Fatalf("%d jobs, errors %v", len(table.Jobs), errs)
		}
		parsed := time.Now()
		for _, j := range table.Jobs {
			s, err := schedule.Parse(j.Schedule, schedule.Options{Zone: time.UTC, Seed: j.Name})
			if err != nil {
				b.Fatal(err)
			}
			if _, ok := s.Next(now); !ok {
				b.Fatal(j.Schedule)
			}
		}
		scheduled := time.Now()
		if n := countLines(b, file); n != jobs {
			b.Fatalf("%d lines", n)
		}
		parse, next, lines = parse+parsed.Sub(start), next+scheduled.Sub(parsed), lines+time.Since(scheduled)
	}
	b.ReportMetric(float64(parse)/float64(b.N)/1e6, "ms/parse")
	b.ReportMetric(float64(next)/float64(b.N)/1e6, "ms/next")
	b.ReportMetric(float64(lines)/float64(b.N)/1e6, "ms/lines")
	b.ReportMetric(float64(parse+next)/float64(lines), "x-lines")
}

func countLines(b *testing.B, file string) (n int) {
	f, err := os.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		n++
	}
	return n
}
