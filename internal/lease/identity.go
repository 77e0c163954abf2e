package lease

import (
	"os"

	"gophd/internal/heartbeat"
	"gophd/internal/process"
	"gophd/internal/procfs"
)

// Self returns the fields of a record that identify this process. A field is empty if the system
// does not provide it. Then no other instance may conclude that this process is dead.
func Self() heartbeat.Record {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	self := procfs.Self()
	return heartbeat.Record{PID: self.PID, Host: host, Boot: self.Boot, PIDNS: self.PIDNS, PIDStart: self.Start}
}

// Dead returns true if the holder in r ran on this host, has exited, and has no leftover run, so
// that its lease may be taken at once. The holder has exited if its PID is not alive and this
// process, self, now holds the lock that the holder had. The other checks are about leftover runs.
// For mark and users see process.Leftover.
func Dead(r, self heartbeat.Record, mark string, users []int) bool {
	switch {
	case !Exited(r, self):
		return false
	case r.Lock == "" || r.Lock != self.Lock:
		return false
	case r.Child > 0 && procfs.Alive(r.Child, 0):
		return false
	}
	left, err := process.Leftover(mark, func(string) bool { return false }, users...)
	return err == nil && len(left) == 0
}

// Exited returns true if the holder in r ran on this host and has exited. It may have a leftover
// run. Then a message that the job runs elsewhere would be wrong.
func Exited(r, self heartbeat.Record) bool {
	return r.Boot != "" && r.Boot == self.Boot && r.PIDNS != "" && r.PIDNS == self.PIDNS &&
		!procfs.Alive(r.PID, r.PIDStart)
}
