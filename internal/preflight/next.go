package preflight

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"time"

	"gophd/internal/config"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/lease"
	"gophd/internal/pidfile"
	"gophd/internal/self"
)

// Command is the hidden command by which a running gophd asks the program that would take its place
// whether it could go on: "gophd COMMAND VERSION ARG...", with its own command line. The program
// prints an Answer if it reads handoffs of that version and could start with the config, here
// and now; a program that is not gophd does not. AskerVariable says who asks.
const Command = "probe-restart"

// Answer returns the whole output of a preflight that succeeds. c is the config that was validated,
// as config.Config.Encode returns it: the new process uses it and reads no file, unless it is nil.
func Answer(version string, c json.RawMessage) string { return answerStart(version) + string(c) + "\n" }

func answerStart(version string) string { return "gophd reads handoff " + version + "\n" }

// ParseAnswer returns the config in an Answer, or false if output is none.
func ParseAnswer(output, version string) (c json.RawMessage, ok bool) {
	text, ok := strings.CutPrefix(output, answerStart(version))
	if text = strings.TrimSpace(text); !ok || text != "" && !json.Valid([]byte(text)) {
		return nil, false
	}
	if text == "" {
		return nil, true
	}
	return json.RawMessage(text), true
}

// Timeout is how long the program may take to answer. Meanwhile everything continues, so it is
// long enough for a machine that stalls: on one, a preflight took more than 20 s.
const Timeout = time.Minute

// AskerVariable is the environment variable in which a gophd that probes another program says what
// it has itself. A program that knows it not asks for less; one that is asked without it cannot
// tell whose things are, and asks nobody.
const AskerVariable = "GOPHD_ASKER"

// Asker is a running gophd as it tells of itself.
type Asker struct {
	PID     int
	Serves  bool   // runs begin, or may
	Lock    string // as in a record: its local lock; "" when it has none
	Users   []int  // who may own runs under that lock
	PIDFile string // the same of its PID file

	URL, Key string // of its shared heartbeat; without one, ""
	ID       string // of its instance, in the record of that
	Holds    bool   // that heartbeat is its own, and is handed over
}

func (a Asker) Variable() string {
	text, _ := json.Marshal(a) // plain values: it cannot fail
	return AskerVariable + "=" + string(text)
}

// CheckNext is Check for the image that would take the place of the running one which asks. It runs
// as that does, so what is denied here is denied there, and it makes a file where a file would have
// to be made, and removes it. And it asks who holds the PID file, the local lock, and a shared
// heartbeat that is not handed over, which takes as long as that may be out of reach, or askTime.
func CheckNext(ctx context.Context, c *config.Config, s self.Self) error {
	wrong := survey(c)
	text := ""
	for _, kv := range s.Env {
		if t, ok := strings.CutPrefix(kv, AskerVariable+"="); ok {
			text = t
		}
	}
	var a Asker
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

// askTime bounds the question to a shared heartbeat.
const askTime = 10 * time.Second

// holders says who else holds what the config asks for. With heartbeat.wait that is no fault for
// who stands by already; who serves would have to stop what it runs.
func (a Asker) holders(ctx context.Context, c *config.Config) error {
	h := c.Heartbeat
	path, standby, mayWait := lease.LockPath(c), false, h.Wait && !a.Serves
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
		if errors.As(err, new(*pidfile.HeldError)) && (a.PIDFile == "" || lease.PathID(c.PIDFile) != a.PIDFile) {
			return err
		}
	}
	if path == "" || strings.HasPrefix(h.URL, "file:") {
		return nil
	}
	store, key, err := lease.OpenStore(h.URL, c.Jobs[0].Name, h.Timeout)
	same, patience := a.URL == h.URL && a.Key == key, h.AcquireTimeout
	if err != nil || same && a.Holds {
		return err
	}
	if same {
		patience = 0 // the asker gets no answer either, and the new process retries in its place
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

// local asks for the holder of the local lock, if that is not the asker. A file that is yet to be
// made has none. Whether a lock is gophd's is asked for as long as patience.
func (a Asker) local(ctx context.Context, path, name string, patience time.Duration) error {
	if id := lease.PathID(path); id == "" || id == a.Lock {
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

// look asks a store, and closes it. Neither the asker's own record nor that of one who is dead for
// certain is in the way.
func (a Asker) look(ctx context.Context, store heartbeat.Store, key string, patience time.Duration, lock string) error {
	err := heartbeat.Look(ctx, store, key, patience)
	err = errors.Join(err, store.Close())
	held := (*heartbeat.HeldError)(nil)
	if !errors.As(err, &held) {
		return err
	}
	we := lease.Self()
	we.Lock = lease.PathID(lock)
	if a.ID != "" && held.Holder.ID == a.ID || !store.Traits().Lock && lease.Dead(held.Holder, we, we.Lock+"-", a.Users) {
		return nil
	}
	return err
}
