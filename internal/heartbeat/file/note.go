package file

import (
	"encoding/json"
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
	Users  []int           `json:"users,omitempty"`  // whom leftover runs may belong to
	Secret string          `json:"secret,omitempty"` // see Store.Secret
	Spaces []string        `json:"spaces,omitempty"` // PID namespaces in which a leftover run may be unseen
	Value  json.RawMessage `json:"value,omitempty"`  // the record that the holder wrote first
	Bytes  []byte          `json:"bytes,omitempty"`  // the same, if it is not JSON
}

// noteVersion is the v of every note, and noteStart what the text of a note starts with.
const (
	noteVersion = 2
	noteStart   = `{"v":2,"holder":`
)

func newNote(users []int, value []byte) note {
	n := note{V: noteVersion, Holder: procfs.Self(), Users: users}
	if json.Valid(value) {
		n.Value = value
	} else {
		n.Bytes = value
	}
	return n
}

func (n note) value() []byte {
	if n.Bytes != nil {
		return n.Bytes
	}
	return n.Value
}

// parseNote returns the note in text, and whether there is one.
func parseNote(text []byte) (n note, ok bool) {
	if json.Unmarshal(text, &n) != nil || n.V != noteVersion {
		return note{}, false
	}
	return n, true
}

// contentError says that a file is not gophd's. It is a heartbeat.ErrUnfit.
type contentError struct{ text string }

func (e *contentError) Error() string        { return e.text }
func (e *contentError) Is(target error) bool { return target == heartbeat.ErrUnfit }

// merge returns the users of both lists, each once.
func merge(a, b []int) []int {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// LockedError says that a process that is not gophd has locked the file. It is a heartbeat.ErrUnfit.
type LockedError struct {
	Path string
	PIDs []int // of those who locked it; empty if the system does not tell
}

// Is makes it a heartbeat.ErrUnfit: to ask again will not help.
func (e *LockedError) Is(target error) bool { return target == heartbeat.ErrUnfit }

func (e *LockedError) Error() string {
	return fmt.Sprintf("lock file %s is locked by %s, which is not gophd: end that process (fuser %[1]s shows who has the file open), or choose another name", e.Path, e.who())
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

// isGophd says that a process runs the same program as this one: it may have been stopped before it could write its
// note, or while it released the lock.
func isGophd(pid int) bool {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	ours, err2 := os.Readlink("/proc/self/exe")
	return err == nil && err2 == nil && pid != os.Getpid() && strings.TrimSuffix(theirs, " (deleted)") == strings.TrimSuffix(ours, " (deleted)")
}
