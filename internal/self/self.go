// Package self answers: how was this program started, so that it can be started again?
//
// Catch looks once, first thing in main, and keeps what later changes or gets lost: the path, the
// arguments, the folder, the environment. It also shuts what we inherited away from the commands that
// we run. It starts nothing itself: restart and daemonize do, with what is kept here and with the
// control signals held back by HoldSignals, so that none of them can end the new image at its birth.
package self

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// The environment variables that carry a descriptor's number from one image to the next. They are
// gophd's own: neither the command nor the image after the next ever sees them.
const (
	HandoffVariable = "GOPHD_HANDOFF" // what restart passes on
	ReadyVariable   = "GOPHD_READY"   // the pipe on which daemonize awaits news
)

// Self is how this image was started.
type Self struct {
	Path    string   // absolute, to exec again; what is found there may be a newer version by then
	Args    []string // argv as given, argv[0] included; never empty
	Dir     string   // absolute working directory at the start
	Env     []string // without the private variables
	Handoff string   // value of HandoffVariable, "" when it was not set
	Ready   string   // value of ReadyVariable, "" when it was not set
}

// Catch reads how this image was started, takes the private variables out of the process's
// environment, and marks every inherited descriptor above 2 close-on-exec. It is for the first line
// of main, before anything is opened, started or changed.
func Catch() (Self, error) {
	dir, err := os.Getwd()
	if err != nil {
		return Self{}, fmt.Errorf("cannot find the working directory: %v: start gophd in a folder that exists", err)
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
		s.Args = []string{""} // execve(2) lets a caller give no argv[0]
	}
	if s.Path, err = path(s.Args[0], dir); err != nil {
		return Self{}, err
	}
	if err := shutInherited(); err != nil {
		return Self{}, fmt.Errorf("cannot keep inherited descriptors from the command: %v", err)
	}
	return s, nil
}

// path is where to find this program again. The name it was called by wins, symbolic links kept, if
// that is the file which runs: an upgrade may turn the link or rename a new file to that name.
// Otherwise (a made-up argv[0], a moved PATH) it is the name the system has for the running image.
// The system's name may be that of a deleted file; a new version may well appear there later, and
// until it does an exec of it fails and changes nothing.
func path(argv0, dir string) (string, error) {
	system, err := os.Executable()
	called := calledBy(argv0, dir)
	if err != nil {
		if called == "" {
			return "", fmt.Errorf("cannot find the program's own file: %v: start gophd by its full path", err)
		}
		return called, nil
	}
	running, err := os.Stat(image)
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

// image is the running file itself where there is a /proc, even when its name is gone.
const image = "/proc/self/exe"

// calledBy is the absolute path that a shell in dir would have found for argv0, or "".
func calledBy(argv0, dir string) string {
	if !strings.Contains(argv0, "/") {
		found, err := exec.LookPath(argv0)
		// By way of a relative folder in PATH is a security matter for who runs a command; here the
		// kernel runs that file already, or the caller's comparison finds that it does not.
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

// ControlSignals lists the signals by which gophd is steered. They are the ones to be held back while
// one image becomes another; package signals says what each of them means. Process 1 has more of them.
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
