package config

import (
	"slices"
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
		"1M":            "not a duration; minutes are a small m",
		"infinity":      "not a duration; write 0 if there is to be none",
		"1y":            "not a duration; " + durationFix,
		"1d5":           "not a duration; " + durationFix,
		"d":             "not a duration; " + durationFix,
		"0d":            "not a duration; " + durationFix,
		"999999999w":    "not a duration; " + durationFix,
		"1,5":           "not a duration; " + durationFix,
		"*/5 * * * *":   "not a duration; for a schedule write --schedule, or set job.schedule",
		"@hourly":       "not a duration; for a schedule write --schedule, or set job.schedule",
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
				if !strings.HasPrefix(err.Error(), "too l") && !strings.Contains(err.Error(), "--schedule") {
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

// A Windows line end in a value of a file is a line end, in every format. A carriage return at the end
// of a command from elsewhere is a warning that names it.
func TestCarriageReturns(t *testing.T) {
	head := map[string]string{
		"toml": "[config]\r\nauto_restart_interval = \"12h\"\r\n[job]\r\n",
		"yaml": "config: {auto_restart_interval: 12h}\r\njob:\r\n",
		"json": "{\"config\": {\"auto_restart_interval\": \"12h\"},\r\n\"job\": {",
		"ini":  "[config]\r\nauto_restart_interval = 12h\r\n[job]\r\n",
	}
	const passedOn = " has a carriage return at the end of a line, which is passed on; " +
		"save the file that it comes from with Unix line ends"
	for _, c := range []struct {
		format, text string
		argv         []string
		warning      string
	}{
		{"toml", "command = \"\"\"\r\ndate\r\nid\r\n\"\"\"\r\n", []string{"/bin/sh", "-c", "date\nid\n"}, ""},
		{"toml", "command = '''\r\ndate\r\nid'''\r\n", []string{"/bin/sh", "-c", "date\nid"}, ""},
		{"toml", "command = [\"sh\", \"-c\", \"\"\"date\r\nid\"\"\"]\r\n", []string{"sh", "-c", "date\nid"}, ""},
		{"toml", "command = \"date\\r\\n\"\r\n", []string{"/bin/sh", "-c", "date\n"}, ""},
		{"toml", "command = \"date\\r\"\r\n", []string{"/bin/sh", "-c", "date\r"}, "FILE:4: job.command: the line for the shell" + passedOn},
		{"yaml", "  command: |\r\n    date\r\n    id\r\n", []string{"/bin/sh", "-c", "date\nid\n"}, ""},
		{"yaml", "  command: \"date\\r\\nid\"\r\n", []string{"/bin/sh", "-c", "date\nid"}, ""},
		{"yaml", "  command: [echo, \"a\\r\"]\r\n", []string{"echo", "a\r"}, "FILE:3: job.command: argument 1 of the command" + passedOn},
		{"json", "\"command\": \"date\\r\\nid\\r\\n\"}}\r\n", []string{"/bin/sh", "-c", "date\nid\n"}, ""},
		{"json", "\"command\": [\"sh\", \"-c\", \"date\\r\\nid\"]}}", []string{"sh", "-c", "date\nid"}, ""},
		{"ini", "command = date\r\n", []string{"/bin/sh", "-c", "date"}, ""},
	} {
		r := request(t)
		file := write(t, r.Dir+"/c."+c.format, head[c.format]+c.text)
		r.Env = []string{"GOPHD_CONFIG=" + file}
		got := load(t, r)
		want := strings.Replace(c.warning, "FILE", file, 1)
		if !slices.Equal(got.Jobs[0].Command, c.argv) || strings.Join(got.Warnings, "\n") != want {
			t.Errorf("%s %q: command %q, warnings %q; want %q, %q", c.format, c.text, got.Jobs[0].Command, got.Warnings, c.argv, want)
		}
	}
	for _, c := range []struct {
		args    []string
		env     string
		warning string
	}{
		{[]string{"--shell", "--", "date\r"}, "", "command line: the line for the shell" + passedOn},
		{[]string{"--shell", "--", "date\r\nid"}, "", "command line: the line for the shell" + passedOn},
		{[]string{"--", "echo", "a\r"}, "", "command line: argument 1 of the command" + passedOn},
		{nil, "GOPHD_JOB_COMMAND=date\r", "GOPHD_JOB_COMMAND: the line for the shell" + passedOn},
		{[]string{"--", "printf", "a\rb"}, "", ""},
	} {
		r := parsed(t, request(t), c.args...)
		r.Env = []string{c.env}
		if got := strings.Join(load(t, r).Warnings, "\n"); got != c.warning {
			t.Errorf("%q %q: warnings %q; want %q", c.args, c.env, got, c.warning)
		}
	}
}

// A misspelled %{job} would silently become the name of a file.
func TestPatternsInFileNames(t *testing.T) {
	const unknown = "%{jobs} is not known; write %{job} for the name of the job"
	for _, c := range []struct {
		of         string
		check      func(string) error
		text, want string
	}{
		{"log.file", checkLogFile, "/l/%{jobs}.log", unknown},
		{"log.file", checkLogFile, "/l/%%{jobs}-%{job}.log", ""},
		{"job.output", checkOutput, "/o/%{jobs}", unknown},
		{"job.output", checkOutput, "/o/%{job}-100%", ""},
		{"config.pid_file", checkPIDFile, "/run/%{job}.pid",
			"%{job} is not replaced in the name of a PID file, which is that of gophd; write a name"},
		{"config.pid_file", checkPIDFile, "/run/50%.pid", ""},
	} {
		got := ""
		if err := c.check(c.text); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s %s: %q, want %q", c.of, c.text, got, c.want)
		}
	}
}
