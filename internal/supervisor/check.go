package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"gophd/internal/config"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/job"
	"gophd/internal/logging"
	"gophd/internal/pidfile"
	"gophd/internal/process"
	"gophd/internal/self"
)

// Check says what is wrong with a config that was loaded, beyond what config itself can know, without
// any side effect: it asks the rooms that will have to live with it, and looks at each path that build will open. It asks no
// server, and not who holds what. What only the user lacks who asks, and what only the daemon's own surroundings decide,
// are cautions.
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
	l, err := logOptions(Options{Config: c})
	add(err)
	err = logging.Check(l)
	add(err)
	p := pathsOf(c)
	for _, dir := range p.made {
		add(makeable(dir))
	}
	if err == nil {
		add(p.log(l, time.Now()))
	}
	w, err := worldOf(c.Jobs[0])
	add(err)
	add(p.folder(c.Jobs[0].Dir))
	add(p.output(c.Jobs[0].Output, w))
	add(p.input(c.Jobs[0].Stdin))
	if err := p.pidFile(c.PIDFile); !errors.As(err, new(*pidfile.HeldError)) {
		add(err)
	}
	if path := lockPath(c); path != "" {
		add(p.lock(path))
	}
	return wrong
}

// lockPath is that of the local lock; "" is none.
func lockPath(c *config.Config) string {
	if c.Heartbeat.URL == "none:" {
		return ""
	}
	return localPath(c.Heartbeat.URL, c.StateDir, c.Jobs[0].Name)
}

// checkCgroup is openCgroup without its effects.
func checkCgroup(spec job.Spec, leaving ...int) error {
	if l := limitsOf(spec); l != (process.Limits{}) {
		return process.CheckCgroup("", l, leaving...)
	}
	return nil
}

// AskerVariable is the environment variable in which a gophd that probes another program says what it has itself. A
// program that knows it not asks for less; one that is asked without it cannot tell whose things are, and asks nobody.
const AskerVariable = "GOPHD_ASKER"

// asker is a running gophd as it tells of itself.
type asker struct {
	PID     int
	Serves  bool   // runs begin, or may
	Lock    string // as in a record: its local lock; "" when it has none
	Users   []int  // who may own runs under that lock
	PIDFile string // the same of its PID file

	URL, Key string // of its shared heartbeat; without one, ""
	ID       string // of its instance, in the record of that
	Holds    bool   // that heartbeat is its own, and is handed over
}

// asker is what the probe has to know of us. Only the goroutine that owns the claims may ask.
func (r *rig) asker() asker {
	a := asker{PID: os.Getpid(), Serves: r.machine.looping}
	if r.local != nil {
		a.Lock, a.Users = lockID(r.local.lock.Descriptor()), r.local.lock.Users()
	}
	if r.pidFile != nil {
		if f, err := r.pidFile.Descriptor(); err == nil {
			a.PIDFile = lockID(f)
			_ = f.Close() // a second one
		}
	}
	if l, ok := r.remote.lease(); ok {
		a.URL, a.Key, a.ID = r.o.Config.Heartbeat.URL, r.remote.key, l.ID
		a.Holds = !l.Unproven && slices.Contains([]heartbeat.State{heartbeat.Held, heartbeat.Doubtful, heartbeat.Ending}, l.State)
	}
	return a
}

func (a asker) variable() string {
	text, _ := json.Marshal(a) // plain values: it cannot fail
	return AskerVariable + "=" + string(text)
}

// CheckNext is Check for the image that would take the place of the running one which asks. It runs as that does, so what is
// denied here is denied there, and it makes a file where a file would have to be made, and removes it. And it asks who holds
// the PID file, the local lock, and a shared heartbeat that is not handed over, which takes as long as that may be out of
// reach, or askTime.
func CheckNext(ctx context.Context, c *config.Config, s self.Self) error {
	wrong := survey(c)
	text := ""
	for _, kv := range s.Env {
		if t, ok := strings.CutPrefix(kv, AskerVariable+"="); ok {
			text = t
		}
	}
	var a asker
	known := json.Unmarshal([]byte(text), &a) == nil // an asker without it is an older gophd, or a hand
	if err := checkCgroup(c.Jobs[0], a.PID, os.Getppid()); err != nil {
		wrong = append(wrong, err)
	}
	if len(wrong) > 0 {
		return errors.Join(wrong...)
	}
	if err := pathsOf(c).try(c, a); err != nil || !known {
		return err
	}
	return a.holders(ctx, c)
}

// askTime bounds the question to a shared heartbeat, so that its answer comes in probeTime.
const askTime = probeTime / 2

// holders says who else holds what the config asks for. With heartbeat.wait that is no fault for who stands by already; who
// serves would have to stop what it runs.
func (a asker) holders(ctx context.Context, c *config.Config) error {
	h := c.Heartbeat
	path, standby, mayWait := lockPath(c), false, h.Wait && !a.Serves
	if path != "" {
		switch err := a.local(ctx, path, c.Jobs[0].Name, 2*file.NoteTime); {
		case err == nil:
		case mayWait && errors.As(err, new(*heartbeat.HeldError)):
			standby = true // and the PID file is asked for when that is over
		default:
			return err
		}
	}
	if !standby && c.PIDFile != "" {
		err := pathsOf(c).pidFile(c.PIDFile)
		if errors.As(err, new(*pidfile.HeldError)) && (a.PIDFile == "" || pathID(c.PIDFile) != a.PIDFile) {
			return err
		}
	}
	if path == "" || strings.HasPrefix(h.URL, "file:") {
		return nil
	}
	store, key, err := openStore(h.URL, c.Jobs[0].Name, h.Timeout)
	same, patience := a.URL == h.URL && a.Key == key, h.AcquireTimeout
	if err != nil || same && a.Holds {
		return err
	}
	if same {
		patience = 0 // the asker gets no answer either, and the next image goes on trying in its place
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	err = a.look(ctx, store, key, patience, path)
	switch {
	case mayWait && errors.As(err, new(*heartbeat.HeldError)):
		return nil
	case (same || h.OnUnreachable == "continue") && errors.As(err, new(*heartbeat.UnreachableError)):
		return nil
	}
	return err
}

// local asks for the holder of the local lock, if that is not the asker. A file that is yet to be made has none. Whether a
// lock is gophd's is asked for as long as patience.
func (a asker) local(ctx context.Context, path, name string, patience time.Duration) error {
	if id := pathID(path); id == "" || id == a.Lock {
		return nil
	}
	store, err := file.Peek(path)
	if err != nil {
		return err
	}
	err = a.look(ctx, store, name, patience, path)
	if silent := (*heartbeat.UnreachableError)(nil); errors.As(err, &silent) {
		return silent.Err // a file is not out of reach
	}
	return err
}

// pathID is lockID by name; "" when nothing has that.
func pathID(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fileID(info)
}

// look asks a store, and closes it. Neither the asker's own record nor that of one who is dead for certain is in the way.
func (a asker) look(ctx context.Context, store heartbeat.Store, key string, patience time.Duration, lock string) error {
	err := heartbeat.Look(ctx, store, key, patience)
	err = errors.Join(err, store.Close())
	held := (*heartbeat.HeldError)(nil)
	if !errors.As(err, &held) {
		return err
	}
	we := ourselves()
	we.Lock = pathID(lock)
	if a.ID != "" && held.Holder.ID == a.ID || !store.Traits().Lock && dead(held.Holder, we, we.Lock+"-", a.Users) {
		return nil
	}
	return err
}

// CheckStore asks the heartbeat's server once, if there is one, and returns an error when no heartbeat can be kept there. A
// server that gives no answer is none: it may be there when gophd is started. It blocks for some timeouts of the store.
func CheckStore(ctx context.Context, c *config.Config) error {
	if !strings.HasPrefix(c.Heartbeat.URL, "memcached:") {
		return nil
	}
	store, key, err := openStore(c.Heartbeat.URL, c.Jobs[0].Name, c.Heartbeat.Timeout)
	if err != nil {
		return err
	}
	err = errors.Join(heartbeat.Look(ctx, store, key, 0), store.Close())
	if errors.Is(err, heartbeat.ErrUnfit) {
		return err
	}
	return nil
}

// Holders says who holds what the config names on this host now, for show: nobody is "". It asks no server. The error is
// that another program than gophd has locked the lock file; whether one has is asked for as long as file.NoteTime.
func Holders(c *config.Config) (pidFile, lock string, err error) {
	if held := (*pidfile.HeldError)(nil); c.PIDFile != "" && errors.As(pidfile.Look(c.PIDFile), &held) {
		pidFile = fmt.Sprintf("PID %d", held.PID)
	}
	if path := lockPath(c); path != "" {
		held := (*heartbeat.HeldError)(nil)
		switch err := (asker{}).local(context.Background(), path, c.Jobs[0].Name, 2*file.NoteTime); {
		case errors.As(err, &held):
			lock = held.Holder.String()
		case errors.Is(err, heartbeat.ErrUnfit):
			return pidFile, "", err
		}
	}
	return pidFile, lock, nil
}
