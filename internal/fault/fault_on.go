//go:build faults

package fault

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// At looks for a file with the name of the place in the directory GOPHD_FAULTS, and removes it, so that each file is
// one fault. "kill" in it is kill -9 of the whole program, with nothing done any more; "stop" is SIGSTOP, so that a
// test can do something at this very point before it sends CONT; "hold" blocks this goroutine alone, until there is
// a file with that name and ".go"; numbers are signals that it gets at this very point; all else, and nothing, is a
// panic.
func At(place string) {
	file := filepath.Join(os.Getenv("GOPHD_FAULTS"), place)
	what, err := os.ReadFile(file)
	if err != nil || os.Remove(file) != nil {
		return
	}
	words := strings.Fields(string(what))
	if len(words) == 0 {
		panic("fault in " + place)
	}
	for _, word := range words {
		number, err := strconv.Atoi(word)
		switch {
		case word == "kill":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // no thread runs after that
		case word == "stop":
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		case word == "hold":
			for _, err := os.Stat(file + ".go"); err != nil; _, err = os.Stat(file + ".go") {
				time.Sleep(10 * time.Millisecond)
			}
		case err == nil:
			send(syscall.Signal(number))
		default:
			panic("fault in " + place)
		}
	}
}
