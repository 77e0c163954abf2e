package config

import (
	"strings"
	"testing"
)

func TestDurationAdvice(t *testing.T) {
	for text, want := range map[string]string{
		"1d":            "unit d is not known; write 24h",
		"1.5d":          "unit d is not known; write 36h",
		"2 weeks":       "unit weeks is not known; write 336h",
		"1d12h":         "unit d is not known; write 36h",
		"5min":          "unit min is not known; write 5m",
		"90 seconds":    "unit seconds is not known; write 1m30s",
		"1h 30min":      "unit min is not known; write 1h30m",
		"1h30":          "not a duration; write 1h30m",
		"5m30":          "not a duration; write 5m30s",
		"1d12":          "not a duration; write seconds (5, 0.2) or a Go duration (200ms, 1h)",
		"5s30":          "not a duration; write seconds (5, 0.2) or a Go duration (200ms, 1h)",
		"1h 30m":        "not a duration; write 1h30m",
		"5 s":           "not a duration; write 5s",
		"10S":           "unit S is not known; write 10s",
		"100msecs":      "unit msecs is not known; write 100ms",
		"1D":            "unit D is not known; write 24h",
		"1M":            "not a duration; " + durationFix, // a month, or a minute
		"1y":            "not a duration; " + durationFix,
		"1d5":           "not a duration; " + durationFix,
		"d":             "not a duration; " + durationFix,
		"0d":            "not a duration; " + durationFix,
		"999999999w":    "not a duration; " + durationFix,
		"1,5":           "not a duration; " + durationFix,
		"*/5 * * * *":   "not a duration, and calendar schedules are not in this version; call gophd run --once from cron",
		"@hourly":       "not a duration, and calendar schedules are not in this version; call gophd run --once from cron",
		"1d; rm -rf /":  "not a duration; " + durationFix,
		"1234567890d":   "not a duration; " + durationFix,
		"0.0000000001d": "not a duration; " + durationFix,
	} {
		if _, err := parseDuration(text); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestSizeAdvice(t *testing.T) {
	for text, want := range map[string]string{
		"512MB": "512M", "1k": "1K", "1 KiB": "1K", "1.5G": "1536M", "2gb": "2G", "10b": "10", "1024MiB": "1G",
	} {
		if _, err := parseSize(text); err == nil || err.Error() != "not a size; write "+want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	for _, text := range []string{"1.1k", "1P", "M", "1M1K", "1KM", "999999999TB"} {
		if _, err := parseSize(text); err == nil || !strings.HasPrefix(err.Error(), "not a size; write bytes, ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzAdvice checks that a setting can be written as its error says.
func FuzzAdvice(f *testing.F) {
	for _, seed := range []string{"1d", "1h 30min", "512MB", "1.5G", "5 s", "0.000000001w", "9week9d", "1µs 1s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) error{
			func(text string) error { _, err := parseDuration(text); return err },
			func(text string) error { _, err := parseSize(text); return err },
		} {
			err := parse(text)
			if err == nil {
				continue
			}
			_, fix, ok := strings.Cut(err.Error(), "; write ")
			if !ok || strings.Contains(err.Error(), "\n") {
				if !strings.HasPrefix(err.Error(), "too l") && !strings.Contains(err.Error(), "calendar") {
					t.Errorf("%q: %v", text, err)
				}
				continue
			}
			if !strings.Contains(fix, " ") && parse(fix) != nil {
				t.Errorf("%q: %v, but %s: %v", text, err, fix, parse(fix))
			}
		}
	})
}

// TestINICommentAfterAValue checks that a value that may end with a comment is never used silently.
func TestINICommentAfterAValue(t *testing.T) {
	const head = "config.auto_restart_interval = 24h\n"
	const refused = `: a comment needs a line of its own; a value that contains " ;" or " #" needs quotes`
	for line, want := range map[string]string{
		"job.name=j ; the name":        `job.name "j ; the name"` + refused,
		"job.chdir = /tmp\t# here":     `job.chdir "/tmp\t# here"` + refused,
		"log.file = \"/x\" ; the log":  `log.file "\"/x\" ; the log"` + refused,
		"job.env_file = ; none":        `job.env_file "; none"` + refused,
		"job.name=j;the#name":          "",
		"log.file = '/x ;y'":           "",
		"job.command = true ; echo #x": "",
	} {
		r := request(t)
		r.Command = []string{"x"}
		r.Env = []string{"GOPHD_CONFIG=" + write(t, r.Dir+"/x.ini", head+line+"\n")}
		c, err := Load(r)
		switch {
		case want == "" && (err != nil || c.Warnings != nil):
			t.Errorf("%s: %v", line, err)
		case want != "" && (err == nil || err.Error() != r.Dir+"/x.ini:2: "+want):
			t.Errorf("%s: %v", line, err)
		}
	}

	// Text of the user is kept, with a warning that does not show it.
	r := request(t)
	r.Command = []string{"x"}
	file := write(t, r.Dir+"/x.ini", head+"[db]\nport = 1 ; hunter2\nurl = http://h/#a\nlist = 'a ; b'\n[job]\nenv.A = b # c\n")
	r.Env = []string{"GOPHD_CONFIG=" + file}
	c := load(t, r)
	const kept = ": the value goes up to the end of the line, the ; or # included; " +
		"put it into quotes, or the comment on a line of its own"
	if got, _ := c.Get("db.port"); got != "1 ; hunter2" || len(c.Warnings) != 2 ||
		c.Warnings[0] != file+":3: db.port"+kept || c.Warnings[1] != file+":7: job.env.A"+kept {
		t.Errorf("port %q, warnings %q", got, c.Warnings)
	}
}
