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

	PIDNamespaces []string `json:"spaces,omitempty"` // see Store.Clean
	Value         []byte   `json:"value,omitempty"`  // the record that the holder wrote first
}

// noteVersion is the v of every note. The text of every note starts with noteStart.
const (
	noteVersion = 2
	noteStart   = `{"v":2,"holder":`
)

// parseNote returns the note in text. ok is false if there is none.
func parseNote(text []byte) (n note, ok bool) {
	if !bytes.HasPrefix(text, []byte(noteStart)) || json.Unmarshal(text, &n) != nil {
		return note{}, false
	}
	return n, true
}

// contentError reports a file that gophd did not write. It is a heartbeat.ErrUnfit.
type contentError struct{ text string }

func notWrittenByGophd(what, path string) error {
	return &contentError{fmt.Sprintf("%s %s was not written by gophd: remove it, or choose another --name", what, path)}
}

func (e *contentError) Error() string        { return e.text }
func (e *contentError) Is(target error) bool { return target == heartbeat.ErrUnfit }

// merge returns the users of both lists, sorted and without duplicates.
func merge(a, b []int) []int {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// LockedError reports that a process other than gophd has locked the file. It is a
// heartbeat.ErrUnfit.
type LockedError struct {
	Path string
	PIDs []int // the processes that hold the lock; empty if the system does not report them
}

// Is makes it a heartbeat.ErrUnfit: a retry does not help.
func (e *LockedError) Is(target error) bool { return target == heartbeat.ErrUnfit }

func (e *LockedError) Error() string {
	return fmt.Sprintf("lock file %s is locked by %s, which is not gophd: stop that process "+
		"(fuser %[1]s lists the processes that have the file open), or choose another --name", e.Path, e.owner())
}

// owner describes the processes that hold the lock.
func (e *LockedError) owner() string {
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

// isGophd reports whether another process runs the same program as this one. Such a process may
// have been stopped before it wrote its note, or while it released the lock.
func isGophd(pid int) bool {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	ours, err2 := os.Readlink("/proc/self/exe")
	const replaced = " (deleted)" // by an upgrade
	return pid != os.Getpid() && errors.Join(err, err2) == nil &&
		strings.TrimSuffix(theirs, replaced) == strings.TrimSuffix(ours, replaced)
}
