package file

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/heartbeat"
	"gophd/internal/lockfile"
	"gophd/internal/procfs"
)

// Traits tells that the lock is the lease.
func (s *Store) Traits() heartbeat.Traits { return heartbeat.Traits{Lock: true, FenceDurable: true} }

// Get reads the record of the process that holds the lock; ErrAbsent when nobody does, whatever a
// killed one left in the files. If the holder has left no note, which every gophd writes at once, the
// answer is unknown for NoteTime and a *LockedError from then on.
func (s *Store) Get(ctx context.Context, key string) (heartbeat.Entry, error) {
	s.operation.Lock()
	defer s.operation.Unlock()
	state, err := s.enter(ctx, key)
	switch {
	case err != nil:
		return heartbeat.Entry{}, err
	case state:
		value, err := s.readState()
		return heartbeat.Entry{Value: value}, err
	case s.lock != nil:
		return heartbeat.Entry{Value: bytes.Clone(s.value), Token: s.writes}, nil
	}
	f, err := open(s.path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return heartbeat.Entry{}, heartbeat.ErrAbsent
	}
	if err != nil {
		return heartbeat.Entry{}, err
	}
	defer f.Close()
	locked, err := s.locked(f)
	if err != nil {
		return heartbeat.Entry{}, err
	}
	if !locked {
		s.foreign = time.Time{}
		return heartbeat.Entry{}, heartbeat.ErrAbsent
	}
	for range tries { // the holder may be about to write its note
		text, err := read(f)
		if err != nil {
			return heartbeat.Entry{}, fmt.Errorf("lock file %s: %w", s.path, err)
		}
		if n, ok := parseNote(text); ok && n.Holder.MayLive() {
			s.foreign = time.Time{}
			value := s.readRecord()
			if value == nil {
				value = n.Value
			}
			return heartbeat.Entry{Value: value, Token: theirs{}}, nil
		}
		if !s.foreign.IsZero() {
			break
		}
		time.Sleep(pause)
	}
	return heartbeat.Entry{}, s.lockedError(f)
}

// lockedError returns a *LockedError if the file has been locked without a note for long enough.
func (s *Store) lockedError(f *os.File) error {
	if s.foreign.IsZero() {
		s.foreign = time.Now()
	}
	err := &LockedError{s.path, procfs.Lockers(int(f.Fd()))}
	if time.Since(s.foreign) < NoteTime || slices.ContainsFunc(err.PIDs, isGophd) {
		return fmt.Errorf("lock file %s is locked by %s, which has not said yet what for", s.path, err.who())
	}
	return err
}

// Add takes the lock and writes the record, or writes S if it is not there. ttl is not used.
func (s *Store) Add(ctx context.Context, key string, value []byte, _ time.Duration) error {
	s.operation.Lock()
	defer s.operation.Unlock()
	state, err := s.enter(ctx, key)
	switch {
	case err != nil:
		return err
	case state:
		switch _, err := s.readState(); {
		case err == nil:
			return heartbeat.ErrExists
		case !errors.Is(err, heartbeat.ErrAbsent):
			return err
		}
		return s.writeState(value)
	case s.lock != nil:
		return heartbeat.ErrExists
	}
	shared := false
	for range tries {
		f, err := open(s.path, os.O_RDWR|os.O_CREATE)
		if err != nil {
			return err
		}
		switch err := lockfile.TryLock(int(f.Fd()), unix.LOCK_EX); {
		case err == nil && lockfile.Names(s.path, int(f.Fd())):
			if err := s.begin(f, value); err != nil {
				f.Close()
				return err
			}
			s.hold(f, value)
			return nil
		case err == nil: // it was replaced between open and lock; the lock is worth nothing
			shared = false
		case errors.Is(err, lockfile.ErrLocked):
			locked, err := s.locked(f)
			if err == nil && locked {
				err = heartbeat.ErrExists
			}
			if err != nil {
				f.Close()
				return err
			}
			shared = true // as a look is, which does not last
			time.Sleep(pause)
		default:
			f.Close()
			return fmt.Errorf("lock file %s: %w", s.path, err)
		}
		f.Close()
	}
	if f, err := open(s.path, os.O_RDONLY); shared && err == nil {
		defer f.Close()
		return errors.New((&LockedError{s.path, procfs.Lockers(int(f.Fd()))}).Error())
	}
	return fmt.Errorf("lock file %s is replaced again and again: fuser shows who has it open; or choose another name", s.path)
}

// Swap writes the record, or S, again. For L it is ErrChanged when another process has the lock,
// ErrAbsent when nobody has it, or when the file was unlinked or replaced under our lock: then the
// lock protects nothing any more and is given up.
func (s *Store) Swap(ctx context.Context, key string, old heartbeat.Entry, value []byte, _ time.Duration) error {
	s.operation.Lock()
	defer s.operation.Unlock()
	state, err := s.enter(ctx, key)
	if err == nil {
		err = s.unchanged(state, old)
	}
	switch {
	case err != nil:
		return err
	case state:
		return s.writeState(value)
	}
	// What cannot be written (a full disk) is old, no more: the lock is what counts.
	if s.isStale() {
		_ = s.writeNote(s.lock, s.value)
	}
	_ = s.writeRecord(value)
	s.hold(s.lock, value)
	return nil
}

// begin writes the note and the record into a file that is locked now, and takes over what a holder
// that was killed has left there. The old record goes first: it must not stand beside our note.
func (s *Store) begin(f *os.File, value []byte) error {
	left, err := s.left(f)
	if err == nil {
		err = s.removeRecord()
	}
	if err != nil {
		return err
	}
	s.sweep()
	killed := left.V != 0
	s.inherit(left)
	err = s.writeNote(f, value)
	if err == nil {
		err = s.writeRecord(value)
	}
	if err != nil {
		if !killed {
			err = errors.Join(err, f.Truncate(0)) // it was clean, and still is
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unclean = s.unclean || killed
	return nil
}

// inherit takes over what a note says of the holders before.
func (s *Store) inherit(left note) {
	self := procfs.Self()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = merge(s.users, left.Users)
	if s.secret = left.Secret; s.secret == "" {
		s.secret = rand.Text()
	}
	if left.V == 0 || left.Holder.Boot != self.Boot { // the machine was started anew, and no run is left
		return
	}
	s.spaces = left.Spaces
	if !slices.Contains(s.spaces, left.Holder.PIDNS) {
		s.spaces = append(s.spaces, left.Holder.PIDNS)
	}
	s.spaces = s.spaces[max(0, len(s.spaces)-maxSpaces):] // the newest
}

// left returns the note that a holder has left in f, whether it was killed or lives; without one it is
// empty. It fails if gophd may not overwrite f or the record.
func (s *Store) left(f *os.File) (note, error) {
	info, err := f.Stat()
	if err != nil {
		return note{}, fmt.Errorf("lock file %s: %w", s.path, err)
	}
	text, err := read(f)
	if err != nil {
		return note{}, fmt.Errorf("lock file %s: %w", s.path, err)
	}
	n, ok := parseNote(text)
	switch {
	case info.Size() > maxSize:
		return note{}, notOurs("lock file", s.path) // whatever it begins with
	case ok:
		return n, nil
	case bytes.HasPrefix(text, []byte(noteStart)): // the disk was full, or the machine crashed
		return note{V: noteVersion}, nil
	case len(bytes.Trim(text, "\x00 \n")) > 0:
		return note{}, notOurs("lock file", s.path)
	}
	// Nothing, or zeros, as some file systems leave them after a crash of the machine.
	return note{}, s.checkRecord() // who released the lock removed the record
}

func (s *Store) writeNote(f *os.File, value []byte) error {
	self := procfs.Self()
	s.mu.Lock()
	text, err := json.Marshal(note{
		V: noteVersion, Holder: self, Users: s.users, Secret: s.secret, Spaces: s.spaces, Value: value,
	})
	s.stale = false
	s.mu.Unlock()
	if err == nil {
		err = write(f, text)
	}
	if err != nil {
		return fmt.Errorf("lock file %s: %w", s.path, err)
	}
	return nil
}

// Expire removes the record, frees the lock and empties the file, unless it is Unclean; or removes S.
// It refuses as Swap does.
func (s *Store) Expire(ctx context.Context, key string, old heartbeat.Entry) error {
	s.operation.Lock()
	defer s.operation.Unlock()
	state, err := s.enter(ctx, key)
	if err == nil {
		err = s.unchanged(state, old)
	}
	switch {
	case err != nil:
		return err
	case state:
		if err := os.Remove(s.path + suffix); err != nil {
			return fmt.Errorf("state file: %w", err)
		}
		return s.syncFolder()
	}
	err = s.removeRecord()
	if !s.Unclean() {
		err = errors.Join(err, s.lock.Truncate(0))
	}
	// Unlocked by word and not by Close alone: a copy of the descriptor may have strayed.
	err = errors.Join(err, lockfile.Unlock(int(s.lock.Fd())), s.lock.Close())
	s.setLock(nil)
	if err != nil {
		return fmt.Errorf("lock file %s: %w", s.path, err)
	}
	return nil
}

// enter is the beginning of every operation: it says whether key is S, and gives up a lock that no
// longer protects anything.
func (s *Store) enter(ctx context.Context, key string) (state bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("lock file %s: %w", s.path, err)
	}
	if s.closed {
		return false, fmt.Errorf("lock file %s: %w", s.path, fs.ErrClosed)
	}
	if s.key == "" {
		s.key = key
	}
	if s.lock != nil && !lockfile.Names(s.path, int(s.lock.Fd())) {
		s.lock.Close()
		s.setLock(nil)
	}
	switch key {
	case s.key:
		return false, nil
	case s.key + suffix:
		return true, nil
	}
	return false, fmt.Errorf("lock file %s keeps key %s: give key %s a file of its own", s.path, s.key, key)
}

// unchanged returns nil if old is what is there and we may write it.
func (s *Store) unchanged(state bool, old heartbeat.Entry) error {
	if state {
		switch value, err := s.readState(); {
		case err != nil:
			return err
		case s.lock == nil:
			return s.notHolder()
		case !bytes.Equal(value, old.Value):
			return heartbeat.ErrChanged
		}
		return nil
	}
	if s.lock != nil {
		if old.Token != any(s.writes) {
			return heartbeat.ErrChanged
		}
		return nil
	}
	f, err := open(s.path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return heartbeat.ErrAbsent
	}
	if err != nil {
		return err
	}
	defer f.Close()
	switch locked, err := s.locked(f); {
	case err != nil:
		return err
	case locked:
		return heartbeat.ErrChanged
	}
	return heartbeat.ErrAbsent
}

func (s *Store) hold(f *os.File, value []byte) {
	s.setLock(f)
	s.value = bytes.Clone(value)
	s.writes++
}
