package preflight

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"gophd/internal/config"
	"gophd/internal/credentials"
	"gophd/internal/job"
	"gophd/internal/logging"
	"gophd/internal/process"
	"gophd/internal/safefile"
)

// This file converts a config to the options of other packages. A start uses the same functions, so
// that a check and a start return the same errors.

// LogOptions returns the options of the log that are in the config. With many jobs it is the log of
// the daemon's own lines, and of all jobs if they share one.
func LogOptions(c *config.Config) (logging.Options, error) {
	if !c.Many {
		return logOptions(c, c.Name, c.Jobs[0].User)
	}
	l, err := logOptions(c, c.Name, "")
	l.Job = "" // its lines are of several jobs
	return l, err
}

// OwnLog reports whether one of many jobs has a log of its own. A job with the name of the daemon has
// none.
func OwnLog(c *config.Config, spec job.Spec) bool {
	return c.Many && c.LogFile(spec.Name) != c.LogFile(c.Name)
}

// JobLogOptions returns the options of the log of a job with OwnLog.
func JobLogOptions(c *config.Config, spec job.Spec) (logging.Options, error) {
	return logOptions(c, spec.Name, spec.User)
}

// logOptions returns the options of the log of the job or daemon with that name. The file may
// belong to the user.
func logOptions(c *config.Config, name, user string) (logging.Options, error) {
	level, err := zerolog.ParseLevel(c.Log.Level)
	if err != nil {
		level = zerolog.InfoLevel // config has validated the level
	}
	l := logging.Options{File: c.LogFile(name), Format: c.Log.Format, Level: level, Job: name, PID: os.Getpid(),
		RotateSize: c.Log.RotateSize, RotateAge: c.Log.RotateAge, Keep: c.Log.Keep, KeepBytes: c.Log.KeepSize,
		Compress: c.Log.Compress, Mode: c.Log.Mode, Sync: c.Log.Sync, OnFull: c.Log.OnFull}
	if user != "" {
		if u, err := credentials.LookupUser(user); err == nil { // Credentials returns the error
			l.Trusted = []int{u.UID}
		}
	}
	if c.Log.Owner != "" {
		u, err := credentials.LookupUser(c.Log.Owner)
		if err != nil {
			return l, fmt.Errorf("log.owner: %w", err)
		}
		l.Owner = &logging.Owner{UID: u.UID, GID: u.GID}
	}
	return l, nil
}

// APIGroup returns the id of the group that may use the socket; nil for none. It is an error if there is
// no such group, or if this process may not give the socket to it.
func APIGroup(c *config.Config) (*int, error) {
	if c.API.Group == "" || !c.Listens() {
		return nil, nil
	}
	id, err := credentials.LookupGroup(c.API.Group)
	if err != nil {
		return nil, fmt.Errorf("api.group: %w", err)
	}
	own, err := os.Getgroups()
	if err != nil {
		return nil, fmt.Errorf("cannot read the groups of this process: %w", err)
	}
	if os.Geteuid() != 0 && id != os.Getegid() && !slices.Contains(own, id) {
		return nil, fmt.Errorf("api.group: user %d is not in the group %s: add it, or start gophd as root",
			os.Geteuid(), c.API.Group)
	}
	return &id, nil
}

// Credentials returns the credentials and limits of the command that differ from gophd's own; nil
// if there are none.
func Credentials(spec job.Spec) (*credentials.Credentials, error) {
	w := &credentials.Credentials{Umask: spec.Umask, Nice: spec.Nice}
	if spec.User != "" {
		u, err := credentials.LookupUser(spec.User)
		if err != nil {
			return nil, err
		}
		w.User = &u
	}
	for _, l := range spec.Rlimits {
		w.Rlimits = append(w.Rlimits, credentials.Rlimit{Name: l.Name, Resource: l.Resource, Soft: l.Soft, Hard: l.Hard})
	}
	if w.User == nil && w.Umask == nil && w.Nice == nil && w.Rlimits == nil {
		return nil, nil
	}
	return w, process.Permitted(w)
}

// MayGivePipes returns an error, fs.ErrPermission, if the output of the command goes through pipes
// that gophd may not give to the user of w. The command runs all the same.
func MayGivePipes(spec job.Spec, w *credentials.Credentials) error {
	if spec.Output != job.OutputLog && spec.Output != job.OutputOnFailure {
		return nil
	}
	return process.MayGive(w)
}

// GiveOutput makes a new output file belong to the job's user, as if that user had created it: the
// group is the user's too, unless the file has another than gophd's, from a directory with the
// set-group-ID bit. If gophd could not open the file again after that, because it lacks
// CAP_DAC_OVERRIDE, the file stays gophd's. After an error the command runs all the same.
func GiveOutput(f *os.File, w *credentials.Credentials) error {
	if w == nil || w.User == nil {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	group, back := w.User.GID, -1
	switch st, ok := info.Sys().(*syscall.Stat_t); {
	case ok && int(st.Gid) != os.Getegid():
		group = -1
	case ok:
		back = int(st.Gid)
	}
	if err = f.Chown(w.User.UID, group); err == nil {
		if err = safefile.Reopens(f); err != nil {
			err = errors.Join(err, f.Chown(os.Geteuid(), back))
		}
	}
	if err != nil {
		return fmt.Errorf("the command cannot open /dev/stdout again: its output cannot be given to user %s: "+
			"%w: create the file for that user, or choose another", w.User.Name, err)
	}
	return nil
}

// OpenFlags keep an open from blocking, and from making a terminal that of gophd's session.
const OpenFlags = unix.O_NONBLOCK | unix.O_NOCTTY

// OpenInput opens the file that a command reads. It does not block: a FIFO that no process has open
// for writing is empty. The command may have another user than gophd, and that user can make a name
// in a directory of its own lead to a file that only gophd may read. So the file is opened as
// safefile.Open does, and may belong to that user.
func OpenInput(path string, w *credentials.Credentials) (*os.File, error) {
	if users := w.UIDs(); users != nil {
		return safefile.Open(path, os.O_RDONLY|OpenFlags, 0, users...)
	}
	return os.OpenFile(path, os.O_RDONLY|OpenFlags, 0) // the command could do the same
}

// Environment returns the part of the command's environment that all runs share: gophd's own
// without what was meant for gophd (its settings, the service manager's sockets), then that of the
// job's user, that of the job with the config's sections, and the name of the job.
func Environment(own []string, w *credentials.Credentials, spec job.Spec) []string {
	own = config.Private(own)
	if spec.ClearEnv {
		own = nil
	}
	otherUser := w != nil && w.User != nil
	if otherUser {
		for _, e := range w.User.Env() {
			name, _, _ := strings.Cut(e, "=")
			if !slices.ContainsFunc(spec.Env, func(s string) bool { return strings.HasPrefix(s, name+"=") }) {
				spec.Env = append(slices.Clip(spec.Env), e)
			}
		}
	}
	added := append(slices.Clone(spec.Env), "GOPHD_NAME="+spec.Name)
	excluded := map[string]bool{config.RunVariable: true, "GOPHD_RUN": true, process.RunID: true,
		"GOPHD_SLOT": true, "GOPHD_DUE": true, "GOPHD_FENCE": true,
		"NOTIFY_SOCKET": true, "XDG_RUNTIME_DIR": otherUser, "WATCHDOG_USEC": true, "WATCHDOG_PID": true,
		"LISTEN_FDS": true, "LISTEN_PID": true, "LISTEN_FDNAMES": true, "MAINPID": true}
	for _, a := range added {
		name, _, _ := strings.Cut(a, "=")
		excluded[name] = true
	}
	var env []string
	for _, e := range own {
		if name, _, _ := strings.Cut(e, "="); !excluded[name] {
			env = append(env, e)
		}
	}
	return append(env, added...)
}

// Limits returns the limits of the job's control group.
func Limits(spec job.Spec) process.Limits {
	return process.Limits{Memory: spec.MemoryMax, CPU: spec.CPUMax, Tasks: spec.TasksMax}
}
