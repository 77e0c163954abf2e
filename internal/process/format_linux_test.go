package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gophd/internal/credentials"
)

// TestCheckAgreesWithTheKernel checks for many forms of a file that Check returns a path if Start
// starts it, and otherwise the error of Start, with and without Credentials.
func TestCheckAgreesWithTheKernel(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	script := map[string]string{
		"plain":                 "#!/bin/sh\n",
		"no newline":            "#!/bin/sh",
		"blanks":                "#! \t/bin/sh -e \t\n",
		"blank at the end":      "#!/bin/sh ",
		"argument":              "#!/bin/sh -e\nexit 0\n",
		"NUL after the name":    "#!/bin/sh\x00 x\n",
		"CRLF":                  "#!/bin/sh\r\nexit 0\r\n",
		"CRLF after a blank":    "#!/bin/sh \r\n",
		"missing":               "#!/opt/none/sh -e\n",
		"in no directory":       "#!/bin/sh/x\n",
		"name only":             "#!sh\n",
		"relative":              "#!./interpreter\n",
		"directory":             "#!/bin\n",
		"not executable":        "#!" + dir + "/text\n",
		"nothing":               "#!\n",
		"blanks only":           "#! \t \n",
		"blanks without end":    "#!" + strings.Repeat(" ", 300),
		"empty name":            "#!\x00\n",
		"two characters":        "#!",
		"no first line":         "echo hi\n",
		"byte order mark":       "\ufeff#!/bin/sh\n",
		"a comment":             "# /bin/sh\n",
		"one character":         "x",
		"empty":                 "",
		"interpreter of a kind": "#!" + dir + "/naked\n",
		"symbolic links":        "#!" + dir + "/circle\n",
		"long argument":         "#!/bin/sh " + strings.Repeat("x", 300) + "\n",
	}
	for n := 245; n < 260; n++ {
		line := "#!" + strings.Repeat("/", n-len("#!bin/sh")) + "bin/sh"
		script[fmt.Sprintf("%d bytes and a newline", n)] = line + "\n"
		script[fmt.Sprintf("%d bytes and no newline", n)] = line
		script[fmt.Sprintf("%d bytes and an argument", n)] = line + " -e\n"
		script[fmt.Sprintf("%d bytes and a NUL", n)] = line + "\x00"
	}
	before := "/bin/sh"
	for n := range 8 {
		name := fmt.Sprintf("chain of %d", n+1)
		script[name] = "#!" + before + "\n"
		before = filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
	}
	write(t, dir+"/text", "#!/bin/sh\n", 0o644)
	write(t, dir+"/naked", "echo hi\n", 0o755)
	if err := errors.Join(os.Symlink("/bin/sh", dir+"/interpreter"), os.Symlink("circle", dir+"/circle")); err != nil {
		t.Fatal(err)
	}
	for name, loader := range map[string]string{
		"loader missing": "/lib/none.so.1", "loader a directory": "/lib", "loader not executable": dir + "/text",
		"loader by a relative name": "none.so",
	} {
		script[name] = program(t, loader)
	}
	for name, text := range script {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			write(t, path, text, 0o755)
			for _, creds := range []*credentials.Credentials{nil, {}} {
				agree(t, s, Command{Argv: []string{path}, Dir: dir, Env: []string{"PATH=/bin"}, Credentials: creds})
			}
		})
	}
	write(t, dir+"/ok", "#!/bin/sh\n", 0o755)
	for name, c := range map[string]Command{
		"longest argument":   {Argv: []string{"./ok", strings.Repeat("x", maxWords*os.Getpagesize()-1)}, Dir: dir},
		"too long argument":  {Argv: []string{"./ok", strings.Repeat("x", maxWords*os.Getpagesize())}, Dir: dir},
		"too long variable":  {Argv: []string{"./ok"}, Dir: dir, Env: []string{"A=" + strings.Repeat("x", maxWords*os.Getpagesize())}},
		"NUL in an argument": {Argv: []string{"./ok", "a\x00"}, Dir: dir},
		"by PATH":            {Argv: []string{"ok"}, Dir: dir, Env: []string{"PATH=:/none"}},
		"no directory":       {Argv: []string{"/bin/true"}, Dir: dir + "/none"},
	} {
		t.Run(name, func(t *testing.T) { agree(t, s, c) })
	}
	for name, tc := range map[string]struct {
		w    credentials.Credentials
		want string
	}{
		"umask": {credentials.Credentials{Umask: ptr(0o27)}, ""},
		"limit above the maximum": {credentials.Credentials{Rlimits: []credentials.Rlimit{{
			Name: "nofile", Resource: syscall.RLIMIT_NOFILE, Soft: credentials.Unlimited, Hard: credentials.Unlimited}}},
			"choose a lower one"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Command{Argv: []string{"true"}, Dir: dir, Env: []string{"PATH=/bin"}, Credentials: &tc.w}
			if err := agree(t, s, c); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v; want %q", err, tc.want)
			}
		})
	}
}

// agree returns the error of Check, and fails unless Start has the same.
func agree(t *testing.T, s *Spawner, c Command) error {
	t.Helper()
	path, err := Check(c)
	c.Stdout, c.Stderr = discard(), discard()
	p, startErr := s.Start(t.Context(), c)
	if startErr == nil {
		p.Wait()
	}
	switch {
	case (err == nil) != (startErr == nil):
		t.Errorf("Check: %v; Start: %v", err, startErr)
	case err != nil && (errno(err) != errno(startErr) || err.Error() != startErr.Error()):
		t.Errorf("Check: %v (errno %d); Start: %v (errno %d)", err, errno(err), startErr, errno(startErr))
	case err == nil && !filepath.IsAbs(path):
		t.Errorf("Check found %q", path)
	}
	return err
}

// program returns an ELF file for this machine that names a loader.
func program(t *testing.T, loader string) string {
	t.Helper()
	own, err := readHead("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	const header, entry = 64, 56 // of ELFCLASS64
	b := make([]byte, header+entry)
	copy(b, own[:header])
	binary.LittleEndian.PutUint64(b[32:], header)
	binary.LittleEndian.PutUint16(b[54:], entry)
	binary.LittleEndian.PutUint16(b[56:], 1)
	binary.LittleEndian.PutUint32(b[header:], 3)
	binary.LittleEndian.PutUint64(b[header+8:], header+entry)
	binary.LittleEndian.PutUint64(b[header+32:], uint64(len(loader)+1))
	return string(b) + loader + "\x00"
}

// env(1) is found by the kernel, and then searches PATH itself: the run would fail with 127.
func TestCheckFollowsEnv(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/mine", "#!/bin/sh\n", 0o755)
	write(t, dir+"/env", "#!/bin/sh\n", 0o755)
	for line, want := range map[string]string{
		"#!/usr/bin/env sh":          "",
		"#!/usr/bin/env -S sh -e":    "",
		"#!/usr/bin/env mine":        "",
		"#!/usr/bin/env -i sh":       "",
		"#!/usr/bin/env A=1":         "",
		"#!/usr/bin/env":             "",
		"#!/bin/sh none":             "",
		"#!" + dir + "/env none":     "",
		"#!/usr/bin/env none":        "env does not find none: install it, or correct the first line of",
		"#!/usr/bin/env -S none -e":  "env does not find none: install it",
		"#!/usr/bin/env sh\r":        `env does not find "sh\r": the lines of ` + dir + `/x have Windows ends`,
		"#!/usr/bin/env ./none":      "env does not find ./none",
		"#!/usr/bin/env -S./none -e": "env does not find ./none",
	} {
		write(t, dir+"/x", line+"\n", 0o755)
		_, err := Check(Command{Argv: []string{"./x"}, Dir: dir, Env: []string{"PATH=/bin:/usr/bin:" + dir}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", line, err, want)
		}
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			t.Errorf("%q: %v is not ENOENT", line, err)
		}
	}
}

// A format that the kernel does not know itself may have a handler.
func TestFormatsWithAHandlerAreAccepted(t *testing.T) {
	const jar = "enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n"
	const foreign = "enabled\ninterpreter /usr/bin/qemu\nflags: OCF\noffset 0\nmagic 7f454c46000000\nmask ffffffff000000\n"
	const late = "enabled\ninterpreter /x\nflags: \noffset 2\nmagic 4243\n"
	for name, tc := range map[string]struct {
		entries    map[string]string
		file, head string
		unhandled  bool
	}{
		"not mounted, text":         {nil, "x", "echo", true},
		"not mounted, empty":        {nil, "x", "", true},
		"not mounted, binary":       {nil, "x", "\x7fELF", false},
		"not mounted, zeros":        {nil, "x", "\x00\x00\x00\x00x", false},
		"no handlers":               {map[string]string{"status": "enabled\n"}, "x", "\x7fELF", true},
		"switched off":              {map[string]string{"status": "disabled\n", "jar": jar}, "x.jar", "PK", true},
		"extension":                 {map[string]string{"status": "enabled\n", "jar": jar}, "x.jar", "PK", false},
		"another extension":         {map[string]string{"status": "enabled\n", "jar": jar}, "x.sh", "PK", true},
		"magic with a mask":         {map[string]string{"status": "enabled\n", "q": foreign}, "x", "\x7fELF\x02\x01", false},
		"another magic":             {map[string]string{"status": "enabled\n", "q": foreign}, "x", "\x7fELG", true},
		"magic at an offset":        {map[string]string{"status": "enabled\n", "l": late}, "x", "abBC", false},
		"no magic at the offset":    {map[string]string{"status": "enabled\n", "l": late}, "x", "BCab", true},
		"a handler that is off":     {map[string]string{"status": "enabled\n", "l": "disabled" + late[7:]}, "x", "abBC", true},
		"a handler of another kind": {map[string]string{"status": "enabled\n", "l": "enabled\nmagic zz\n"}, "x", "abBC", true},
	} {
		dir := t.TempDir()
		for entry, text := range tc.entries {
			write(t, filepath.Join(dir, entry), text, 0o644)
		}
		head := make([]byte, headSize)
		copy(head, tc.head)
		if got := unhandled(dir, "/d/"+tc.file, head); got != tc.unhandled {
			t.Errorf("%s: %v, want %v", name, got, tc.unhandled)
		}
	}
}

// FuzzFormat checks that no file makes the check panic, and that the errors are one line.
func FuzzFormat(f *testing.F) {
	for _, seed := range []string{"", "#!", "#!/bin/sh -e\n", "#! \x00", "\x7fELF", "#!/usr/bin/env -S x\r\n",
		"\x7fELF\x02\x01" + strings.Repeat("\xff", 100), "\x7fELF\x01\x02" + strings.Repeat("\x00\x01", 100)} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "x")
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
		if text, code := formatError(path, dir, nil); (text == "") != (code == 0) || strings.Contains(text, "\n") {
			t.Errorf("%q: %q, %d", data, text, code)
		}
	})
}
