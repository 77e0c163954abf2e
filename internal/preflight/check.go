// Package preflight answers: can this config start on this host?
//
// Check is for gophd check, CheckNext for a running gophd before it re-execs. A start uses the
// functions in options.go too. The package has no side effects except for files that CheckNext
// creates and removes. Package config has validated the settings themselves.
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

// Check returns the errors of a loaded config that package config cannot find, without any side
// effect. It calls the checks of the packages that will use the config, and checks each path that a
// start will open. It contacts no server and ignores locks of other processes. Cautions are missing
// rights of the calling user, and limits that depend on the daemon's own environment.
func Check(c *config.Config) (cautions []string, err error) {
	var wrong []error
	for _, err := range checkAll(c) {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			cautions = append(cautions, err.Error()+" (as the user of this check)")
		} else {
			wrong = append(wrong, err)
		}
	}
	if err := checkCgroup(c.Jobs[0]); err != nil {
		cautions = append(cautions, err.Error()+" (in the control group of this check)")
	}
	if w, err := Credentials(c.Jobs[0]); err == nil {
		if err := MayGivePipes(c.Jobs[0], w); err != nil {
			cautions = append(cautions, err.Error()+" (as the user of this check)")
		}
	}
	return cautions, errors.Join(wrong...)
}

// checkAll has the checks that Check and CheckNext share.
func checkAll(c *config.Config) (wrong []error) {
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
		add(creatable(dir))
	}
	if err == nil {
		add(p.log(l, time.Now()))
	}
	w, err := Credentials(c.Jobs[0])
	add(err)
	add(p.directory(c.Jobs[0].Dir))
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

// checkCgroup checks whether the control group of the job can be created, without side effects. It
// ignores the processes in leaving: the running gophd, and the parent of this program.
func checkCgroup(spec job.Spec, leaving ...int) error {
	if l := Limits(spec); l != (process.Limits{}) {
		return process.CheckCgroup("", l, leaving...)
	}
	return nil
}

// CheckStore contacts the heartbeat's server once, if there is one, and returns an error if no
// lease can be kept there. A server that does not answer is no error: it may be up when gophd is
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

// Holders returns the current holders of the PID file and the local lock on this host, as text; ""
// means no holder. It contacts no server. It returns an error if a program other than gophd has
// locked the lock file. It blocks for up to twice file.NoteTime to find that out.
func Holders(c *config.Config) (pidFile, lock string, err error) {
	if held := (*pidfile.HeldError)(nil); c.PIDFile != "" && errors.As(pidfile.Check(c.PIDFile), &held) {
		pidFile = fmt.Sprintf("PID %d", held.PID)
	}
	if path := lease.LockPath(c); path != "" {
		held := (*heartbeat.HeldError)(nil)
		switch err := (Running{}).local(context.Background(), path, c.Jobs[0].Name, 2*file.NoteTime); {
		case errors.As(err, &held):
			lock = held.Holder.String()
		case errors.Is(err, heartbeat.ErrUnfit):
			return pidFile, "", err
		}
	}
	return pidFile, lock, nil
}
