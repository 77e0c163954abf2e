package daemon

import (
	"os"

	"gophd/internal/event"
	"gophd/internal/history"
	"gophd/internal/job"
	"gophd/internal/lease"
)

// openHistory opens the history of the jobs, if the config has one. Without a lock gophd needs no state
// directory: then there is a history only if that exists. Events are published from then on.
func (d *Daemon) openHistory() {
	c := d.o.Config
	if c.History.Size == 0 {
		return
	}
	if info, err := os.Stat(c.StateDir); lease.LockPath(c) == "" && (err != nil || !info.IsDir()) {
		return
	}
	d.history = history.New(history.Options{SegmentSize: c.History.Size / 2, Saved: d.handed.History,
		Path:    func(name string) string { return history.Path(c.StateDir, c.FileName(job.Spec{Name: name})) },
		Problem: func(err error) { d.warn(err.Error()) }})
	d.handed.History = history.Saved{}
}

// readHistory is a reader of the event stream.
func (d *Daemon) readHistory(e event.Event) {
	if d.history != nil {
		d.history.Read(e)
	}
}

// pauseHistory pauses writes to the history, and returns an error while one waits for a disk.
func (d *Daemon) pauseHistory() error {
	if d.history == nil {
		return nil
	}
	d.history.Pause()
	return d.history.Idle()
}

func (d *Daemon) resumeHistory() {
	if d.history != nil {
		d.history.Resume()
	}
}

// leaveHistory returns what the next process needs to continue the history.
func (d *Daemon) leaveHistory() (s history.Saved) {
	if d.history != nil {
		s = d.history.Leave()
	}
	return s
}

// closeHistory reports runs that are missing in the history as a warning: the runs did not suffer.
func (d *Daemon) closeHistory() error {
	if d.history == nil {
		return nil
	}
	if err := d.history.Close(); err != nil {
		d.warn(err.Error())
	}
	return nil
}
