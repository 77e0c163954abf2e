package process

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"gophd/internal/job"
)

// TestWordsForAShell checks that a command that is meant for a shell, or for gophd, gets the right
// form, from LookPath and from a start.
func TestWordsForAShell(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	write(t, dir+"/job.sh", "#!/bin/sh\n", 0o755)
	bin := t.TempDir()
	if err := os.Mkdir(bin+"/set", 0o755); err != nil { // a directory is no command
		t.Fatal(err)
	}
	const (
		line     = "it is one word with blanks: for a shell line use --shell, for arguments leave out the quotes"
		variable = "variables are expanded by shells only: write the full path, or use --shell"
		home     = "~ is expanded by shells only: write the full path, or use --shell"
		syntax   = "only a shell reads such a word: use --shell"
		flag     = "a flag is no command: write flags of gophd before the --, and the command after it"
		dash     = "it starts with a dash of a word processor: write a flag of gophd with two plain ones (--)"
		interval = "it looks like an interval: set --interval "
		path     = "not found in PATH: give its path, or add its directory to PATH (--env PATH=...)"
		file     = "no such file: check the path, or the directory it is started in ("
	)
	for argv0, want := range map[string]string{
		"echo hi there":                        `"echo hi there": ` + line,
		"echo a|b":                             `"echo a|b": ` + line,
		"./job.sh --all":                       `"./job.sh --all": ` + line,
		"~/job.sh --all":                       `"~/job.sh --all": ` + line,
		"$X/job.sh --all":                      `"$X/job.sh --all": ` + line,
		"./My Jobs/job":                        `"./My Jobs/job": ` + file,
		"FOO=bar":                              `"FOO=...": it sets a variable: set it with --env FOO=..., or use --shell`,
		"PASSWORD=hunter2":                     `"PASSWORD=...": it sets a variable: set it with --env PASSWORD=...`,
		"PW=hunter2 ./job":                     `"PW=...": ` + line,
		"PW=/hunter2":                          `"PW=...": it sets a variable: `,
		"./a=b":                                "./a=b: " + file,
		"~":                                    "~: " + home,
		"~/bin/job":                            "~/bin/job: " + home,
		"~ann/bin/job":                         "~ann/bin/job: " + home,
		"$HOME/bin/job":                        "$HOME/bin/job: " + variable,
		"${APP}":                               "${APP}: " + variable,
		"`job`":                                "`job`: " + variable,
		"a|b":                                  "a|b: " + syntax,
		"./*.sh":                               "./*.sh: " + syntax,
		">out":                                 ">out: " + syntax,
		"1d":                                   "1d: " + interval + "1d, and leave it out of the command",
		"500ms":                                "500ms: " + interval + "500ms, and",
		"7":                                    "7: " + interval + "7, and",
		"7z":                                   "7z: " + path,
		"--once":                               "--once: " + flag,
		"-n":                                   "-n: " + flag,
		"—interval=5":                          "—interval=5: " + dash,
		"–once":                                "–once: " + dash,
		"job.sh\r":                             `"job.sh\r": it ends with a carriage return: `,
		"./job.sh\r":                           `"./job.sh\r": it ends with a carriage return: `,
		"job.sh":                               "job.sh: not found in PATH, but in " + dir + ": write ./job.sh",
		"exec":                                 "exec: it is a word of the shell: use --shell, or sh -c",
		"exit":                                 "exit: it is a word of the shell: use --shell, or sh -c",
		":":                                    ":: it is a word of the shell: use --shell, or sh -c",
		"then":                                 "then: it is a word of the shell: use --shell, or sh -c",
		"local":                                "local: it is a word of the shell: use --shell, or sh -c",
		"done":                                 "done: it is a word of the shell: use --shell, or sh -c",
		"(true)":                               "(true): " + syntax,
		"(cd":                                  "(cd: " + syntax,
		"echo\thi":                             `"echo\thi": ` + line,
		"echo\nhi":                             `"echo\nhi": ` + line,
		"set":                                  "set: it is a word of the shell: use --shell, or sh -c",
		".":                                    ".: it is a command of the shell: use --env-file, or --shell, or sh -c",
		"[[":                                   "[[: it is a word of the shell: use --shell, or sh -c",
		"source":                               "source: it is a command of the shell: use --env-file, or --shell, or sh -c",
		"no-such-command":                      "no-such-command: " + path,
		"/no-such-command/x":                   "/no-such-command/x: no such file: check the path",
		"./none/x":                             "./none/x: " + file,
		"jobs.yaml":                            "jobs.yaml: it looks like a config file: read it with -c jobs.yaml",
		"/none/jobs.toml":                      "/none/jobs.toml: it looks like a config file: read it with -c /none/jobs.toml",
		"echo " + strings.Repeat("x", 300):     `"echo ` + strings.Repeat("x", 75) + `...": ` + line,
		"./job.sh " + strings.Repeat("x", 300): `"./job.sh ` + strings.Repeat("x", 71) + `...": ` + line,
	} {
		env := []string{"PATH=" + bin + ":/bin:/hidden"}
		_, look := LookPath(argv0, dir, env)
		_, start := s.Start(t.Context(), Command{Argv: []string{argv0}, Dir: dir, Env: env, Stdout: discard(), Stderr: discard()})
		for by, err := range map[string]error{"LookPath": look, "Start": start} {
			if err == nil || !strings.HasPrefix(err.Error(), "cannot start "+want) || strings.Contains(err.Error(), "hidden") ||
				strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v, want %s", by, err, want)
				continue
			}
			if job.StartCode(err) != 127 || !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ENAMETOOLONG) {
				t.Errorf("%s: %v has code %d", by, err, job.StartCode(err))
			}
		}
	}

	// A file that exists under such a name is started, or has its own error.
	for _, name := range []string{"FOO=bar", "$x", "a b", "-x"} {
		write(t, dir+"/"+name, "#!/bin/sh\n", 0o755)
		if found, err := LookPath("./"+name, dir, nil); err != nil || found != dir+"/"+name {
			t.Errorf("%s: %s, %v", name, found, err)
		}
		if found, err := LookPath(name, "/", []string{"PATH=" + dir}); err != nil || found != dir+"/"+name {
			t.Errorf("%s in PATH: %s, %v", name, found, err)
		}
	}
	write(t, dir+"/$plain", "", 0o644)
	if _, err := LookPath("./$plain", dir, nil); err == nil || !strings.Contains(err.Error(), "chmod +x") {
		t.Errorf("a file without the right to execute: %v", err)
	}
	if _, err := LookPath("~/x", dir+"/gone", nil); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a missing directory: %v", err)
	}
}

// TestUnexpandedPath checks that a PATH with a word which only a shell expands is named as the cause.
func TestUnexpandedPath(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/job.py", "#!/usr/bin/env no-python\n", 0o755)
	const fix = " is not expanded, because only shells do that: write all directories of PATH"
	for path, want := range map[string]string{
		"/opt/bin:$PATH":        "$PATH",
		"$PATH:/opt/bin":        "$PATH",
		"${PATH}:/opt/bin":      "${PATH}",
		"/opt/bin:$HOME/bin":    "$HOME",
		"/opt/$APP/bin:/hidden": "$APP",
		"~/bin:/opt/bin":        "~",
	} {
		env := []string{"PATH=" + path}
		for argv0, want := range map[string]string{
			"no-such":       "cannot start no-such: not found in PATH, where " + want + fix,
			dir + "/job.py": "cannot start " + dir + "/job.py: env does not find no-python in PATH, where " + want + fix,
		} {
			if _, err := Check(Command{Argv: []string{argv0}, Env: env}); err == nil || err.Error() != want {
				t.Errorf("%s: %v\nwant %s", path, err, want)
			}
		}
	}
	const ordinary = "cannot start no-such: not found in PATH: give its path, or add its directory to PATH (--env PATH=...)"
	if _, err := LookPath("no-such", "", []string{"PATH=/a~b:/c"}); err == nil || err.Error() != ordinary {
		t.Error(err)
	}
}
