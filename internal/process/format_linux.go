package process

import (
	"bytes"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
)

const (
	headSize       = 256 // bytes of a file from which the kernel learns its format, since Linux 5.1
	maxInterpreter = 5   // interpreters of one script: its own, the interpreter's, and so on
	miscFormats    = "/proc/sys/fs/binfmt_misc"
	byteOrderMark  = "\ufeff" // in UTF-8, as editors on Windows write it
)

// formatError returns what execve(2) does not accept in the format of an executable file, with the
// fix, and the errno; "" if it accepts it, or if that cannot be known: the file may not be
// readable, or the kernel may have a handler that is not visible here. dir and env are those of the
// command.
//
// The rules are those of fs/binfmt_script.c, fs/binfmt_elf.c and fs/exec.c of Linux. Older kernels
// than 5.1 accept some first lines that are rejected here.
func formatError(path, dir string, env []string) (text string, code syscall.Errno) {
	script := path
	for depth := 0; depth <= maxInterpreter; depth++ {
		head, err := readHead(path)
		if err != nil {
			return "", 0
		}
		if bytes.HasPrefix(head, []byte(byteOrderMark+"#!")) {
			return quote(path) + " starts with a byte order mark, which hides its first line from the kernel: " +
				"remove the mark (dos2unix does)", syscall.ENOEXEC
		}
		if !bytes.HasPrefix(head, []byte("#!")) {
			return programError(path, dir, head)
		}
		name, argument, ok := parseScript(head)
		if !ok {
			return "the first line of " + quote(path) + " names no interpreter within 255 bytes: " +
				"it must be a line like #!/bin/sh", syscall.ENOEXEC
		}
		next := under(dir, name)
		if code := executable(next); code != nil {
			return interpreterError(path, name, next, dir, code)
		}
		if word := envWord(name, argument); word != "" {
			if _, err := LookPath(word, dir, env); err != nil {
				return "env does not find " + quote(word) + lineFix(path, word), errno(err)
			}
		}
		path = next
	}
	return "more than 5 interpreters, each a script of the next: name a program in the first line of " +
		quote(script), syscall.ELOOP
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
		return what + " may not be executed: make it executable (chmod +x " + quote(path) +
			"), and mount its file system without noexec", code
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

// envWord returns the command that env(1) searches in PATH for a script that starts with
// "#!/usr/bin/env NAME" or "#!/usr/bin/env -S NAME ..."; "" for any other script.
func envWord(interpreter, argument string) string {
	if interpreter != "/usr/bin/env" && interpreter != "/bin/env" {
		return ""
	}
	word := argument
	if line, split := strings.CutPrefix(argument, "-S"); split {
		word, _, _ = strings.Cut(strings.TrimLeft(line, " \t"), " ")
	}
	if word == "" || word[0] == '-' || strings.ContainsAny(word, "='\"\\$\t") {
		return ""
	}
	return word
}

// programError is formatError for a file that is not a script.
func programError(path, dir string, head []byte) (text string, code syscall.Errno) {
	switch machine, isELF := elfMachine(head); {
	case !isELF:
		if unhandled(miscFormats, path, head) {
			return quote(path) + " is neither a program for this machine nor a script: " +
				"a script must start with a line like #!/bin/sh", syscall.ENOEXEC
		}
		return "", 0
	case !executes(machine):
		if unhandled(miscFormats, path, head) {
			return quote(path) + " is a program for another machine: use one for " + runtime.GOARCH, syscall.ENOEXEC
		}
		return "", 0
	}
	loader := elfLoader(path, head)
	if loader == "" {
		return "", 0
	}
	what := "the dynamic loader " + quote(loader) + " of " + quote(path)
	switch code := errno(executable(under(dir, loader))); code {
	case 0:
		return "", 0
	case syscall.ENOENT:
		return what + " does not exist: install it, or use a program that was built for this system", code
	case syscall.EACCES, syscall.EISDIR:
		return what + " may not be executed: make it executable (chmod +x)", syscall.EACCES
	default:
		return what + " cannot be executed (" + code.Error() + "): install it again", code
	}
}
