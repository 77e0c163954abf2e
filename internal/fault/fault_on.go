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

// At looks for a file with the name of the point in the directory GOPHD_FAULTS, and removes it, so
// that each file is one fault. The words in the file say what happens:
//   - kill: the whole process gets SIGKILL.
//   - stop: the process gets SIGSTOP, so that a test can do something at this point before it sends
//     CONT.
//   - hold: only this goroutine blocks, until a file with that name and ".go" exists.
//   - a number: the process gets that signal at this point.
//   - any other word, or an empty file: a panic.
func At(point string) {
	file := filepath.Join(os.Getenv("GOPHD_FAULTS"), point)
	text, err := os.ReadFile(file)
	if err != nil || os.Remove(file) != nil {
		return
	}
	words := strings.Fields(string(text))
	if len(words) == 0 {
		panic("fault in " + point)
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
			panic("fault in " + point)
		}
	}
}
