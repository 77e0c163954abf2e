package self

import (
	"os"
	"path/filepath"
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

// MissingZone returns the value of TZ in env if it is neither a rule, such as CET-1CEST, nor a zone or a
// file of this host, and "" otherwise. Programs use UTC then. The database that is linked into this
// program does not count: a command cannot see it.
func MissingZone(env []string) string {
	zone, dirs := "", zoneDirs
	for _, kv := range env {
		if text, ok := strings.CutPrefix(kv, "TZ="); ok {
			zone = text
		}
		if dir, ok := strings.CutPrefix(kv, "TZDIR="); ok && dir != "" {
			dirs = append([]string{dir}, zoneDirs...)
		}
	}
	name := strings.TrimPrefix(zone, ":")
	if name == "" || slices.Contains(utc, strings.TrimPrefix(name, "Etc/")) || isRule(name) {
		return ""
	}
	exists := func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && !info.IsDir()
	}
	if filepath.IsAbs(name) && exists(name) ||
		slices.ContainsFunc(dirs, func(dir string) bool { return exists(filepath.Join(dir, name)) }) {
		return ""
	}
	return zone
}

// zoneDirs are the directories where the C libraries of Linux and of the BSDs look for a zone: tzset(3)
// of glibc and of FreeBSD, and musl, src/time/__tz.c.
var zoneDirs = []string{"/usr/share/zoneinfo", "/share/zoneinfo", "/etc/zoneinfo"}

// isRule reports whether a text is the name of a zone and its offset, as in CET-1CEST or <+03>-3: see
// tzset(3).
func isRule(text string) bool {
	rest := strings.TrimLeft(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
	named := len(text)-len(rest) >= 3
	if quoted, after, ok := strings.Cut(text, ">"); ok && strings.HasPrefix(quoted, "<") {
		rest, named = after, true
	}
	offset := strings.TrimLeft(rest, "+-")
	return named && len(rest)-len(offset) <= 1 && offset != "" && offset[0] >= '0' && offset[0] <= '9'
}
