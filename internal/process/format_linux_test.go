package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gophd/internal/credentials"
	"gophd/internal/job"
	"gophd/internal/procfs"
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
		"CRLF for perl":         "#!/usr/bin/perl -w\r\n",
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
	script["32 bits, loader missing"] = program32("/lib/none.so.1")
	script["32 bits, loader of another machine"] = program32("/proc/self/exe")
	script["loader without a name"] = program(t, "")
	for name, text := range foreignFiles(t) {
		script[name] = text
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
		"longest argument":   {Argv: []string{"./ok", strings.Repeat("x", maxWordPages*os.Getpagesize()-1)}, Dir: dir},
		"too long argument":  {Argv: []string{"./ok", strings.Repeat("x", maxWordPages*os.Getpagesize())}, Dir: dir},
		"too long variable":  {Argv: []string{"./ok"}, Dir: dir, Env: []string{"A=" + strings.Repeat("x", maxWordPages*os.Getpagesize())}},
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

// program32 is program for i386, which a kernel for amd64 may execute.
func program32(loader string) string {
	const header, entry = 52, 32 // of ELFCLASS32
	b := make([]byte, header+entry)
	copy(b, "\x7fELF\x01\x01\x01")
	for at, value := range map[int]uint16{16: 2, 18: 3, 20: 1, 28: header, 40: header, 42: entry, 44: 1,
		header: 3, header + 4: header + entry, header + 16: uint16(len(loader) + 1)} {
		binary.LittleEndian.PutUint16(b[at:], value)
	}
	return string(b) + loader + "\x00"
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

// foreignFiles returns files that no kernel executes without a handler, and programs that are cut
// off, by name.
func foreignFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{
		"gz": "\x1f\x8b\x08\x00abc", "xz": "\xfd7zXZ\x00abc", "zst": "\x28\xb5\x2f\xfdabc", "bz2": "BZh91AY&SYabc",
		"jar": "PK\x03\x04\x14\x00abc", "exe": "MZ\x90\x00\x03\x00", "Mach-O": "\xcf\xfa\xed\xfe\x07\x00\x00\x01",
		"class": "\xca\xfe\xba\xbe\x00\x00\x00\x34", "random bytes": "\x9a\x03\xf1\x88\x00\x7c\xe2", "zeros": strings.Repeat("\x00", 300),
		"UTF-16LE": "\xff\xfe#\x00!\x00/\x00b\x00", "UTF-16BE": "\xfe\xff\x00#\x00!\x00/",
		"UTF-16LE without a mark": "#\x00!\x00/\x00b\x00", "UTF-16BE without a mark": "\x00#\x00!\x00/",
	}
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{4, 5, 18, 40, 63, 64, 65, 120, 300} {
		files[fmt.Sprintf("first %d bytes of a program", n)] = string(own[:n])
	}
	header := func(at int, value uint16) string {
		b := []byte(program(t, "/lib/none.so.1"))
		binary.LittleEndian.PutUint16(b[at:], value)
		return string(b)
	}
	files["another machine"] = header(18, 243)
	files["a machine without a name"] = header(18, 999)
	files["object file"] = header(16, 1)
	files["core dump"] = header(16, 4)
	files["no program headers"] = header(56, 0)
	files["odd program headers"] = header(54, 55)
	return files
}

// A file that the kernel does not execute is named as what it is.
func TestForeignFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	files := foreignFiles(t)
	files["empty"], files["text"] = "", "echo hi\n"
	write(t, dir+"/text.so", "x", 0o755)
	files["text as a loader"] = program(t, dir+"/text.so")
	host := hostMachine()
	for name, want := range map[string]string{
		"gz": "is a gzip file: unpack it", "xz": "is an xz file", "zst": "is a zstd file", "bz2": "is a bzip2 file",
		"jar": "is a zip or jar file: unpack it, or start it with java -jar", "exe": "is a Windows program: use a program for Linux",
		"Mach-O": "is a macOS program: use a program for Linux", "class": "is a macOS program or a Java class",
		"random bytes": "is not an executable of this system: name a program", "zeros": "is not an executable of this system",
		"UTF-16LE":                    "x is UTF-16 text, as some Windows editors save it: save it as UTF-8",
		"UTF-16BE":                    "is UTF-16 text",
		"UTF-16LE without a mark":     "is UTF-16 text",
		"UTF-16BE without a mark":     "is UTF-16 text",
		"another machine":             "is a program for another machine (riscv), this host is " + host + ": use a program for this one",
		"a machine without a name":    "is a program for another machine (number 999 of elf(5)), this host is " + host,
		"object file":                 "is an object file and no program: link it",
		"core dump":                   "is an object file",
		"first 4 bytes of a program":  "is cut off or damaged: copy it again",
		"first 64 bytes of a program": "is cut off or damaged: copy it again",
		"no program headers":          "is cut off or damaged",
		"odd program headers":         "is cut off or damaged",
		"text as a loader":            "is not one for this machine: install it again",
		"empty":                       "is empty: a script must start with a line like #!/bin/sh",
		"text":                        "is neither a program for this machine nor a script",
	} {
		write(t, dir+"/x", files[name], 0o755)
		_, err := Check(Command{Argv: []string{"./x"}, Dir: dir})
		if err == nil || !strings.Contains(err.Error(), want) || job.StartCode(err) != 126 {
			t.Errorf("%s: %v (exit code %d); want %q", name, err, job.StartCode(err), want)
		}
	}
}

// The kernel finds some faults of a program when it has begun to load it. Then a start succeeds, and
// the kernel kills each run.
func TestCheckFindsAProgramThatTheKernelKills(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/x", string(own[:4096]), 0o755)
	c := Command{Argv: []string{"./x"}, Dir: dir, Stdout: discard(), Stderr: discard()}
	p, err := s.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Wait(); got.Outcome != job.Signaled || got.Signal != syscall.SIGSEGV {
		t.Errorf("the run ended with %v", got)
	}
	if _, err := Check(c); err == nil || !strings.Contains(err.Error(), "is cut off or damaged") {
		t.Error(err)
	}
}

// A program is loaded by trace and not executed, and nothing is left of it.
func TestTraceExecutesNothing(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/x", "#!/bin/sh -e\ntouch ran\n", 0o755)
	for range 50 {
		argv, code, known := traceFile("./x", dir)
		if want := []string{"/bin/sh", "-e", "./x", ""}; code != 0 || !known || !slices.Equal(argv, want) {
			t.Fatalf("%q, %v, %v", argv, code, known)
		}
	}
	if argv, code, known := traceFile("/bin/sh", dir); code != 0 || !known || !slices.Equal(argv, []string{tracedName, ""}) {
		t.Errorf("%q, %v, %v", argv, code, known)
	}
	if _, code, known := traceFile(dir+"/none", dir); code != syscall.ENOENT || !known {
		t.Errorf("%v, %v", code, known)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	procfs.Processes(func(p procfs.Stat) {
		if p.Parent == os.Getpid() && p.Name == "x" {
			t.Errorf("process %d is left", p.PID)
		}
	})
}

// The stop at the end of execve is a signal. If it were blocked, the program would run and exit.
func TestTraceStopsAProgramIfAllSignalsAreBlocked(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer emptySignalMask()()
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i]--
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil); err != nil {
		t.Fatal(err)
	}
	if argv, code, known := traceFile("/bin/true", "/"); code != 0 || !known || argv[0] != tracedName {
		t.Errorf("%q, %v, %v", argv, code, known)
	}
}

// Where a process may not be traced, a file is rejected only if no handler can be for it.
func TestCheckWithoutTracing(t *testing.T) {
	dir := t.TempDir()
	for name, text := range foreignFiles(t) {
		write(t, filepath.Join(dir, name), text, 0o755)
	}
	write(t, dir+"/windows", "#!/bin/sh\r\n", 0o755)
	write(t, dir+"/text", "echo hi\n", 0o755)
	write(t, dir+"/loader", program(t, "/lib/none.so.1"), 0o755)
	for _, action := range []uint32{unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), unix.SECCOMP_RET_KILL_PROCESS} {
		checkWithoutTracing(t, dir, action)
	}
}

func checkWithoutTracing(t *testing.T, dir string, action uint32) {
	t.Helper()
	var wrong []string
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread with the filter ends
		done <- func() error {
			if err := denyPtrace(action); err != nil {
				return err
			}
			if _, _, known := traceFile("/bin/true", dir); known {
				return errors.New("a process can be traced")
			}
			for name, want := range map[string]bool{"windows": true, "text": true, "loader": true, "gz": false,
				"random bytes": false, "another machine": false, "first 40 bytes of a program": false} {
				if text, _ := formatError(filepath.Join(dir, name), dir, nil); (text != "") != want {
					wrong = append(wrong, name+": "+text)
				}
			}
			return nil
		}()
	}()
	if err := <-done; err != nil || wrong != nil {
		t.Errorf("action %#x: %v %q", action, err, wrong)
	}
}

// denyPtrace has ptrace(2) answered by action for the calling thread, as a system call filter of a
// unit or a container does.
func denyPtrace(action uint32) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the system call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_PTRACE, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: action},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
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
		for _, code := range []syscall.Errno{0, syscall.ENOEXEC, syscall.ENOENT} {
			if _, f := follow(path, dir, code); (f.text == "") != (f.code == 0) || strings.Contains(f.text, "\n") {
				t.Errorf("%q: %q, %d", data, f.text, f.code)
			}
		}
	})
}

// The kernel starts a script whose first line ends with a carriage return after an argument, and the
// interpreter fails. Perl ignores it.
func TestCheckFindsAReturnAfterAnArgument(t *testing.T) {
	dir := t.TempDir()
	for line, fails := range map[string]bool{
		"#!/bin/sh -e\r\n": true, "#!/bin/sh \r\n": true, "#!/bin/bash -e\r\n": true, "#!/bin/sh -e\n\r\n": false,
		"#!/usr/bin/make -f\r\n": true,
	} {
		write(t, dir+"/job", line+"exit 0\n", 0o755)
		_, err := Check(Command{Argv: []string{"./job"}, Dir: dir})
		if found := err != nil && strings.Contains(err.Error(), "dos2unix") && job.StartCode(err) == 126; found != fails {
			t.Errorf("%q: %v", line, err)
		}
		if run := exec.Command(dir + "/job").Run(); fails && run == nil {
			t.Errorf("%q runs, and is refused", line)
		}
	}
}

// The kernel passes what follows the interpreter as one word, in which a shell finds an unknown option.
func TestCheckFindsSeveralOptionsAfterAShell(t *testing.T) {
	dir := t.TempDir()
	for line, fails := range map[string]bool{
		"#!/bin/sh -e -u": true, "#!/bin/sh\t-e\t-u": true, "#!/bin/bash -e -u": true, "#!/bin/bash --norc -e": true,
		"#!/bin/sh -o pipefail -e": true,
		"#!/bin/sh -eu":            false, "#!/bin/sh -e ": false, "#!/bin/sh   -e": false, "#!/usr/bin/env -S sh -e -u": false,
	} {
		write(t, dir+"/job", line+"\nexit 0\n", 0o755)
		_, err := Check(Command{Argv: []string{"./job"}, Dir: dir, Env: os.Environ()})
		found := err != nil && strings.Contains(err.Error(), "because the kernel passes all that follows it as one word") &&
			job.StartCode(err) == 126
		if run := exec.Command(dir + "/job").Run(); found != fails || (run != nil) != fails {
			t.Errorf("%q: %v; a run: %v", line, err, run)
		}
	}
}
