package process

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	headSize       = 256      // bytes of a file from which the kernel learns its format, since Linux 5.1
	maxInterpreter = 5        // interpreters of one script: its own, the interpreter's, and so on
	byteOrderMark  = "\ufeff" // in UTF-8, as editors on Windows write it
)

// flaw is what execve(2) does not accept in the format of a file.
type flaw struct {
	text   string        // with the fix
	code   syscall.Errno // of execve; 0 if there is no flaw
	unsure bool          // the kernel may have a handler for the file, see trace
	later  bool          // the kernel starts the interpreter, which fails then
	unread string        // the file that may be executed and not read, so that its format is not known
}

// scriptFile is a script that the kernel executes by its first line.
type scriptFile struct{ path, interpreter, argument string }

// formatError returns why an executable file cannot be started, with the fix, and the errno; "" if
// it can be started, or if that cannot be known. dir and env are those of the command. It reads the
// file, and asks the kernel about one that seems to be unfit.
func formatError(path, dir string, env []string) (text string, code syscall.Errno) {
	return checkFormat(path, dir, env, nil)
}

// checkFormat is formatError for a file that env(1) starts for the scripts in before.
func checkFormat(path, dir string, env []string, before []scriptFile) (text string, code syscall.Errno) {
	scripts, f := follow(path, dir, 0)
	if f.code != 0 {
		return f.confirm(path, dir)
	}
	if n := len(scripts); n > 0 && isEnv(scripts[n-1].interpreter) {
		return envError(append(slices.Clip(before), scripts...), dir, env)
	}
	return "", 0
}

// ReadByShell reports whether a shell reads the file at path itself after execve(2) has returned ENOEXEC
// (POSIX, Shell & Utilities 2.9.1.4), and may understand it: a text without an interpreter.
func ReadByShell(path string) bool {
	head, err := readHead(path)
	if err != nil || bytes.IndexByte(bytes.TrimRight(head, "\x00"), 0) >= 0 || bytes.HasPrefix(head, []byte("\xff\xfe")) ||
		bytes.HasPrefix(head, []byte("\xfe\xff")) {
		return false
	}
	_, _, named := parseScript(head)
	return !named || !bytes.HasPrefix(head, []byte("#!"))
}

// explainFormat returns the flaw behind an errno of execve for the file at path, and the errno that
// describes it; "" if the format is not the cause.
func explainFormat(path, dir string, code syscall.Errno) (text string, same syscall.Errno) {
	_, f := follow(path, dir, code)
	if f.unread == "" && (f.code == code || f.code == syscall.ENOEXEC && badFormat(code)) {
		return f.text, f.code
	}
	return "", 0
}

// badFormat reports whether execve returns that errno for a file with a wrong format.
func badFormat(code syscall.Errno) bool {
	return slices.Contains([]syscall.Errno{syscall.ENOEXEC, syscall.ELIBBAD, syscall.EINVAL, syscall.EIO}, code)
}

// confirm asks the kernel whether it refuses the file at path too. Then it returns the flaw as
// formatError does.
func (f flaw) confirm(path, dir string) (text string, code syscall.Errno) {
	if f.unread != "" {
		if argv, _, known := traceFile(f.unread, dir); known && byInterpreter(argv, dir) {
			return f.text, f.code
		}
		return "", 0
	}
	if f.later {
		return f.text, f.code
	}
	_, code, known := traceFile(path, dir)
	if known && code == 0 {
		return "", 0
	}
	if known {
		if text, code := explainFormat(path, dir, code); text != "" {
			return text, code
		}
	}
	if f.unsure {
		return "", 0
	}
	return f.text, f.code
}

// follow follows a file to its interpreter, its interpreter's interpreter and so on, and returns
// the scripts. It reads only. code is the errno of execve that is to be explained, or 0.
//
// The rules are those of fs/binfmt_script.c, fs/binfmt_elf.c and fs/exec.c of Linux. Older kernels
// than 5.1 accept some first lines that are rejected here.
func follow(path, dir string, code syscall.Errno) (scripts []scriptFile, f flaw) {
	for range maxInterpreter + 1 {
		head, err := readHead(path)
		if errors.Is(err, syscall.EACCES) {
			return scripts, flaw{text: "the script " + quote(path) + " may be executed but not read, and its interpreter " +
				"reads it as the user of the command: allow it (chmod a+r)", code: syscall.EACCES, unsure: true, unread: path}
		}
		if err != nil {
			return scripts, flaw{}
		}
		if bytes.HasPrefix(head, []byte(byteOrderMark+"#!")) {
			return scripts, flaw{text: quote(path) + " starts with a byte order mark, which hides its first line " +
				"from the kernel: remove the mark (dos2unix does)", code: syscall.ENOEXEC}
		}
		if !bytes.HasPrefix(head, []byte("#!")) {
			return scripts, programFlaw(path, dir, head, code)
		}
		name, argument, ok := parseScript(head)
		if !ok {
			return scripts, flaw{text: "the first line of " + quote(path) + " names no interpreter within 255 bytes: " +
				"it must be a line like #!/bin/sh", code: syscall.ENOEXEC}
		}
		next := under(dir, name)
		if err := executable(next); err != nil {
			text, code := interpreterError(path, name, next, dir, err)
			return scripts, flaw{text: text, code: code}
		}
		if strings.HasSuffix(argument, "\r") && rejectsReturn(name) {
			return scripts, flaw{text: "its interpreter " + quote(name) + " gets the argument " + quote(argument) +
				lineFix(path, argument), code: syscall.ENOEXEC, later: true}
		}
		if rejectsBlanks(name, argument) {
			return scripts, flaw{text: "its interpreter " + quote(name) + " gets " + quote(argument) + ", because the kernel passes " +
				"all that follows it as one word: write one option, as in -eu, in the first line of " + quote(path) +
				", and the others with set below it", code: syscall.ENOEXEC, later: true}
		}
		scripts = append(scripts, scriptFile{path, name, argument})
		path = next
	}
	return scripts, flaw{text: "more than 5 interpreters, each a script of the next: name a program in the first line of " +
		quote(scripts[0].path), code: syscall.ELOOP}
}

// rejectsReturn reports whether an interpreter fails if its argument ends with a carriage return. Perl
// ignores it; of others it is not known.
func rejectsReturn(interpreter string) bool {
	return isShell(interpreter) || slices.Contains([]string{"busybox", "python", "awk", "gawk", "mawk", "nawk", "sed", "node",
		"php", "make", "gmake", "bmake"}, programName(interpreter))
}

func isShell(interpreter string) bool {
	return slices.Contains([]string{"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"}, programName(interpreter))
}

// programName returns the name of a program without its version.
func programName(path string) string { return strings.TrimRight(filepath.Base(path), "0123456789.") }

// rejectsBlanks reports whether an interpreter fails because its argument has blanks in it: a shell, to
// which a blank is an unknown option, and busybox, which has no such applet. Of others it is not known.
func rejectsBlanks(interpreter, argument string) bool {
	blank := strings.ContainsAny(argument, " \t")
	return blank && (isShell(interpreter) && strings.HasPrefix(argument, "-") || programName(interpreter) == "busybox")
}

// readHead returns the first bytes of a file, padded with zeros to headSize.
func readHead(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, headSize)
	if _, err := io.ReadFull(f, head); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return head, nil
}

// parseScript returns the interpreter in the first line of a script and its one argument, which may
// be empty. ok is false if the kernel does not accept the line. Without a newline the line ends
// before the last byte of head, and the interpreter must end there too.
func parseScript(head []byte) (name, argument string, ok bool) {
	const blank = " \t"
	line := head[2:]
	end := bytes.IndexAny(line, "\n\x00")
	if end >= 0 && line[end] == '\n' {
		line = line[:end]
	} else {
		if !bytes.ContainsAny(bytes.TrimLeft(line, blank), blank+"\x00") {
			return "", "", false
		}
		line = line[:len(line)-1]
	}
	line = bytes.Trim(line, blank)
	if len(line) == 0 {
		return "", "", false
	}
	end = bytes.IndexAny(line, blank+"\x00")
	if end < 0 {
		return string(line), "", true
	}
	name = string(line[:end])
	if line[end] != 0 {
		rest, _, _ := bytes.Cut(bytes.TrimLeft(line[end:], blank), []byte{0})
		argument = string(rest)
	}
	return name, argument, true
}

// interpreterError says why the interpreter that a script names cannot be executed.
func interpreterError(script, name, path, dir string, err error) (text string, code syscall.Errno) {
	what := "its interpreter " + quote(name)
	switch code := errno(err); {
	case code == syscall.EISDIR:
		return what + " is a directory" + lineFix(script, name), syscall.EACCES
	case code == syscall.EACCES:
		return what + " may not be executed: " + denied(path), code
	case code == syscall.ENOENT && !strings.HasPrefix(name, "/"):
		return what + " is not in " + quote(dir) + ", and PATH is not searched" + lineFix(script, name), code
	case code == syscall.ENOENT:
		return what + " does not exist" + lineFix(script, name), code
	default:
		return what + " cannot be executed (" + code.Error() + ")" + lineFix(script, name), code
	}
}

// lineFix says how to correct the first line of a script that names word.
func lineFix(script, word string) string {
	if strings.HasSuffix(word, "\r") {
		return ": the lines of " + quote(script) + " have Windows ends; convert it with dos2unix"
	}
	return ": install it, or correct the first line of " + quote(script)
}

// programFlaw is follow for a file that is not a script.
func programFlaw(path, dir string, head []byte, code syscall.Errno) flaw {
	if !bytes.HasPrefix(head, []byte(elfMagic)) {
		text, unsure := foreignFormat(path, head)
		return flaw{text: quote(path) + " " + text, code: syscall.ENOEXEC, unsure: unsure}
	}
	machine, loader, damage := readELF(path, head)
	what := "the dynamic loader " + quote(loader) + " of " + quote(path)
	at := under(dir, loader)
	switch {
	case code != 0 && !badFormat(code): // not about this file
	case damage != "":
		return flaw{text: quote(path) + " " + damage, code: syscall.ENOEXEC, unsure: true}
	case machine != ownMachine() && (code == 0 || code == syscall.ENOEXEC):
		return flaw{text: quote(path) + " is a program for another machine (" + machineName(machine) +
			"), this host is " + hostMachine() + ": use a program for this one", code: syscall.ENOEXEC, unsure: true}
	}
	if f := capabilityFlaw(path); f.code != 0 && (code == 0 || code == f.code) {
		return f
	}
	if loader == "" {
		return flaw{}
	}
	switch code := errno(executable(at)); code {
	case 0:
	case syscall.ENOENT:
		return flaw{text: what + " does not exist: install it, or use a program that was built for this system", code: code}
	case syscall.EISDIR:
		return flaw{text: what + " is a directory: install it again", code: syscall.EACCES}
	case syscall.EACCES:
		return flaw{text: what + " may not be executed: " + denied(at), code: code}
	default:
		return flaw{text: what + " cannot be executed (" + code.Error() + "): install it again", code: code}
	}
	if head, err := readHead(at); err == nil {
		if of, _, damage := readELF(at, head); damage != "" || of != machine {
			return flaw{text: what + " is not one for this machine: install it again", code: syscall.ENOEXEC}
		}
	}
	return flaw{}
}

// foreignFormat describes a file that is neither a script nor an ELF file. unsure is that of flaw.
func foreignFormat(path string, head []byte) (text string, unsure bool) {
	const utf16 = "is UTF-16 text, as some Windows editors save it: save it as UTF-8"
	for _, known := range []struct {
		at          int
		magic, text string
	}{
		{0, "\xff\xfe", utf16},
		{0, "\xfe\xff", utf16},
		{0, "#\x00!\x00", utf16},
		{0, "\x00#\x00!", utf16},
		{0, "\x1f\x8b", "is a gzip file: unpack it, or name the program that reads it"},
		{0, "\xfd7zXZ\x00", "is an xz file: unpack it, or name the program that reads it"},
		{0, "\x28\xb5\x2f\xfd", "is a zstd file: unpack it, or name the program that reads it"},
		{4, "1AY&SY", "is a bzip2 file: unpack it, or name the program that reads it"},
		{0, "PK\x03\x04", "is a zip or jar file: unpack it, or start it with java -jar"},
		{0, "MZ", "is a Windows program: use a program for Linux, or start it with wine"},
		{0, "\xcf\xfa\xed\xfe", "is a macOS program: use a program for Linux"},
		{0, "\xce\xfa\xed\xfe", "is a macOS program: use a program for Linux"},
		{0, "\xca\xfe\xba\xbe", "is a macOS program or a Java class: use a program for Linux, or start it with java"},
	} {
		if bytes.HasPrefix(head[known.at:], []byte(known.magic)) {
			return known.text, true
		}
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.Size() == 0:
		return "is empty: a script must start with a line like #!/bin/sh", false
	case isText(head):
		return "is neither a program for this machine nor a script: a script must start with a line like #!/bin/sh", false
	}
	return "is not an executable of this system: name a program, or a script that starts with a line like #!/bin/sh", true
}

// isText reports whether a file starts like text, by the rule of search_binary_handler in
// fs/exec.c. A text may be shorter than four bytes.
func isText(head []byte) bool {
	for _, c := range head[:4] {
		if c != 0 && c != '\t' && c != '\n' && (c < 0x20 || c > 0x7e) {
			return false
		}
	}
	return head[0] != 0
}

// mountedNoexec reports whether the file system of path is mounted with noexec.
func mountedNoexec(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_NOEXEC != 0
}
