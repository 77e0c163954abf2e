package self

import "testing"

func TestMissingZone(t *testing.T) {
	for text, want := range map[string]string{
		"TZ=Europe/Berln":     "Europe/Berln",
		"TZ=:America/Nowhere": ":America/Nowhere",
		"TZ=Europe/Berlin":    "",
		"TZ=UTC":              "",
		"TZ=CET-1CEST":        "",
		"TZ=/etc/localtime":   "",
		"TZ=":                 "",
		"HOME=/x/y":           "",
	} {
		if got := MissingZone([]string{"A=1", text}); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if got := MissingZone([]string{"TZ=Europe/Berln", "TZ=UTC"}); got != "" {
		t.Errorf("the last value counts, and %q is reported", got)
	}
}
