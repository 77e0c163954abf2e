package process

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gophd/internal/job"
)

// Look says what would be executed for argv0 in dir with the environment env, by the rules of
// execvp(3): a name with a slash is a path relative to dir, any other is searched in PATH, where an
// empty element is dir. The error names the fix and can be given to job.StartCode. That a file is no
// program at all (ENOEXEC) is found only by Start.
func Look(argv0, dir string, env []string) (string, error) {
	if strings.Contains(argv0, "/") {
		path := under(dir, argv0)
		if err := executable(path); err != nil {
			return "", refusal(argv0, dir, path, err)
		}
		return path, nil
	}
	list := searchPath(env)
	var denied *startError
	for _, folder := range filepath.SplitList(list) {
		path := under(dir, folder) + "/" + argv0
		err := executable(path)
		switch {
		case argv0 == "":
		case err == nil:
			return path, nil
		case denied == nil && (err == syscall.EACCES || err == syscall.EISDIR):
			denied = refusal(argv0, dir, path, err)
		}
	}
	switch {
	case denied != nil:
		return "", denied
	case argv0 == "":
		return "", &startError{argv0, "the name is empty: name a command", syscall.ENOENT, false}
	}
	return "", &startError{argv0, "not found in PATH (" + quote(list) + "): give its path, or add its folder to PATH", syscall.ENOENT, false}
}

// searchPath is PATH as getenv(3) finds it, or the default of the C library when it is not set. An
// empty one is one empty element.
func searchPath(env []string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			if v == "" {
				return "."
			}
			return v
		}
	}
	return "/bin:/usr/bin"
}

// under drops a leading ./ and cleans no more: a/../b is not b when a is a symbolic link.
func under(dir, path string) string {
	path = strings.TrimPrefix(path, "./")
	switch {
	case path == "":
		return dir
	case strings.HasPrefix(path, "/") || dir == "":
		return path
	}
	return strings.TrimSuffix(dir, "/") + "/" + path
}

// executable asks the kernel what execve would say of the file, as far as it can be asked.
func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return errno(err)
	}
	switch {
	case info.IsDir():
		return syscall.EISDIR
	case !info.Mode().IsRegular():
		return syscall.EACCES
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS); err != nil {
		return errno(err)
	}
	return nil
}

// startError says in one line why a command was not started, and what to do.
type startError struct {
	argv0, text string
	errno       syscall.Errno
	world       bool // it is about what surrounds the command, see job.ErrWorld
}

func (e *startError) Error() string { return "cannot start " + quote(e.argv0) + ": " + e.text }

func (e *startError) Unwrap() error { return e.errno }

func (e *startError) Is(target error) bool { return e.world && target == job.ErrWorld }

// explain puts the failure of one try into words.
func (c Command) explain(err error) *startError {
	if told := (*startError)(nil); errors.As(err, &told) {
		return told
	}
	path, gone := Look(c.Argv[0], c.Dir, c.Env)
	if gone != nil {
		path = under(c.Dir, c.Argv[0])
	}
	return refusal(c.Argv[0], c.Dir, path, err)
}

// refusal finds the cause behind an errno. execve has few of them: ENOENT may be the file, its
// interpreter or the folder it is started in, and EACCES a directory, a mode or a mount option.
func refusal(argv0, dir, path string, err error) *startError {
	code := errno(err)
	if text := folderFault(dir); text != "" {
		return &startError{argv0, text, code, true}
	}
	return &startError{argv0, reason(code, dir, path), code, false}
}

func reason(code syscall.Errno, dir, path string) string {
	file := quote(path)
	usable := executable(path)
	switch code {
	case syscall.ENOENT:
		if usable == nil {
			return "the interpreter of " + file + " is missing" + interpreter(path)
		}
		return "no such file: check the path, or the folder it is started in (" + quote(dir) + ")"
	case syscall.ENOTDIR:
		return "a part of its path is not a folder: check " + file
	case syscall.ENAMETOOLONG:
		return "its path is too long: shorten it"
	case syscall.ELOOP:
		return "too many symbolic links: check where " + file + " leads"
	case syscall.EACCES, syscall.EPERM, syscall.EISDIR:
		switch {
		case usable == syscall.EISDIR:
			return file + " is a folder: name a program in it"
		case usable == nil:
			return "permission denied for its interpreter" + interpreter(path)
		}
		return "permission denied: make it executable (chmod +x " + file + "), and its file system not noexec"
	case syscall.ENOEXEC:
		return "neither a program for this machine nor a script: a script must begin with a line like #!/bin/sh"
	case syscall.ETXTBSY:
		return file + " is still open for writing: replace it by rename, or end what writes to it"
	case syscall.E2BIG:
		return "its arguments and environment are too long for the system: shorten them"
	case syscall.EAGAIN:
		return "no more processes are allowed: raise the limit (ulimit -u, TasksMax of the unit)"
	case syscall.ENOMEM:
		return "not enough memory: free some, or raise the limit"
	case syscall.EMFILE, syscall.ENFILE:
		return "too many open files: raise the limit (ulimit -n, fs.file-max)"
	case syscall.EINVAL:
		return "the system takes it as malformed: look for a NUL byte in the arguments, the environment or the folder"
	}
	return code.Error() + ": check " + file
}

// folderFault says what is wrong with the working directory, or "".
func folderFault(dir string) string {
	if dir == "" {
		return ""
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "the folder it is started in (" + quote(dir) + ") is gone: create it, or choose another"
	case err == nil && !info.IsDir():
		return "the folder it is started in (" + quote(dir) + ") is not a folder: choose another"
	case err != nil || unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, unix.AT_EACCESS) != nil:
		return "the folder it is started in (" + quote(dir) + ") may not be entered: grant the right (chmod +x), or choose another"
	}
	return ""
}

// interpreter quotes the first line of a script, for a carriage return at its end is a usual fault.
func interpreter(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 256)
	n, _ := f.Read(head)
	line, _, _ := bytes.Cut(head[:n], []byte("\n"))
	if !bytes.HasPrefix(line, []byte("#!")) {
		return ""
	}
	return ": correct its first line (" + strconv.Quote(string(line)) + ")"
}

// errno is the number behind an error of a system call; 0 when there is none.
func errno(err error) syscall.Errno {
	var e syscall.Errno
	errors.As(err, &e)
	return e
}

// quote shows a name as it is, or quoted when it would break the line or hide something.
func quote(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || s == "" {
		return q
	}
	return s
}
