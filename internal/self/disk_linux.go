package self

import (
	"bytes"
	"os"
	"path/filepath"
)

// WaitsForDisk says that a thread of this process is in a call that no signal ends, as a write to a disk that does not
// answer: state D of proc_pid_stat(5). An exec or an exit would wait for it. A call that is short may be met, too.
func WaitsForDisk() bool {
	names, _ := filepath.Glob("/proc/self/task/*/stat") // the pattern is sound
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		if _, state, found := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte{' '}); found && bytes.HasPrefix(state, []byte{'D'}) {
			return true
		}
	}
	return false
}
