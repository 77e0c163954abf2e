package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gophd/internal/job"
)

// What a setting names decides, not how it is spelled: gophd's own stdout, stderr and stdin are
// accepted without -d under each of their names, and rejected with -d.
func TestDescriptorsAreAcceptedOnlyWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	link := func(target string) string {
		path := filepath.Join(dir, strings.ReplaceAll(target, "/", "_"))
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	outputs := []string{"-", "/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev//stdout", link("/dev/stdout"),
		link("/dev/fd/2")}
	const lost = "a daemon has no stdout or stderr, the output would be lost; "
	for _, c := range []struct {
		flag   string
		values []string
		want   string // the error with -d
		got    func(*Config) string
	}{
		{"--log-file", outputs, lost + "name a file, journald: or syslog:", func(c *Config) string { return c.Log.File }},
		{"--output", outputs, lost + "use log, on-failure, discard or a file",
			func(c *Config) string { return string(c.Jobs[0].Output) }},
		{"--stdin", []string{"-", "inherit", "/dev/stdin", "/dev/fd/0", link("/dev/stdin")},
			"a daemon has no terminal; use null or a file", func(c *Config) string { return c.Jobs[0].Stdin }},
	} {
		for _, value := range c.values {
			want := value
			switch {
			case c.flag == "--stdin":
				want = job.StdinInherit
			case value == "-":
				want = "/dev/stdout"
			}
			if got := c.got(load(t, parsed(t, request(t), c.flag, value, "x"))); got != want {
				t.Errorf("%s %s is %s, want %s", c.flag, value, got, want)
			}
			_, err := Load(parsed(t, request(t), "-d", c.flag, value, "x"))
			if want := c.flag + " " + value + ": " + c.want; err == nil || err.Error() != want {
				t.Errorf("with -d: %v, want %s", err, want)
			}
			r := request(t)
			write(t, filepath.Join(r.Dir, "gophd.yaml"), "config: {auto_restart_interval: 24h, daemon: yes}\n")
			if _, err := Load(parsed(t, r, "-c", "gophd.yaml", c.flag, value, "x")); err == nil {
				t.Errorf("with config.daemon, %s %s is accepted", c.flag, value)
			}
		}
	}
	// A file with such a name and a device are files like others.
	for _, value := range []string{"./-", "/dev/null", "/dev/stdout.log"} {
		c := load(t, parsed(t, request(t), "-d", "--log-file", value, "--output", value, "--stdin", value, "x"))
		if got := []string{c.Log.File, string(c.Jobs[0].Output), c.Jobs[0].Stdin}; slices.Contains(got, "/dev/stdout") ||
			slices.Contains(got, job.StdinInherit) {
			t.Errorf("%s is %q", value, got)
		}
	}
}

// gophd keeps its descriptors 0 to 2 only, and each has one direction.
func TestDescriptorsThatGophdDoesNotKeepAreRejected(t *testing.T) {
	const out = ": neither gophd's stdout nor its stderr, and gophd keeps no other descriptor; " +
		"redirect stdout to it, and use -"
	const in = ": not gophd's stdin, and gophd keeps no other descriptor to read; redirect stdin from it, and use -"
	for args, want := range map[string]string{
		"--log-file /dev/fd/3": out, "--log-file /dev/stdin": out, "--output /dev/fd/0": out, "--output /dev/fd/77": out,
		"--stdin /dev/fd/3": in, "--stdin /dev/stdout": in,
		"--overlap=allow --stdin /dev/stdin": ": overlapping runs would take each other's input; use null or a file",
		"--overlap=allow --stdin -":          ": overlapping runs would take each other's input; use null or a file",
	} {
		_, err := Load(parsed(t, request(t), append(strings.Fields(args), "x")...))
		want = strings.TrimPrefix(args, "--overlap=allow ") + want
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", args, err, want)
		}
	}
}

// Words that other tools have for no file, or for a descriptor, name a file here, with a warning.
func TestWordsThatNameAFileAreAWarning(t *testing.T) {
	const of = ": this is a file of that name in the working directory; "
	dir := t.TempDir()
	if err := os.Symlink("/dev/stdout", dir+"/stdout"); err != nil {
		t.Fatal(err)
	}
	for settings, want := range map[string]string{
		"JOB_OUTPUT=none":                   "GOPHD_JOB_OUTPUT none" + of + "for no file use /dev/null",
		"JOB_OUTPUT=null":                   "GOPHD_JOB_OUTPUT null" + of + "for no file use /dev/null",
		"JOB_OUTPUT=stdout":                 "GOPHD_JOB_OUTPUT stdout" + of + "for gophd's stdout use -",
		"JOB_OUTPUT=stderr":                 "GOPHD_JOB_OUTPUT stderr" + of + "for gophd's stderr use /dev/stderr",
		"LOG_FILE=none":                     "GOPHD_LOG_FILE none" + of + "for no file use /dev/null",
		"LOG_FILE=null":                     "GOPHD_LOG_FILE null" + of + "for no file use /dev/null",
		"LOG_FILE=stdout":                   "GOPHD_LOG_FILE stdout" + of + "for gophd's stdout use -",
		"LOG_FILE=stderr":                   "GOPHD_LOG_FILE stderr" + of + "for gophd's stderr use /dev/stderr",
		"LOG_FILE=stdout CONFIG_DAEMON=yes": "GOPHD_LOG_FILE stdout" + of + "a daemon has no stdout or stderr",
		"JOB_STDIN=none":                    "GOPHD_JOB_STDIN none" + of + "for no input use null",
		"JOB_STDIN=stdin":                   "GOPHD_JOB_STDIN stdin" + of + "for gophd's stdin use -",
		"JOB_STDIN=null":                    "",
		"JOB_OUTPUT=./none":                 "",
		"JOB_OUTPUT=none.txt":               "",
		"JOB_OUTPUT=/tmp/stdout":            "",
		"LOG_FILE=./stdout":                 "",
		"LOG_FILE=-":                        "",
		"JOB_STDIN=./none":                  "",
	} {
		r := Request{Dir: "/d", Command: []string{"true"}, NeedCommand: true, SystemDir: "/none"}
		for _, kv := range strings.Fields(settings) {
			r.Env = append(r.Env, "GOPHD_"+kv)
		}
		if got := strings.Join(load(t, r).Warnings, "\n"); got != want {
			t.Errorf("%s: %q, want %q", settings, got, want)
		}
	}
	r := Request{Dir: dir, Command: []string{"true"}, SystemDir: "/none", Env: []string{"GOPHD_JOB_OUTPUT=stdout"}}
	if c := load(t, r); len(c.Warnings) > 0 {
		t.Errorf("a link to the stdout of gophd: %q", c.Warnings)
	}
}

// A path that leads to a descriptor of gophd itself is another file later, or none. Commands and
// directories are looked up at each run.
func TestDescriptorsAreNoCommandAndNoDirectory(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/dev/fd/5", link); err != nil {
		t.Fatal(err)
	}
	const own = ": a descriptor of gophd itself, which is another file later, or none; "
	for _, daemon := range []string{"--daemon=false", "--daemon"} {
		for _, path := range []string{"/dev/fd/5", "/proc/self/fd/5", "/proc/thread-self/fd/5", "/dev/stdin", "/dev/stdout", link,
			link + "/below", "/dev/fd/5/below"} {
			for args, want := range map[string]string{
				path:                     "command line " + path + own + "name the program",
				"--chdir " + path + " x": "--chdir " + path + own + "name the directory",
			} {
				_, err := Load(parsed(t, request(t), append([]string{daemon}, strings.Fields(args)...)...))
				if err == nil || err.Error() != want {
					t.Errorf("%s %s: %v\nwant %s", daemon, args, err, want)
				}
			}
		}
	}
	// A relative path is below the directory of the job.
	if _, err := Load(parsed(t, request(t), "--chdir", dir, "./link")); err == nil ||
		err.Error() != "command line ./link"+own+"name the program" {
		t.Error(err)
	}
	r := request(t)
	write(t, filepath.Join(r.Dir, "gophd.yaml"), "config: {auto_restart_interval: 24h}\n"+
		"jobs: {a: {command: [/dev/fd/5]}, b: {command: ['true'], chdir: /dev/fd/6}}\n")
	_, err := Load(parsed(t, r, "-c", "gophd.yaml"))
	for _, want := range []string{"/dev/fd/5" + own + "name the program", "/dev/fd/6" + own + "name the directory"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	// That of another process stays what it is, and a shell may read its stdin.
	for _, args := range []string{"/proc/1/fd/5", "--chdir /proc/1/fd x", "sh /dev/stdin", "--chdir /dev/fd x"} {
		load(t, parsed(t, request(t), strings.Fields(args)...))
	}
}

// A PID file is replaced and removed, so a descriptor of any process would cost the file behind it. A
// file that is read again later must have a name that lasts.
func TestDescriptorsAreNoFilesOfGophd(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink("/dev/fd/1", link); err != nil {
		t.Fatal(err)
	}
	const (
		pid  = ": a descriptor, and gophd replaces and removes its PID file; name a file in a directory"
		own  = ": a descriptor of gophd itself, which is another file later, or none; name a file"
		read = own + ", which a reload can read again"
	)
	for args, want := range map[string]string{
		"-p /dev/fd/5":           "--pid-file /dev/fd/5" + pid,
		"-p /dev/stdout":         "--pid-file /dev/stdout" + pid,
		"-p /proc/1/fd/5":        "--pid-file /proc/1/fd/5" + pid,
		"-p /dev/fd/5/x.pid":     "--pid-file /dev/fd/5/x.pid" + pid,
		"-p " + link:             "--pid-file " + link + pid,
		"--env-file /dev/fd/5":   "--env-file /dev/fd/5" + read,
		"--env-file -/dev/stdin": "--env-file /dev/stdin" + read,
		"--env-file " + link:     "--env-file " + link + read,
		"-c " + link:             link + read,
		"--heartbeat memcached://127.0.0.1 --heartbeat-password-file /dev/fd/5": "--heartbeat-password-file /dev/fd/5" + own,
	} {
		for _, daemon := range []string{"--daemon=false", "--daemon"} {
			_, err := Load(parsed(t, request(t), append([]string{daemon}, strings.Fields(args+" -n x x")...)...))
			if err == nil || err.Error() != want {
				t.Errorf("%s %s: %v\nwant %s", daemon, args, err, want)
			}
		}
	}
	r := request(t)
	write(t, filepath.Join(r.Dir, "gophd.yaml"), "config: {auto_restart_interval: 24h}\ninclude: "+link+"\n")
	if _, err := Load(parsed(t, r, "-c", "gophd.yaml")); err == nil || !strings.Contains(err.Error(), read) {
		t.Errorf("include: %v\nwant %s", err, read)
	}
}

// Each setting and each variable that names a file or a directory rejects what only a shell expands,
// the word for stdout and stdin where it has no meaning, and an own variable also a descriptor.
func TestPathsAreNotExpanded(t *testing.T) {
	const (
		home     = ": ~ is expanded by shells only; write the full path"
		variable = ": variables are expanded by shells only; write the value"
		stdio    = ": not a file here; for a file of that name write ./-"
	)
	settings := []string{"GOPHD_CONFIG", "GOPHD_RUNTIME_DIR", "GOPHD_STATE_DIR"}
	for _, k := range keys() {
		if k.kind == path || k.kind == directory || k.kind == files {
			settings = append(settings, k.env())
		}
	}
	if len(settings) != 11 {
		t.Errorf("%q: a new setting needs a case here", settings)
	}
	for _, name := range settings {
		both := map[string]string{"~/x.yaml": name + " ~/x.yaml" + home, "$HOME/x.yaml": name + " $HOME/x.yaml" + variable,
			"${HOME}/x.yaml": name + " ${HOME}/x.yaml" + variable, "-": name + " -" + stdio}
		switch name {
		case "GOPHD_JOB_ENV_FILE":
			both["~/x.yaml"], both["-"] = name+": ~/x.yaml"+home, name+": -"+stdio
			both["-~/x.yaml"] = name + ": -~/x.yaml" + home
		case "GOPHD_RUNTIME_DIR", "GOPHD_STATE_DIR":
			both["/dev/fd/5"] = name + " /dev/fd/5: a descriptor of gophd itself, which is another file later, or none; name the directory"
			fallthrough
		case "GOPHD_JOB_CHDIR":
			both["-"] = name + " -: not a directory here; for one of that name write ./-"
		case "GOPHD_JOB_STDIN", "GOPHD_JOB_OUTPUT", "GOPHD_LOG_FILE":
			delete(both, "-")
		}
		for text, want := range both {
			r := request(t)
			r.Command, r.Env = []string{"x"}, []string{name + "=" + text}
			if _, err := Load(r); err == nil || err.Error() != want {
				t.Errorf("%s=%s: %v\nwant %s", name, text, err, want)
			}
		}
	}
	// The variables of others are ignored if they are not absolute, and a start does not depend on them.
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR"} {
		for text, want := range map[string]string{"~/x": home, "$HOME/x": variable, "x": "", "/x": ""} {
			r := request(t)
			r.Command, r.Env, r.UID, r.Home = []string{"x"}, []string{name + "=" + text}, 1000, r.Dir
			if want != "" {
				want = name + " " + text + want + "; it is ignored"
			}
			if got := strings.Join(load(t, r).Warnings, "\n"); got != want {
				t.Errorf("%s=%s: %q, want %q", name, text, got, want)
			}
		}
	}
}
