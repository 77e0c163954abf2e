package schedule

import "testing"

func TestWindowsAndDays(t *testing.T) {
	for text, ok := range map[string]bool{"22:00-06:00": true, "00:00-24:00": true, "9:30-17:00": true, "": false, "22-06": false,
		"22:00": false, "22:00-22:00": false, "24:00-06:00": false, "22:60-23:00": false, "22:00-24:01": false, "-1:00-02:00": false,
		"22:00-06:00-07:00": false, "a:00-06:00": false, "22:0-06:00": false, "+1:00-02:00": false} {
		w, err := ParseWindow(text)
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
		if again, err := ParseWindow(w.String()); ok && (err != nil || again != w) {
			t.Errorf("%q is shown as %q", text, w)
		}
	}
	for text, ok := range map[string]bool{"2026-12-24": true, "12-24": true, "2026-12-24..2027-01-02": true, "12-24..01-02": true,
		"02-29": true, "2028-02-29": true, "2027-02-29": false, "02-30": false, "": false, "..": false, "2026-12-24..": false,
		"2026-12-24..01-02": false, "2027-01-02..2026-12-24": false, "24.12.2026": false, "12-24..12-25..12-26": false} {
		d, err := ParseDays(text)
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
		if ok && d.String() != text {
			t.Errorf("%q is shown as %q", text, d)
		}
	}
}

func TestNothingIsLeft(t *testing.T) {
	window, err := ParseWindow("22:00-06:00")
	if err != nil {
		t.Fatal(err)
	}
	var all []Exclusion
	for _, text := range []string{"01-01..12-31", "* * * * *", "* 0-23/1 * * *"} {
		x, err := ParseExclusion(text, Options{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	for text, left := range map[string]bool{"0 12 * * *": false, "0 3 * * *": true, "@at 2030-01-01T12:00": false,
		"@at 2030-01-01T03:00": true, "@every 25h": true, "@every 1s": true, "@reboot": true, "@manual": true, "* * * * * *": true} {
		s, err := Parse(text, Options{Seconds: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Within(window, nil); (err == nil) != left {
			t.Errorf("%s in the window: %v", text, err)
		}
		for _, x := range all {
			if _, err := s.Within(Window{}, []Exclusion{x}); (err == nil) != (s.kind < At) {
				t.Errorf("%s without %s: %v", text, x, err)
			}
		}
	}
}
