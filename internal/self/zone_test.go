package self

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMissingZone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "zone")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"TZ=Europe/Berln":     "Europe/Berln",
		"TZ=:America/Nowhere": ":America/Nowhere",
		"TZ=Europe/Berlin":    "",
		"TZ=UTC":              "",
		"TZ=CET-1CEST":        "",
		"TZ=Nowhere":          "Nowhere",
		"TZ=Berlin":           "Berlin",
		"TZ=:Berlin":          ":Berlin",
		"TZ=/nonexistent":     "/nonexistent",
		"TZ=CE-1":             "CE-1",
		"TZ=CET-":             "CET-",
		"TZ=<+03":             "<+03",
		"TZ=" + file:          "",
		"TZ=:" + file:         "",
		"TZ=EST5EDT":          "",
		"TZ=XYZ+3:30":         "",
		"TZ=<+03>-3":          "",
		"TZ=GMT":              "",
		"TZ=Etc/UTC":          "",
		"TZ=":                 "",
		"HOME=/x/y":           "",
	} {
		if got := MissingZone([]string{"A=1", text}); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	zoneDirs = []string{t.TempDir()} // a host without tzdata: the database of Go does not help a command
	if got := MissingZone([]string{"TZ=Europe/Berlin"}); got != "Europe/Berlin" {
		t.Errorf("a zone that this host has not: %q", got)
	}
	if got := MissingZone([]string{"TZDIR=" + filepath.Dir(file), "TZ=" + filepath.Base(file)}); got != "" {
		t.Errorf("a zone in TZDIR: %q", got)
	}
	if got := MissingZone([]string{"TZ=Europe/Berln", "TZ=UTC"}); got != "" {
		t.Errorf("the last value counts, and %q is reported", got)
	}
}
