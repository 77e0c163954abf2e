package schedule

import (
	"strings"
	"testing"
	"time"
)

// BenchmarkNext compares Next with strings.Fields of the same text: x-fields is the ratio of both in the
// same run.
func BenchmarkNext(b *testing.B) {
	var corpus []benchCase
	for _, c := range peerCases(b) {
		if !c.refused {
			corpus = append(corpus, newBenchCase(b, c.text, c.from, c.zone))
		}
	}
	b.Run("corpus", func(b *testing.B) { compareWithFields(b, corpus) })
	for _, year := range []string{"2026", "2096"} {
		far := []benchCase{newBenchCase(b, "0 0 29 2 *", year+"-03-01 00:00", "Europe/Berlin")}
		b.Run("29 February from "+year, func(b *testing.B) { compareWithFields(b, far) })
	}
}

// benchCase is an expression and an instant from which Next is computed.
type benchCase struct {
	text  string
	s     Schedule
	after time.Time
}

func newBenchCase(b *testing.B, text, from, zoneName string) benchCase {
	b.Helper()
	zone := load(b, zoneName)
	s, err := Parse(text, Options{Zone: zone, Seconds: true})
	if err != nil {
		b.Fatal(err)
	}
	return benchCase{text, s, wallOf(b, from, zone)}
}

func compareWithFields(b *testing.B, cases []benchCase) {
	var next, fields time.Duration
	for b.Loop() {
		start := time.Now()
		for i := range cases {
			for range 100 {
				cases[i].s.Next(cases[i].after)
			}
		}
		middle := time.Now()
		for i := range cases {
			for range 100 {
				words = strings.Fields(cases[i].text)
			}
		}
		next += middle.Sub(start)
		fields += time.Since(middle)
	}
	calls := float64(100 * b.N * len(cases))
	b.ReportMetric(float64(next)/calls, "ns/next")
	b.ReportMetric(float64(fields)/calls, "ns/fields")
	b.ReportMetric(float64(next)/float64(fields), "x-fields")
}

var words []string // so that the compiler does not leave out the call
