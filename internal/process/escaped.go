package process

import (
	"bytes"
	"time"
)

// EscapeRules defines what happens to descendants of a command that left its process group and are
// still alive when the group is gone. A nil one spares them and does not report them.
type EscapeRules struct {
	// Mark is an entry of the command's Env, KEY=VALUE, whose VALUE no other run has. An orphan
	// that became a child of gophd belongs to the run whose Mark is in its environment. One with
	// another VALUE belongs to another run. One without that KEY cannot be attributed: it cleared
	// its environment, or, if gophd is process 1, was never a descendant of a run. It is reported
	// and always spared.
	Mark string

	// Kill stops them: TERM and CONT, then KILL after Grace, or when the KILL of a Stop is due if
	// that is sooner. Wait then blocks until they have exited, but at most one second after the
	// KILL.
	Kill  bool
	Grace time.Duration

	// Report is called once for each process, when it is found, by the goroutine that is in Wait.
	Report func(EscapedProcess)
}

// EscapedProcess is a descendant of a command that left its process group and outlived it.
type EscapedProcess struct {
	PID    int
	Name   string // of the program, as in ps -o comm
	Marked bool   // it belongs to this run; without, it may belong to any run, even of another job
	Killed bool   // it is being stopped; then it is Marked
}

// marks reports whether an environment has the Mark. env begins with a NUL.
func (r *EscapeRules) marks(env []byte) bool {
	return r != nil && r.Mark != "" && bytes.Contains(env, []byte("\x00"+r.Mark+"\x00"))
}

// sweep is the search for the escaped processes of one run. When one exits, its children become
// children of gophd, so the search continues until it finds nothing.
type sweep struct {
	*EscapeRules
	p       *Process
	started time.Time
	killed  time.Time         // when the first KILL was sent
	seen    map[int]time.Time // when a process was first seen that could not be decided on at once
}
