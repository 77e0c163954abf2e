package self

import (
	"os"
	"slices"
	"strings"
	"time"
)

// UnknownZone returns the value of TZ if this program uses UTC because it cannot load that zone,
// and "" otherwise. Go knows the files of the zone database only, and falls back to UTC silently.
// The C library of a command may have another database, and knows rules such as CET-1CEST too.
func UnknownZone() string {
	zone := os.Getenv("TZ")
	name := strings.TrimPrefix(zone, ":")
	if name == "" || slices.Contains(utc, strings.TrimPrefix(name, "Etc/")) || time.Local.String() != "UTC" {
		return ""
	}
	return zone
}

// utc are the names of UTC in the zone database and in rules.
var utc = []string{"UTC", "UTC0", "UCT", "Universal", "Zulu", "GMT", "GMT0", "GMT+0", "GMT-0", "Greenwich"}

// MissingZone returns the value of TZ in env if it names a zone, such as Europe/Berlin, that is not in
// the zone database of this host, and "" otherwise. A rule such as CET-1CEST is no name.
func MissingZone(env []string) string {
	zone := ""
	for _, kv := range env {
		if text, ok := strings.CutPrefix(kv, "TZ="); ok {
			zone = text
		}
	}
	name := strings.TrimPrefix(zone, ":")
	if !strings.Contains(name, "/") || strings.HasPrefix(name, "/") {
		return ""
	}
	if _, err := time.LoadLocation(name); err == nil {
		return ""
	}
	return zone
}
