// Package preflight answers: would this config start here?
//
// Check is for the user who asks, CheckNext for a running gophd before it is replaced, and the
// functions in options.go are those that a start uses itself. It has no side effects but a file
// that CheckNext creates and removes. Whether the config can be understood is decided in package
// config.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"gophd/internal/config"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/pidfile"
	"gophd/internal/process"
)

// Check says what is wrong with a config that was loaded, beyond what config itself can know,
// without any side effect: it asks the rooms that will have to live with it, and looks at each path
// that build will open. It asks no server, and not who holds what. What only the user lacks who
// asks, and what only the daemon's own surroundings decide, are cautions.
func Check(c *config.Config) (cautions []string, err error) {
	var wrong []error
	for _, err := range survey(c) {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			cautions = append(cautions, err.Error()+" (as the user who checks)")
		} else {
			wrong = append(wrong, err)
		}
	}
	if err := checkCgroup(c.Jobs[0]); err != nil {
		cautions = append(cautions, err.Error()+" (as it is where this check runs)")
	}
	return cautions, errors.Join(wrong...)
}

// survey is what Check and CheckNext have in common.
func survey(c *config.Config) (wrong []error) {
	add := func(err error) {
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	l, err := LogOptions(c)
	add(err)
	err = logging.Check(l)
	add(err)
	add(Distinct(c))
	p := pathsOf(c)
	for _, dir := range p.made {
		add(makeable(dir))
	}
	if err == nil {
		add(p.log(l, time.Now()))
	}
	w, err := World(c.Jobs[0])
	add(err)
	add(p.folder(c.Jobs[0].Dir))
	add(p.output(string(c.Jobs[0].Output), w))
	add(p.input(c.Jobs[0].Stdin))
	if err := p.pidFile(c.PIDFile); !errors.As(err, new(*pidfile.HeldError)) {
		add(err)
	}
	if path := lease.LockPath(c); path != "" {
		add(p.lock(path))
	}
	return wrong
}

// checkCgroup is openCgroup without its effects.
func checkCgroup(spec job.Spec, leaving ...int) error {
	if l := Limits(spec); l != (process.Limits{}) {
		return process.CheckCgroup("", l, leaving...)
	}
	return nil
}

// CheckStore asks the heartbeat's server once, if there is one, and returns an error when no
// heartbeat can be kept there. A server that gives no answer is none: it may be there when gophd is
// started. It blocks for some timeouts of the store.
func CheckStore(ctx context.Context, c *config.Config) error {
	if !c.Heartbeat.Shared() {
		return nil
	}
	store, key, err := lease.OpenStore(c.Heartbeat.URL, c.Jobs[0].Name, c.Heartbeat.Timeout)
	if err != nil {
		return err
	}
	err = errors.Join(heartbeat.Look(ctx, store, key, 0), store.Close())
	if errors.Is(err, heartbeat.ErrUnfit) {
		return err
	}
	return nil
}

// Holders says who holds what the config names on this host now, for show: nobody is "". It asks no
// server. The error is that another program than gophd has locked the lock file; whether one has is
// asked for as long as file.NoteTime.
func Holders(c *config.Config) (pidFile, lock string, err error) {
	if held := (*pidfile.HeldError)(nil); c.PIDFile != "" && errors.As(pidfile.Look(c.PIDFile), &held) {
		pidFile = fmt.Sprintf("PID %d", held.PID)
	}
	if path := lease.LockPath(c); path != "" {
		held := (*heartbeat.HeldError)(nil)
		switch err := (Asker{}).local(context.Background(), path, c.Jobs[0].Name, 2*file.NoteTime); {
		case errors.As(err, &held):
			lock = held.Holder.String()
		case errors.Is(err, heartbeat.ErrUnfit):
			return pidFile, "", err
		}
	}
	return pidFile, lock, nil
}
