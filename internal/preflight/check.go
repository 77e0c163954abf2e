// Package preflight answers: can this config start on this host?
//
// Package config and Valid reject an invalid config, which cannot be understood. Check rejects an
// unfit one: something that it names is missing here, or may not be used. Check is the same for
// gophd check, a start, and a running gophd before it re-execs (CheckNext). A start uses the
// functions in options.go and directories.go too. The package leaves everything as it is, except for
// directories that CreateDirectories creates.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gophd/internal/config"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/heartbeat/memcached"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/pidfile"
	"gophd/internal/process"
	"gophd/internal/safefile"
)

// Valid returns what cannot be understood in a loaded config, but only another package can tell. It
// reads the file of heartbeat.password_file, and looks at nothing else on this host.
func Valid(c *config.Config) error {
	err := logging.Check(logging.Options{File: c.Log.File, Format: c.Log.Format})
	if bad := checkPassword(c.Heartbeat); errors.Is(bad, memcached.ErrContent) {
		err = errors.Join(err, bad)
	}
	return err
}

func checkPassword(h config.Heartbeat) error {
	if !h.Shared() || h.PasswordFile == "" {
		return nil
	}
	return memcached.CheckPasswordFile(h.PasswordFile)
}

// Check returns the file that each run of a loaded config would execute, or why a start would fail
// here and now, with the permissions of this process: an error with a line for each problem.
// job.StartCode returns the exit code of such a start. It calls the checks of the packages that
// will use the config, and checks each path that a start will open. env is gophd's own environment.
// The processes in leaving are no obstacle to limits: they leave this control group, or belong to
// gophd.
//
// It leaves everything as it is: a file that it creates to find out whether a start could is gone
// when it returns. It contacts no server and ignores locks of other processes. It blocks for as long
// as the file systems do, and while a process of gophd's own looks as the job's user.
func Check(c *config.Config, env []string, leaving ...int) (program string, err error) {
	var wrong []error
	add := func(err error) {
		if err != nil {
			wrong = append(wrong, job.SetupError(err))
		}
	}
	spec, p := c.Jobs[0], pathsOf(c)
	add(Distinct(c))
	for i, dir := range p.made {
		err := dir.check()
		p.made[i].unfit = err != nil
		add(err)
	}
	l, err := LogOptions(c)
	add(err)
	if err == nil {
		add(p.log(l, time.Now()))
	}
	w, err := Credentials(spec)
	add(err)
	if err == nil {
		program, err = process.Check(process.Command{Argv: spec.Command, Dir: spec.Dir, Credentials: w,
			Env: Environment(env, w, spec)})
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	add(p.output(string(spec.Output), w))
	add(p.input(spec.Stdin, w))
	if err := p.pidFile(c.PIDFile); !errors.As(err, new(*pidfile.HeldError)) {
		add(err)
	}
	if path := lease.LockPath(c); path != "" {
		add(p.lock(path))
	}
	add(checkPassword(c.Heartbeat))
	if l := Limits(spec); l != (process.Limits{}) {
		add(process.CheckCgroup("", l, leaving...))
	}
	return program, errors.Join(wrong...)
}

// Cautions returns what a start would accept, although output may be lost or each run may fail,
// with the permissions of this process. It changes nothing.
func Cautions(c *config.Config) (texts []string) {
	if w, err := Credentials(c.Jobs[0]); err == nil {
		if err := MayGivePipes(c.Jobs[0], w); err != nil {
			texts = append(texts, err.Error()+" (as the user of this check)")
		}
	}
	if text := LogCaution(c); text != "" {
		texts = append(texts, text)
	}
	// Only an open tells whether a FIFO has a reader, who would take the end of this for its end.
	for _, at := range []struct{ key, path, otherwise string }{
		{"job.output", string(c.Jobs[0].Output), "each run fails"},
		{"log.file", logging.FileAt(c.Log.File, time.Now()), "lines are lost"},
	} {
		if _, ok := safefile.Descriptor(at.path); !ok && filepath.IsAbs(at.path) && IsFIFO(at.path) {
			texts = append(texts, fmt.Sprintf("%s %s is a FIFO: start its reader first; without a reader %s",
				at.key, at.path, at.otherwise))
		}
	}
	return texts
}

// LogCaution returns a Caution that a daemon cannot report, because it is about its log; "" if
// there is none.
func LogCaution(c *config.Config) string {
	if err := logging.CheckService(c.Log.File); err != nil {
		return fmt.Sprintf("log.file %s: %v: start it, or name a file; lines are lost until it can be reached",
			c.Log.File, err)
	}
	return ""
}

// IsFIFO reports whether path leads to a FIFO.
func IsFIFO(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeNamedPipe != 0
}

// CheckStore contacts the heartbeat's server, if there is one, and returns an error if no lease can
// be kept there, or if it does not answer: for as long as a start would try, or storeTimeout. With
// heartbeat.on_unreachable: continue a server that does not answer is no error. It blocks until it
// has an answer.
func CheckStore(ctx context.Context, c *config.Config) error {
	h := c.Heartbeat
	if !h.Shared() {
		return nil
	}
	store, key, err := lease.OpenStore(h, c.Jobs[0].Name)
	if err != nil {
		return err
	}
	err = errors.Join(heartbeat.Look(ctx, store, key, min(h.AcquireTimeout, storeTimeout)), store.Close())
	switch {
	case errors.As(err, new(*heartbeat.HeldError)):
		return nil
	case h.OnUnreachable == "continue" && errors.As(err, new(*heartbeat.UnreachableError)):
		return nil
	}
	return err
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
