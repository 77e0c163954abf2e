// Package self answers: how was this program started, so that it can be started again?
//
// Catch is called once, at the start of main, and records what may change later: the path, the
// arguments, the directory, the environment. It also makes sure that commands do not inherit
// gophd's descriptors. This package starts nothing itself. Packages restart and daemonize do, with
// these records and with the control signals blocked by HoldSignals, so that no signal ends the new
// process before it can handle it.
package self

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// The environment variables that pass the number of a descriptor to the new process. They are
// private: Catch removes them, so neither commands nor later processes inherit them.
const (
	HandoffVariable = "GOPHD_HANDOFF" // the handoff of package restart
	ReadyVariable   = "GOPHD_READY"   // the pipe on which package daemonize waits for the report
)

// Self is how this process was started.
type Self struct {
	Path    string   // absolute, to exec again; the file there may be a newer version by then
	Args    []string // argv as given, argv[0] included; never empty
	Dir     string   // absolute working directory at the start
	Env     []string // without the private variables
	Handoff string   // value of HandoffVariable, "" when it was not set
	Ready   string   // value of ReadyVariable, "" when it was not set
}

// Catch reads how this process was started, removes the private variables from the environment, and
// marks every inherited descriptor above 2 close-on-exec. Call it in the first line of main, before
// anything is opened, started or changed.
func Catch() (Self, error) {
	dir, err := directory()
	if err != nil {
		return Self{}, err
	}
	s := Self{Args: slices.Clone(os.Args), Dir: dir,
		Handoff: os.Getenv(HandoffVariable), Ready: os.Getenv(ReadyVariable)}
	for _, name := range []string{HandoffVariable, ReadyVariable} {
		if err := os.Unsetenv(name); err != nil {
			return Self{}, fmt.Errorf("cannot unset %s: %v", name, err)
		}
	}
	s.Env = os.Environ()
	if len(s.Args) == 0 {
		s.Args = []string{""} // execve(2) allows an empty argv
	}
	if s.Path, err = path(s.Args[0], dir); err != nil {
		return Self{}, err
	}
	if err := markInherited(); err != nil {
		return Self{}, fmt.Errorf("cannot keep inherited descriptors from the command: %v", err)
	}
	return s, nil
}

// directory returns the working directory. Whoever may not enter it can still be in it, as after
// sudo -u.
func directory() (string, error) {
	dir, err := os.Getwd()
	if errors.Is(err, fs.ErrPermission) {
		dir, err = syscall.Getwd() // needs no permission on Linux
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("cannot find the working directory: user %d may not enter it: "+
			"grant the right (chmod +x), or start gophd in another directory", os.Geteuid())
	case err != nil:
		return "", fmt.Errorf("cannot find the working directory: %v: start gophd in a directory that exists", err)
	}
	return dir, nil
}

// ClosedDirectory returns the directory in which this process was started, if its user may not enter it;
// otherwise "". There is no way back to it for a re-exec.
func (s Self) ClosedDirectory() string {
	if _, err := os.Stat(s.Dir + "/."); errors.Is(err, fs.ErrPermission) {
		return s.Dir
	}
	return ""
}

// path returns where to find this program again. It prefers the name by which the program was
// called, with symbolic links kept, if that is the running file: an upgrade may change the link, or
// rename a new file to that name. Otherwise (an argv[0] that is no path, a changed PATH) it is the
// system's name of the running program. That may be the name of a deleted file. A new version may
// appear there later; until then an exec of it fails and changes nothing.
func path(argv0, dir string) (string, error) {
	system, err := os.Executable()
	called := calledBy(argv0, dir)
	if err != nil {
		if called == "" {
			return "", fmt.Errorf("cannot find the program's own file: %v: start gophd by its full path", err)
		}
		return called, nil
	}
	running, err := os.Stat(runningFile)
	if err != nil {
		running, err = os.Stat(system)
	}
	if err == nil && called != "" {
		if info, err := os.Stat(called); err == nil && os.SameFile(info, running) {
			return called, nil
		}
	}
	return system, nil
}

// runningFile is the running file itself on systems with /proc, even if its name was removed.
const runningFile = "/proc/self/exe"

// calledBy returns the absolute path that a shell in dir would have found for argv0, or "".
func calledBy(argv0, dir string) string {
	if !strings.Contains(argv0, "/") {
		found, err := exec.LookPath(argv0)
		// exec.ErrDot warns of a relative directory in PATH. Here nothing is executed: the caller
		// compares the file with the one that is already running.
		if err != nil && !errors.Is(err, exec.ErrDot) {
			return ""
		}
		argv0 = found
	}
	if filepath.IsAbs(argv0) {
		return argv0
	}
	return filepath.Join(dir, argv0)
}

// ControlSignals returns the signals that are requests to gophd. They must be blocked during a
// re-exec. Package signals defines what each of them requests. Process 1 has more of them.
func ControlSignals() []syscall.Signal {
	all := []syscall.Signal{
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT,
	}
	if os.Getpid() == 1 {
		all = append(all, initSignals...)
	}
	return all
}
