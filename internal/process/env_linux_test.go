package process

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gophd/internal/credentials"
	"gophd/internal/job"
)

// TestCheckAgreesWithEnv checks for many first lines that Check accepts a script if the env of this
// system starts a program for it, and otherwise returns an error.
func TestCheckAgreesWithEnv(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/other", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/mine", "#!/bin/sh\n", 0o755)
	write(t, dir+"/other/hidden", "#!/bin/sh\n", 0o755)
	write(t, dir+"/other/two words", "#!/bin/sh\n", 0o755)
	write(t, dir+"/windows", "#!/bin/sh\r\n", 0o755)
	write(t, dir+"/by-env", "#!/usr/bin/env nosuch\n", 0o755)
	write(t, dir+"/naked", "exit 0\n", 0o755)
	write(t, dir+"/closed", "#!/bin/sh\n", 0o644)
	const (
		notFound = "env does not find nosuch in PATH: install it, add its directory to PATH (--env PATH=...), or correct the first line of "
		notThere = "env does not find nosuch: install it, or correct the first line of " // the line sets another PATH
		oneWord  = " as one word; write #!/usr/bin/env -S "
	)
	for line, want := range map[string]string{
		"true":             "",
		"mine":             "",
		"naked":            "", // a shell executes it
		"./mine":           "",
		"nosuch":           notFound,
		"./nosuch":         "env does not find ./nosuch",
		"true\r":           `env does not find "true\r": the lines of ` + dir + `/x have Windows ends`,
		"windows":          "env starts " + dir + "/windows: its interpreter \"/bin/sh\\r\" does not exist: the lines of " + dir + "/windows",
		"by-env":           "env starts " + dir + "/by-env: env does not find nosuch",
		"./closed":         "env may not execute ./closed",
		"true -u":          `env does not find "true -u": the kernel passes "true -u"` + oneWord + "true -u",
		"-i true":          `(an option has no blanks): the kernel passes "-i true"` + oneWord + "-i true",
		"-v -S true":       `the kernel passes "-v -S true"` + oneWord + "-v -S true",
		"--debug true":     `the kernel passes "--debug true"` + oneWord + "--debug true",
		"--split-string x": `the kernel passes "--split-string x"` + oneWord + "x",
		"-i\r":             "have Windows ends",
		"-Z sh":            "env does not accept its options (it has no such option): correct the first line of ",
		"-Z":               "(it has no such option)",
		"--no-such=1":      "(it has no such option)",
		"-0":               "(-0 is not for a command): correct the first line of ",

		"-S true":                                "",
		"-Strue":                                 "",
		"-S true -e x":                           "",
		"-S true\r":                              "",
		"-vS true":                               "",
		"-ivS true":                              "",
		"-S\ttrue":                               "",
		"-S true # nosuch":                       "",
		"-S # nosuch":                            "again, without end",
		"-S mi#ne":                               "env does not find mi#ne",
		`-S true \c nosuch`:                      "",
		"--split-string=true":                    "",
		"--split=true":                           "",
		"-S FOO=1 true":                          "",
		"-S FOO=1 BAR= true":                     "",
		"-S -i /bin/true":                        "",
		"-S -i true":                             "",
		"-S - true":                              "",
		"-S -- true":                             "",
		"-S -u X true":                           "",
		"-S -uX true":                            "",
		"-S --unset X true":                      "",
		"-S --unset=X --ignore-environment true": "",
		"-S -C other true":                       "",
		"-S -C other ./hidden":                   "",
		"-S --chdir=other ./hidden":              "",
		"-S --block-signal true":                 "",
		"-S --default-signal=INT true":           "",
		"-S PATH=other hidden":                   "",
		"-S PATH=none PATH=other hidden":         "",
		`-S "PATH=other" 'hidden'`:               "",
		`-S PATH=other two\_words`:               "env does not find two",
		`-S PATH=other "two words"`:              "",
		`-S PATH=other "two\_words"`:             "",
		`-S PATH=other 'two\_words'`:             `env does not find "two\\_words"`,
		"-S ${KIND}rue":                          "",
		"-S ${UNSET} true":                       "",
		"-S true '${no}' \\${no}":                "",
		"-S -S true":                             "",
		"-S '-S true'":                           "",
		"--help":                                 "",
		"-u":                                     "",

		"-S nosuch":                          notFound,
		"-S nosuch -e":                       notFound,
		"-S./nosuch -e":                      "env does not find ./nosuch",
		"-S nosuch\r":                        notFound,
		"-vS nosuch":                         notFound,
		"-S FOO=1 nosuch":                    notFound,
		"--split-string=nosuch":              notFound,
		"--split-string=FOO=1 nosuch -x":     notFound,
		"-S -i nosuch":                       notThere,
		"-iS nosuch":                         notThere,
		"-S -u X nosuch":                     notFound,
		"-S -i mine":                         "env does not find mine: install it, or correct the first line",
		"-S -u PATH mine":                    "env does not find mine",
		"-S -C other ./mine":                 "env does not find ./mine",
		"-S -C none true":                    "env cannot enter the directory " + dir + "/none",
		"-S PATH=other mine":                 "env does not find mine: install it, or correct the first line",
		`-S "nosuch"`:                        notFound,
		`-S no\_such`:                        "env does not find no",
		"-S ${KIND}osuch":                    "env does not find tosuch",
		"-S $KIND":                           "(after -S a variable is written ${NAME}): correct the first line of ",
		"-S ${9}":                            "(after -S a variable is written ${NAME})",
		`-S "true`:                           "(the quotes after -S do not end)",
		`-S true \x`:                         "(the escape sequence after -S is not known)",
		`-S true \`:                          "(the escape sequence after -S is not known)",
		`-S "\c"`:                            "(the escape sequence after -S is not known)",
		"-S -0 true":                         "(-0 is not for a command)",
		"-S by-env":                          "env starts " + dir + "/by-env: env does not find nosuch",
		"-S ''":                              `env does not find ""`,
		"-S -- -i true":                      "env does not find -i",
		"-S --ignore-environment -C. nosuch": notThere,
	} {
		write(t, dir+"/x", "#!/usr/bin/env "+line+"\n", 0o755)
		c := Command{Argv: []string{"./x"}, Dir: dir, Env: []string{"PATH=/bin:/usr/bin:" + dir, "KIND=t"},
			Stdout: discard(), Stderr: discard()}
		_, err := Check(c)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", line, err, want)
		}
		if err != nil && job.StartCode(err) != 127 && job.StartCode(err) != 126 {
			t.Errorf("%q: exit code %d", line, job.StartCode(err))
		}
		if strings.Contains(want, "without end") {
			continue
		}
		p, err := s.Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Wait(); got.Outcome != job.Exited || (got.Code == 0) != (want == "") ||
			want != "" && !slices.Contains([]int{125, 126, 127}, got.Code) {
			t.Errorf("%q: Check returns %q, and the run ends with %v", line, want, got)
		}
	}
}

// TestCheckFindsAScriptThatEnvStartsAgain shows for some scripts, by the limit of CPU time, that
// their runs do not end.
func TestCheckFindsAScriptThatEnvStartsAgain(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	write(t, dir+"/y", "#!/usr/bin/env x\n", 0o755)
	correct := ": name a program in the first line of " + dir + "/x"
	for line, fix := range map[string]string{
		"FOO=1 y":     `: the kernel passes "FOO=1 y" as one word; write #!/usr/bin/env -S FOO=1 y`,
		"-u FOO true": `: the kernel passes "-u FOO true" as one word; write #!/usr/bin/env -S -u FOO true`,
		"FOO=1":       correct,
		"":            correct,
		"-i":          correct,
		"-":           correct,
		"-S":          correct,
		"-S FOO=1":    correct,
		"x":           correct,
		"y":           ": name a program in the first line of " + dir + "/y",
	} {
		t.Run(line, func(t *testing.T) {
			write(t, dir+"/x", strings.TrimSuffix("#!/usr/bin/env "+line, " ")+"\n", 0o755)
			w := &credentials.Credentials{Rlimits: []credentials.Rlimit{{Name: "cpu", Resource: unix.RLIMIT_CPU, Soft: 1, Hard: 9}}}
			c := Command{Argv: []string{"./x"}, Dir: dir, Env: []string{"PATH=" + dir}, Credentials: w,
				Stdout: discard(), Stderr: discard()}
			_, err := Check(c)
			want := "env starts " + dir + "/x again, without end" + fix
			if !errors.Is(err, syscall.ELOOP) || job.StartCode(err) != 126 || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%v; want %q", err, want)
			}
			if !slices.Contains([]string{"FOO=1 y", "", "y"}, line) {
				return
			}
			p, err := s.Start(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Wait(); got.Outcome != job.Signaled || got.Signal != syscall.SIGXCPU {
				t.Errorf("the run ends with %v", got)
			}
		})
	}
}

// The env of this system has -S. That of busybox has the options of GNU env before 8.30.
func TestEnvWithoutSplit(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/small", "\x7fELF\x00ignore-environment\x00null\x00unset\x00", 0o755)
	write(t, dir+"/other", "\x7fELF\x00usage: env [-0iv] [-S string]\x00", 0o755)
	for path, want := range map[string]bool{"/usr/bin/env": true, dir + "/small": false, dir + "/other": true, dir + "/none": true} {
		if got := hasSplit(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// A script that names another env is not followed.
func TestCheckFollowsEnvAlone(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/env", "#!/bin/sh\n", 0o755)
	for _, line := range []string{"#!/bin/sh nosuch", "#!" + dir + "/env nosuch"} {
		write(t, dir+"/x", line+"\n", 0o755)
		if _, err := Check(Command{Argv: []string{"./x"}, Dir: dir}); err != nil {
			t.Error(err)
		}
	}
}

// FuzzEnv checks that no first line makes the check panic.
func FuzzEnv(f *testing.F) {
	for _, seed := range []string{"-S FOO=1 x", "--split-string=x", "-vS -i -u X x", `-S "a\_b" '${A}' ${B} \c`, "-", "--", "-C", "-S -S -S", "-\r"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		run, err := parseEnv([]string{line, "/x"}, "/", []string{"A=1", "B=-S x"})
		if err == nil && !run.nothing && len(run.env) == 0 {
			t.Errorf("%q: no environment", line)
		}
	})
}
