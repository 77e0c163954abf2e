package credentials

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ParseStopSignal is ParseSignal for a signal that can request a command to exit. It rejects the signals that
// suspend or continue a process instead, and CHLD.
func ParseStopSignal(s string) (syscall.Signal, error) {
	sig, err := ParseSignal(s)
	switch sig {
	case syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCONT, syscall.SIGCHLD:
		return 0, fmt.Errorf("signal %q does not stop a command: write one like TERM, INT, QUIT or USR1", s)
	}
	return sig, err
}

// ParseSignal reads a signal: TERM, SIGTERM, sigterm or 15.
func ParseSignal(s string) (syscall.Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	sig := unix.SignalNum("SIG" + name)
	if n, err := strconv.ParseUint(s, 10, 8); err == nil && n >= 1 && n <= 64 {
		sig = syscall.Signal(n)
	}
	if sig == 0 {
		return 0, fmt.Errorf("%q is not known: write one like TERM, INT, QUIT or USR1", s)
	}
	return sig, nil
}
