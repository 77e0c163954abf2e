package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"gophd/internal/heartbeat"
	"gophd/internal/procfs"
)

// note is the content of the lock file while it is locked, and after a holder that was killed.
type note struct {
	V      int             `json:"v"`
	Holder procfs.Identity `json:"holder"`
	Users  []int           `json:"users,omitempty"`  // see Store.Users
	Secret string          `json:"secret,omitempty"` // see Store.Secret
	Spaces []string        `json:"spaces,omitempty"` // see Store.Clean
	Value  []byte          `json:"value,omitempty"`  // the record that the holder wrote first
}

// noteVersion is the v of every note, and noteStart what the text of a note starts with.
const (
	noteVersion = 2
	noteStart   = `{"v":2,"holder":`
)

// parseNote returns the note in text, and whether there is one.
func parseNote(text []byte) (n note, ok bool) {
	if !bytes.HasPrefix(text, []byte(noteStart)) || json.Unmarshal(text, &n) != nil {
		return note{}, false
	}
	return n, true
}

// contentError says that a file is not gophd's. It is a heartbeat.ErrUnfit.
type contentError struct{ text string }

func notOurs(what, path string) error {
	return &contentError{fmt.Sprintf("%s %s was not written by gophd: remove it, or choose another name", what, path)}
}

func (e *contentError) Error() string        { return e.text }
func (e *contentError) Is(target error) bool { return target == heartbeat.ErrUnfit }

// merge returns the users of both lists, each once.
func merge(a, b []int) []int {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// LockedError says that a process that is not gophd has locked the file. It is a
// heartbeat.ErrUnfit.
type LockedError struct {
	Path string
	PIDs []int // of those who locked it; empty if the system does not tell
}

// Is makes it a heartbeat.ErrUnfit: to ask again will not help.
func (e *LockedError) Is(target error) bool { return target == heartbeat.ErrUnfit }

func (e *LockedError) Error() string {
	return fmt.Sprintf("lock file %s is locked by %s, which is not gophd: end that process "+
		"(fuser %[1]s shows who has the file open), or choose another name", e.Path, e.who())
}

func (e *LockedError) who() string {
	if len(e.PIDs) == 0 {
		return "another process"
	}
	var names []string
	for _, pid := range e.PIDs {
		name := fmt.Sprintf("PID %d", pid)
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
			name += " (" + strings.TrimSpace(string(comm)) + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// isGophd says that a process runs the same program as this one: it may have been stopped before it
// could write its note, or while it released the lock.
func isGophd(pid int) bool {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	ours, err2 := os.Readlink("/proc/self/exe")
	const replaced = " (deleted)" // by an upgrade
	return pid != os.Getpid() && errors.Join(err, err2) == nil &&
		strings.TrimSuffix(theirs, replaced) == strings.TrimSuffix(ours, replaced)
}
