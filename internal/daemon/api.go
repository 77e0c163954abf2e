package daemon

import (
	"fmt"
	"os"

	"gophd/internal/api"
	"gophd/internal/goroutine"
	"gophd/internal/lease"
	"gophd/internal/preflight"
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
			Started: d.life.born.UTC(), Version: d.o.Version},
		Unused:   func() { d.timers.shrink.Reset(0) },
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
		if l := of[j.Name]; l != nil {
			j.Lease, _, _ = showLease(l.Look())
		}
	}
	return s
}
