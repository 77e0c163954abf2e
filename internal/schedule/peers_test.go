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
	all := peerCases(t)
	for _, c := range all {
		zone := time.UTC
		if !c.refused {
			zone = load(t, c.zone)
		}
		s, err := Parse(c.text, Options{Zone: zone, Seconds: true})
		if err != nil || c.refused {
			if err == nil || !c.refused {
				t.Errorf("%s: error %v (%s)", c.text, err, c.source)
			}
			continue
		}
		from, want := wallOf(t, c.from, zone), wallOf(t, c.next, zone)
		if got, ok := s.Next(from); !ok || !got.Equal(want) {
			t.Errorf("%s in %s from %s: %s, want %s (%s)", c.text, c.zone, c.from, got.Format(time.RFC3339), c.next, c.source)
		}
	}
	if len(all) < 700 {
		t.Errorf("%d cases", len(all))
	}
}

// peerCase is a line of testdata/peers.tsv.
type peerCase struct {
	text, zone, from, next, source string
	refused                        bool
}

func peerCases(tb testing.TB) (all []peerCase) {
	tb.Helper()
	text, err := os.ReadFile("testdata/peers.tsv")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		c := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if len(c) < 5 {
			tb.Fatalf("%q has %d fields", line, len(c))
		}
		all = append(all, peerCase{c[0], c[1], c[2], c[3], strings.Join(c[4:], ": "), c[3] == "refused"})
	}
	return all
}

// wallOf reads a time with an offset, or of the zone, and perhaps with " -1s" after it.
func wallOf(tb testing.TB, text string, zone *time.Location) time.Time {
	tb.Helper()
	text, before := strings.CutSuffix(text, " -1s")
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02 15:04"} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			if before {
				at = at.Add(-time.Second)
			}
			return at
		}
	}
	tb.Fatalf("%q is no time", text)
	return time.Time{}
}
