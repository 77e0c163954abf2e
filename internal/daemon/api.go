package daemon

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gophd/internal/api"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/logread"
	"gophd/internal/preflight"
	"gophd/internal/procfs"
	"gophd/internal/safefile"
	"gophd/internal/status"
)

// This file has the daemon for its socket.

// apiSocket is the name of the socket's descriptor in the handoff.
const apiSocket = "api-socket"

// openAPI prepares the socket. It listens when gophd has the local lock, see listen.
func (d *Daemon) openAPI() error {
	c := d.o.Config
	if !c.Listens() {
		return nil
	}
	group, err := preflight.APIGroup(c)
	if err != nil {
		return err
	}
	d.api = api.New(api.Options{
		Daemon: apiDaemon{d}, Dir: c.RuntimeDir, Group: group, Events: d.recent,
		Record: api.Record{Daemon: c.Name, PID: os.Getpid(), StateDir: c.StateDir, LogFile: d.log.Path(),
			Started: d.life.born.UTC(), Version: d.o.Version, Logs: d.whereLogs()},
		Unused:   func() { d.timers.unused.Reset(0) },
		Panicked: func(p *goroutine.Panic) { d.problem(fmt.Errorf("a request on the socket failed: %w\n%s", p, p.Stack)) },
	})
	return nil
}

// listen makes the API available. Without it gophd runs all the same: nothing that only watches may
// prevent a job.
func (d *Daemon) listen() {
	if d.api == nil || d.handedSocket() != nil { // adoptAPI has it
		return
	}
	if err := d.api.Listen(); err != nil {
		d.noSocket(err)
	}
}

// handedSocket returns the socket of the old process; nil if there is none.
func (d *Daemon) handedSocket() *os.File {
	if d.o.Handoff == nil {
		return nil
	}
	return d.o.Handoff.Files[apiSocket]
}

// adoptAPI continues to listen on the socket of the old process, or removes it if the new config has
// none.
func (d *Daemon) adoptAPI() {
	handed := d.handedSocket()
	if handed == nil {
		return
	}
	if d.api == nil {
		_ = d.handed.API.Remove() // it stays as a stale one
		_ = handed.Close()
		return
	}
	if err := d.api.Adopt(handed, d.handed.API); err != nil {
		d.noSocket(err)
	}
}

func (d *Daemon) noSocket(err error) {
	d.warn(fmt.Sprintf("no socket for gophd list and status: %v; or set --no-socket", err))
}

// apiDaemon is the Daemon of package api.
type apiDaemon struct{ *Daemon }

var _ api.Daemon = apiDaemon{}

// Snapshot returns the board with the leases as they are now.
func (a apiDaemon) Snapshot() status.Snapshot {
	s := a.board.Snapshot()
	s.Log.File = a.log.Path()
	of := map[string]*lease.Lease{}
	for _, m := range a.jobs.all {
		of[m.spec.Name] = a.leaseOf(m)
	}
	for i := range s.Jobs {
		j := &s.Jobs[i]
		written := a.log.Job(j.Name).Stats()
		j.LogPending = written.Pending > 0 || written.Stalled > 0
		for i := range j.Active {
			suspendedNow(&j.Active[i])
		}
		if l := of[j.Name]; l != nil {
			j.Lease, _, _ = showLease(l.Look())
		}
	}
	return s
}

// suspendedNow looks whether the command of a run is suspended: the board has that only since the last
// planned look.
func suspendedNow(r *status.ActiveRun) {
	if r.PID == 0 {
		return
	}
	switch s, err := procfs.ReadStat(r.PID); {
	case err != nil: // it has just exited, or the system has no /proc
	case s.State == 'T' && r.Suspended.PID != r.PID:
		r.Suspended = status.Suspended{PID: r.PID, By: syscall.Signal(s.StopSignal)}
	case s.State != 'T' && r.Suspended.PID == r.PID:
		r.Suspended = status.Suspended{}
	}
}

// whereLogs returns where the lines of the daemon and its jobs are. A descriptor of gophd itself is no file that
// another process could read.
func (d *Daemon) whereLogs() api.Logs {
	c := d.o.Config
	readable := func(file string) string {
		if _, own := safefile.Descriptor(file); own {
			return ""
		}
		return file
	}
	l := api.Logs{Log: readable(c.LogFile(c.Name)), Many: c.Many}
	if c.Log.File == "" {
		l.Log = journalUnit()
	}
	for _, spec := range c.Jobs {
		j := api.JobLogs{Name: spec.Name}
		if file := c.LogFile(spec.Name); c.Many && file != c.LogFile(c.Name) {
			j.Log = readable(file)
		}
		if spec.Output != job.OutputLog {
			j.Output = string(spec.Output)
		}
		l.Jobs = append(l.Jobs, j)
	}
	return l
}

// journalUnit returns the unit of systemd, as in logread.Source, if the journal has the stderr of gophd
// (systemd.exec(5), JOURNAL_STREAM); otherwise "".
func journalUnit() string {
	var st unix.Stat_t
	if err := unix.Fstat(2, &st); err != nil || os.Getenv("JOURNAL_STREAM") != fmt.Sprintf("%d:%d", st.Dev, st.Ino) {
		return ""
	}
	groups, _ := os.ReadFile("/proc/self/cgroup") // without it there is no unit
	return unitOf(string(groups))
}

// unitOf returns the unit of systemd with these control groups (cgroups(7), /proc/PID/cgroup). A unit of a user
// is below user@UID.service.
func unitOf(groups string) string {
	kind, unit := logread.Unit, ""
	for line := range strings.Lines(groups) {
		for part := range strings.SplitSeq(strings.TrimSpace(line), "/") {
			switch {
			case strings.HasPrefix(part, "user@") && strings.HasSuffix(part, ".service"):
				kind = logread.UserUnit
			case strings.HasSuffix(part, ".service"):
				unit = part
			}
		}
	}
	if unit == "" {
		return ""
	}
	return kind + unit
}
