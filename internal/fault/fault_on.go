//go:build faults

package fault

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// On says whether this is a build for tests.
const On = true

// At looks for a file with the name of the place in the folder GOPHD_FAULTS, and removes it, so that each file is
// one fault. "kill" in it is kill -9 of the whole program, with nothing done any more; "stop" is SIGSTOP, so that a
// test can do something at this very point before it sends CONT; all else is a panic.
func At(place string) {
	file := filepath.Join(os.Getenv("GOPHD_FAULTS"), place)
	what, err := os.ReadFile(file)
	if err != nil || os.Remove(file) != nil {
		return
	}
	switch strings.TrimSpace(string(what)) {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // no thread runs after that
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	default:
		panic("fault in " + place)
	}
}
