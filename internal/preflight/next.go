package preflight

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"gophd/internal/config"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/pidfile"
	"gophd/internal/self"
)

// Command is the hidden command with which a running gophd checks, before a re-exec, whether the
// new program can take over: "gophd COMMAND VERSION ARG...", with its own command line. The program
// prints an Answer if it reads handoffs of that version and can start with the config now. A
// program that is not gophd prints none. AskerVariable describes the running gophd.
const Command = "probe-restart"

// Answer returns the whole output of a successful preflight. c is the validated config as
// config.Config.Encode returns it. The new process uses it and reads no file, unless it is nil.
func Answer(version string, c []byte) string { return answerStart(version) + string(c) + "\n" }

func answerStart(version string) string { return "gophd reads handoff " + version + "\n" }

// ParseAnswer returns the config in an Answer, or false if output is not an Answer.
func ParseAnswer(output, version string) (c []byte, ok bool) {
	text, ok := strings.CutPrefix(output, answerStart(version))
	text, complete := strings.CutSuffix(text, "\n")
	for line := range strings.Lines(text) {
		complete = complete && json.Valid([]byte(line))
	}
	return []byte(text), ok && complete
}

// Timeout is how long the program may take to answer. The runs continue meanwhile, so it is long
// enough for a slow machine: on one, a preflight took more than 20 s.
const Timeout = time.Minute

// AskerVariable is the environment variable with which the running gophd describes itself to the
// new program, as a Running. An older program ignores it and checks less. Without it, a program
// cannot know which locks belong to the running gophd, and does not check for other holders.
const AskerVariable = "GOPHD_ASKER"

// Running describes a running gophd to the new program.
type Running struct {
	PID    int
	Name   string // of the daemon
	Many   bool   // it has jobs:
	Serves bool   // it runs a job, or may start runs
	Lock   string // file ID of its local lock, as in a record; "" without a lock
	// LockPath is where that lock was; "" if it is not held.
	LockPath string `json:",omitempty"`
	Users    []int  // UIDs that may own runs under that lock
	PIDFile  string // file ID of its PID file; "" without a PID file

	// LostLocks are own locks of its jobs whose files were removed or replaced, some at least.
	LostLocks []string `json:",omitempty"`

	URL, Key string // of its shared heartbeat; "" without one
	ID       string // of its instance, in the record of that heartbeat
	Holds    bool   // it holds that lease, and hands it off
	Own      bool   // each of its jobs has a lease there, and Key is the one that all would share

	// Failed are those of several jobs that have failed already, with their Digest. If they have not
	// changed, they need not be fit.
	Failed map[string]string `json:",omitempty"`
}

func (a Running) failed(spec job.Spec) bool {
	digest, ok := a.Failed[spec.Name]
	return ok && digest == Digest(spec)
}

// Digest returns a short text that differs for different jobs.
func Digest(spec job.Spec) string {
	text, _ := json.Marshal(spec) // plain values cannot fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// Variable returns the environment variable that describes a, as KEY=VALUE.
func (a Running) Variable() string {
	text, _ := json.Marshal(a) // plain values cannot fail
	return AskerVariable + "=" + string(text)
}

// CheckNext is Check for the new program before a re-exec, and looks further: at the holders of the
// PID file, of the local lock, and of a shared heartbeat that is not handed off, and whether the new
// program can use its server. For that it blocks for up to the acquire timeout or storeTimeout.
func CheckNext(ctx context.Context, c *config.Config, s self.Self) error {
	text := ""
	for _, kv := range s.Env {
		if t, ok := strings.CutPrefix(kv, AskerVariable+"="); ok {
			text = t
		}
	}
	var a Running
	known := json.Unmarshal([]byte(text), &a) == nil // else called by an older gophd, or manually
	k := NewChecker(c, s.Env, a.PID, os.Getppid())
	if known {
		k.files = filesOf(c, streamsOf(strconv.Itoa(a.PID))) // those of this process are pipes
	}
	if _, err := k.all(a.failed); err != nil {
		return err
	}
	if !known {
		return nil
	}
	return a.holders(ctx, c)
}

// holders returns an error if another process holds the PID file or a lease of the config. With
// heartbeat.standby that is no error for a gophd that stands by already. A gophd that runs the job
// would have to stop it.
func (a Running) holders(ctx context.Context, c *config.Config) error {
	h := c.Heartbeat
	path, standby, mayWait := lease.LockPath(c), false, h.Standby && !a.Serves
	if a.Lock != "" && a.Name == c.Name && a.Many != c.Many {
		return fmt.Errorf("the name %s is that of one job before and of a daemon with jobs: after this reload, or the reverse: "+
			"their locks differ, and the lease would be lost: set another config.name, or stop gophd and start it again", c.Name)
	}
	if a.LockPath != "" && a.LockPath == path && lease.PathID(path) != a.Lock {
		return lostLock(path)
	}
	if path != "" {
		switch err := a.local(ctx, path, c.Name, 2*file.NoteTime); {
		case err == nil:
		case mayWait && errors.As(err, new(*heartbeat.HeldError)):
			standby = true // the PID file is needed only once the lock is free
		default:
			return err
		}
	}
	if !standby && c.PIDFile != "" {
		err := pathsOf(c).pidFile(c.PIDFile)
		if errors.As(err, new(*pidfile.HeldError)) && (a.PIDFile == "" || lease.PathID(c.PIDFile) != a.PIDFile) {
			return err
		}
	}
	if c.OwnLeases() {
		if err := a.jobLocks(c); err != nil {
			return err
		}
	}
	if !h.Shared() {
		return nil
	}
	return a.shared(ctx, c, mayWait)
}

func lostLock(path string) error {
	return fmt.Errorf("the lock file %s was removed or replaced: the lease would be lost in a re-exec and the run "+
		"be stopped: stop gophd after its run, and start it again", path)
}

// jobLocks returns an error if the own lock of a job was lost, or is held by a program other than
// gophd. One that another gophd holds is no error: its job stands by, and the others run.
func (a Running) jobLocks(c *config.Config) error {
	var wrong []error
	for _, spec := range c.Jobs {
		if a.failed(spec) {
			continue
		}
		var err error
		if path := jobLock(c, spec).path; slices.Contains(a.LostLocks, path) {
			err = fmt.Errorf("%s: %w", c.Where(spec, ""), lostLock(path))
		} else {
			_, err = JobHolder(c, spec)
		}
		wrong = append(wrong, err)
	}
	return errors.Join(wrong...)
}

// shared returns an error if the leases of the config cannot be kept in its shared store, or, if all
// jobs have one, if another instance holds it.
func (a Running) shared(ctx context.Context, c *config.Config, mayWait bool) error {
	h := c.Heartbeat
	store, err := lease.OpenStore(h)
	if err != nil {
		return err
	}
	key := lease.Key(c.Name)
	same, patience := a.URL == h.URL && a.Key == key && a.Own == c.OwnLeases(), min(h.AcquireTimeout, storeTimeout)
	if same {
		patience = 0 // the running gophd gets no answer either; the new process continues to retry
	}
	var jobs map[string]error
	if c.OwnLeases() {
		jobs, err = lookUpJobs(ctx, c, store, patience, a.failed)
		err = errors.Join(err, store.Close())
	} else {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		err = a.look(ctx, store, key, patience, lease.LockPath(c))
	}
	switch {
	case same && a.Holds && !errors.Is(err, heartbeat.ErrUnfit): // as it is now, with or without a restart
		return nil
	case mayWait && errors.As(err, new(*heartbeat.HeldError)):
		err = nil
	case same && errors.As(err, new(*heartbeat.UnreachableError)), unreachableIsFit(h, err):
		err = nil
	}
	for _, spec := range c.Jobs {
		err = errors.Join(err, jobs[spec.Name])
	}
	return err
}

// local returns an error if a process other than the running gophd holds the local lock. A file
// that does not exist has no holder. It waits up to patience for the record that identifies a lock
// of gophd.
func (a Running) local(ctx context.Context, path, name string, patience time.Duration) error {
	if id := lease.PathID(path); id == "" || id == a.Lock {
		return nil
	}
	store, err := file.Peek(path)
	if err != nil {
		return err
	}
	err = a.look(ctx, store, name, patience, path)
	if unreachable := (*heartbeat.UnreachableError)(nil); errors.As(err, &unreachable) {
		return unreachable.Err // a file is never unreachable
	}
	return err
}

// look looks up the holder in a store, and closes the store. The record of the running gophd is no
// error, nor is the record of a holder that is certainly dead.
func (a Running) look(ctx context.Context, store heartbeat.Store, key string, patience time.Duration, lock string) error {
	err := heartbeat.Look(ctx, store, key, patience)
	err = errors.Join(err, store.Close())
	held := (*heartbeat.HeldError)(nil)
	if !errors.As(err, &held) {
		return err
	}
	we := lease.Self()
	we.Lock = lease.PathID(lock)
	own := a.ID != "" && held.Holder.ID == a.ID
	if own || !store.Traits().Lock && lease.Dead(held.Holder, we, we.Lock+"-", a.Users) {
		return nil
	}
	return err
}
