package schedule

import (
	"strings"
	"testing"
	"time"
)

// corpus are expressions of every kind.
var corpus = []string{"* * * * *", "*/5 * * * *", "17 3 * * 1-5", "30 2 * * *", "0 0 1 1 *", "0 0 13 * 5", "0 0 */2 * 1",
	"0 0 L-3 * *", "0 9 LW * *", "0 9 15W * *", "0 9 * * 5L", "0 9 * * mon#1", "1,31 8-18/2 * jan-jun,sep 1-5", "59 23 31 12 *"}

// BenchmarkNext compares Next with strings.Fields of the same text: x-fields is the ratio of both in the
// same run.
func BenchmarkNext(b *testing.B) {
	after := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	b.Run("corpus", func(b *testing.B) { compareWithFields(b, corpus, after) })
	b.Run("29 February from 2096", func(b *testing.B) {
		compareWithFields(b, []string{"0 0 29 2 *"}, time.Date(2096, 3, 1, 0, 0, 0, 0, time.UTC))
	})
}

func compareWithFields(b *testing.B, texts []string, after time.Time) {
	zone := load(b, "Europe/Berlin")
	var list []Schedule
	for _, text := range texts {
		s, err := Parse(text, Options{Zone: zone})
		if err != nil {
			b.Fatal(err)
		}
		list = append(list, s)
	}
	var next, fields time.Duration
	for b.Loop() {
		start := time.Now()
		for i := range list {
			for range 100 {
				list[i].Next(after)
			}
		}
		middle := time.Now()
		for _, text := range texts {
			for range 100 {
				words = strings.Fields(text)
			}
		}
		next += middle.Sub(start)
		fields += time.Since(middle)
	}
	calls := float64(100 * b.N * len(texts))
	b.ReportMetric(float64(next)/calls, "ns/next")
	b.ReportMetric(float64(fields)/calls, "ns/fields")
	b.ReportMetric(float64(next)/float64(fields), "x-fields")
}

var words []string // so that the compiler does not leave out the call
