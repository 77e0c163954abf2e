package schedule

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestCasesOfPeers walks expressions, zones and times of the test suites, manuals and bug reports of others. Each
// has the answer by the rule of cron(8), which is not always that of its source.
func TestCasesOfPeers(t *testing.T) {
	text, err := os.ReadFile("testdata/peers.tsv")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for line := range strings.Lines(string(text)) {
		c := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") || len(c) < 5 {
			continue
		}
		cases++
		zone := time.UTC
		if c[3] != "refused" {
			zone = load(t, c[1])
		}
		s, err := Parse(c[0], Options{Zone: zone, Seconds: true})
		if err != nil || c[3] == "refused" {
			if err == nil || c[3] != "refused" {
				t.Errorf("%s: error %v (%s)", c[0], err, c[4])
			}
			continue
		}
		from, before, _ := strings.Cut(c[2], " -")
		at := wallOf(t, from, zone)
		if before != "" {
			d, err := time.ParseDuration(before)
			if err != nil {
				t.Fatal(err)
			}
			at = at.Add(-d)
		}
		want := wallOf(t, c[3], zone)
		if got, ok := s.Next(at); !ok || !got.Equal(want) {
			t.Errorf("%s in %s from %s: %s, want %s (%s)", c[0], c[1], c[2], got.Format(time.RFC3339), c[3], strings.Join(c[4:], ": "))
		}
	}
	if cases < 500 {
		t.Errorf("%d cases", cases)
	}
}

// wallOf reads a time with an offset, or of the zone.
func wallOf(t *testing.T, text string, zone *time.Location) time.Time {
	t.Helper()
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02 15:04"} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			return at
		}
	}
	t.Fatalf("%q is no time", text)
	return time.Time{}
}
