package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gophd/internal/job"
)

// Check returns the file that Start would execute for c, or the error that Start would return, as
// far as that can be known without a start. It looks with the user, groups and limits of
// c.Credentials, in c.Dir, with the PATH of c.Env, and follows a script to its interpreter, env(1)
// to the program that it starts, and a program to its dynamic loader. It also returns an error for
// a script that the user may not read, and for one that env does not accept: Start succeeds, and
// each run fails. It ignores the streams and the control group. It changes nothing, and executes no
// instruction of the command. It blocks for as long as the file system does, and with Credentials
// until a process of gophd's own has answered. The error names the fix and can be passed to
// job.StartCode.
func Check(c Command) (path string, err error) {
	checked := CheckAll([]Command{c})[0]
	return checked.Path, checked.Err
}

// Checked is a result of Check.
type Checked struct {
	Path string
	Err  error
}

// checkedAtOnce is how many commands one process checks: their environments are in its memory.
const checkedAtOnce = 256

// CheckAll is Check for many commands. Those with the same Credentials share a process.
func CheckAll(all []Command) []Checked {
	checked := make([]Checked, len(all))
	var shared [][]int // commands for one process
	last := map[string]int{}
	for i, c := range all {
		at := &checked[i]
		switch {
		case len(c.Argv) == 0:
			at.Err = errNoName
		case c.Credentials == nil:
			at.Path, at.Err = c.look()
		default:
			key, err := json.Marshal(c.Credentials)
			if err != nil {
				panic(fmt.Errorf("process: %w", err)) // it has plain values only
			}
			n, ok := last[string(key)]
			if !ok || len(shared[n]) == checkedAtOnce {
				n = len(shared)
				shared, last[string(key)] = append(shared, nil), n
			}
			shared[n] = append(shared[n], i)
		}
	}
	for _, group := range shared {
		var commands []Command
		for _, i := range group {
			commands = append(commands, all[i])
		}
		for n, c := range checkByShim(commands) {
			checked[group[n]] = c
		}
	}
	return checked
}

// look is Check with the permissions of this process.
func (c Command) look() (path string, err error) {
	argv0 := c.Argv[0]
	if text, code := directoryError(c.Dir); text != "" {
		return "", &startError{argv0, text, code, true}
	}
	if path, err = LookPath(argv0, c.Dir, c.Env); err != nil {
		return "", err
	}
	if slices.ContainsFunc(slices.Concat(c.Argv, c.Env), func(word string) bool { return strings.Contains(word, "\x00") }) {
		return "", c.explain(syscall.EINVAL)
	}
	if text, code := formatError(path, c.Dir, c.Env); text != "" {
		return "", &startError{argv0, text, code, false}
	}
	if text := c.sizeError(path, perRun); text != "" {
		return "", &startError{argv0, text, syscall.E2BIG, false}
	}
	return path, nil
}

// perRun is an upper limit of what gophd adds to the environment of each run, with the pointers.
const perRun = 4 << 10

// LookPath returns the file that would be executed for argv0 in dir with the environment env, by
// the rules of execvp(3): a name with a slash is a path relative to dir, any other is searched in
// PATH, where an empty element is dir. The error names the fix and can be passed to job.StartCode.
// It does not look into the file: Check does.
func LookPath(argv0, dir string, env []string) (string, error) {
	if strings.Contains(argv0, "/") {
		path := under(dir, argv0)
		if err := executable(path); err != nil {
			return "", explainErrno(argv0, dir, path, err)
		}
		return path, nil
	}
	var denied *startError
	for _, directory := range filepath.SplitList(searchPath(env)) {
		path := under(dir, directory) + "/" + argv0
		err := executable(path)
		switch {
		case argv0 == "":
		case err == nil:
			return path, nil
		case denied == nil && (err == syscall.EACCES || err == syscall.EISDIR):
			denied = explainErrno(argv0, dir, path, err)
		}
	}
	switch text := mistake(argv0, dir); {
	case denied != nil && denied.errno == syscall.EISDIR && text != "": // such as the dot of the shell
		return "", &startError{argv0, text, syscall.ENOENT, false}
	case denied != nil:
		return "", denied
	case argv0 == "":
		return "", &startError{argv0, "the name is empty: name a command", syscall.ENOENT, false}
	}
	return "", &startError{argv0, notInPath(argv0, dir, env), syscall.ENOENT, false}
}

// searchPath returns PATH as getenv(3) finds it, or the default of the C library if it is not set.
// An empty PATH is one empty element.
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

// under joins dir and path. It removes a leading ./ and cleans nothing else: a/../b is not b if a
// is a symbolic link.
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

// executable returns the error that execve would return for the file, as far as it can be
// determined.
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

// startError describes in one line why a command was not started, and what to do.
type startError struct {
	argv0, text string
	errno       syscall.Errno
	setup       bool // it is about the exec environment, see job.ErrSetup
}

func (e *startError) Error() string { return "cannot start " + shown(e.argv0) + ": " + e.text }

func (e *startError) Unwrap() error { return e.errno }

func (e *startError) Is(target error) bool { return e.setup && target == job.ErrSetup }

// explain turns the error of one attempt into a startError.
func (c Command) explain(err error) *startError {
	if explained := (*startError)(nil); errors.As(err, &explained) {
		return explained
	}
	path, lookErr := LookPath(c.Argv[0], c.Dir, c.Env)
	if lookErr != nil {
		path = under(c.Dir, c.Argv[0])
	}
	if errno(err) == syscall.E2BIG {
		if text := c.sizeError(path, 0); text != "" {
			return &startError{c.Argv[0], text, syscall.E2BIG, false}
		}
	}
	return explainErrno(c.Argv[0], c.Dir, path, err)
}

// explainErrno finds the cause behind an errno. execve has few errnos: ENOENT may be the file, its
// interpreter or the working directory, and EACCES a directory, a mode or a mount option.
func explainErrno(argv0, dir, path string, err error) *startError {
	code := errno(err)
	if text, _ := directoryError(dir); text != "" {
		return &startError{argv0, text, code, true}
	}
	usable := executable(path)
	switch {
	case usable == nil:
		if text, same := explainFormat(path, dir, code); text != "" {
			return &startError{argv0, text, same, false}
		}
	case code == syscall.ENOENT || code == syscall.ENOTDIR || code == syscall.ENAMETOOLONG:
		if text := mistake(argv0, dir); text != "" {
			return &startError{argv0, text, code, false}
		}
	}
	if filepath.IsAbs(argv0) {
		dir = ""
	}
	return &startError{argv0, reason(code, dir, path, usable), code, false}
}

// reason describes an errno of execve for the file at path, which is below dir if that is not "".
// usable is what executable returned.
func reason(code syscall.Errno, dir, path string, usable error) string {
	file := quote(path)
	switch code {
	case syscall.ENOENT:
		if usable == nil {
			return "the interpreter of " + file + " is missing: install it, or correct the file"
		}
		if to, err := os.Readlink(path); err == nil {
			return file + " is a link to " + quote(to) + ", and there is no such file: correct the link"
		}
		if dir == "" {
			return "no such file: check the path"
		}
		return "no such file: check the path, or the directory it is started in (" + quote(dir) + ")"
	case syscall.ENOTDIR:
		return "a part of its path is not a directory: check " + file
	case syscall.ENAMETOOLONG:
		return "its path is too long: shorten it"
	case syscall.ELOOP:
		return "too many symbolic links: check where " + file + " leads"
	case syscall.EACCES, syscall.EPERM, syscall.EISDIR:
		switch {
		case usable == syscall.EISDIR:
			return file + " is a directory: name a program in it"
		case usable == nil:
			return "permission denied for its interpreter: check the permissions of the programs that " + file + " names"
		}
		return "permission denied: " + denied(path)
	case syscall.ENOEXEC:
		return "neither a program for this machine nor a script: a script must start with a line like #!/bin/sh"
	case syscall.ETXTBSY:
		return file + " is still open for writing: replace it by rename, or stop the process that writes to it"
	case syscall.E2BIG:
		return "its arguments and environment are too long for the system: shorten them"
	case syscall.EAGAIN:
		return "no more processes are allowed: raise the limit (ulimit -u, TasksMax of the unit)"
	case syscall.ENOMEM:
		return "not enough memory: free some, or raise the limit"
	case syscall.EMFILE, syscall.ENFILE:
		return "too many open files: raise the limit (ulimit -n, fs.file-max)"
	case syscall.EINVAL:
		return "invalid argument: look for a NUL byte in the arguments, the environment or the directory"
	}
	return code.Error() + ": check " + file
}

// denied says why this user may not execute the file at path, with the fix.
func denied(path string) string {
	if text := closedDirectory(path); text != "" {
		return text
	}
	file := quote(path)
	info, err := os.Stat(path)
	kind := ""
	switch {
	case err != nil:
	case info.Mode()&os.ModeDevice != 0:
		kind = "a device"
	case info.Mode()&os.ModeNamedPipe != 0:
		kind = "a FIFO"
	case info.Mode()&os.ModeSocket != 0:
		kind = "a socket"
	}
	if kind != "" {
		return file + " is " + kind + " and no file that can be executed: name a program"
	}
	if err == nil && info.Mode().Perm()&0o111 == 0 && configFile(path) {
		return "it looks like a config file: read it with -c " + file
	}
	chmod := "make it executable (chmod +x " + file + ")"
	// A program needs no permission to read it, but a script does, and a file that cannot be read does
	// not show what it is.
	readable := unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS) == nil
	switch user := fmt.Sprintf("user %d may ", os.Geteuid()); {
	case !readable:
		chmod = user + "neither read nor execute it: allow both (chmod a+rx " + file + ")"
	case err == nil && info.Mode().Perm()&0o111 != 0:
		chmod = user + "read it and not execute it: allow that (chmod a+x " + file + ")"
	}
	switch noexec := mountedNoexec(path); {
	case noexec && (!readable || err == nil && info.Mode().Perm()&0o111 == 0):
		return chmod + ", and mount its file system without noexec"
	case noexec:
		return "its file system is mounted with noexec: mount it without, or move " + file
	}
	return chmod
}

// closedDirectory names the first directory on the way to path that this user may not enter, with the
// fix; "" if there is none.
func closedDirectory(path string) (text string) {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, unix.AT_EACCESS) == unix.EACCES {
			text = "the directory " + quote(dir) + " may not be entered: grant the right (chmod +x " + quote(dir) +
				"), or choose another place for " + quote(filepath.Base(path))
		}
		if dir == filepath.Dir(dir) {
			return text
		}
	}
}

// directoryError returns what is wrong with the working directory, and the errno of chdir(2); "" if
// nothing is.
func directoryError(dir string) (text string, code syscall.Errno) {
	if dir == "" {
		return "", 0
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "the directory it is started in (" + quote(dir) + ") does not exist: create it, or choose another --chdir",
			syscall.ENOENT
	case err == nil && !info.IsDir():
		return "the directory it is started in (" + quote(dir) + ") is not a directory: choose another --chdir",
			syscall.ENOTDIR
	case err != nil || unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, unix.AT_EACCESS) != nil:
		if text := closedDirectory(dir); text != "" {
			return "the directory it is started in (" + quote(dir) + ") may not be used: " + text, syscall.EACCES
		}
		return "the directory it is started in (" + quote(dir) +
			") may not be entered: grant the right (chmod +x), or choose another --chdir", syscall.EACCES
	}
	return "", 0
}

// errno returns the number behind an error of a system call, or 0 if there is none.
func errno(err error) syscall.Errno {
	var e syscall.Errno
	errors.As(err, &e)
	return e
}

// quote returns a name unchanged, or quoted if it would break the line, end early or hide something.
func quote(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || s == "" || strings.Contains(s, " ") {
		return q
	}
	return s
}
