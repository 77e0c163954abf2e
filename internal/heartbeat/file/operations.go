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

// Traits reports that the lock is the lease.
func (s *Store) Traits() heartbeat.Traits { return heartbeat.Traits{Lock: true, FenceDurable: true} }

// Get reads the record of the process that holds the lock. It returns ErrAbsent when no process
// does, also if a killed holder left content in the files. If the holder has written no note, which
// every gophd does at once, the answer is unknown for NoteTime and a *LockedError after that.
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
		s.noNote = time.Time{}
		return heartbeat.Entry{}, heartbeat.ErrAbsent
	}
	for range maxAttempts { // the holder may be about to write its note
		text, err := read(f)
		if err != nil {
			return heartbeat.Entry{}, fmt.Errorf("lock file %s: %w", s.path, err)
		}
		if n, ok := parseNote(text); ok && n.Holder.MayLive() {
			s.noNote = time.Time{}
			value := s.readRecord()
			if value == nil {
				value = n.Value
			}
			return heartbeat.Entry{Value: value, Token: foreignToken{}}, nil
		}
		if !s.noNote.IsZero() {
			break
		}
		time.Sleep(retryPause)
	}
	return heartbeat.Entry{}, s.lockedError(f)
}

// lockedError returns a *LockedError if the file has been locked without a note for NoteTime, and
// an unknown answer before that.
func (s *Store) lockedError(f *os.File) error {
	if s.noNote.IsZero() {
		s.noNote = time.Now()
	}
	err := &LockedError{s.path, procfs.Lockers(int(f.Fd()))}
	if time.Since(s.noNote) < NoteTime || slices.ContainsFunc(err.PIDs, isGophd) {
		return fmt.Errorf("lock file %s is locked by %s, which has not written its note yet", s.path, err.owner())
	}
	return err
}

// Add takes the lock and writes the record. For key S it writes the state if there is none. The ttl
// is ignored.
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
	for range maxAttempts {
		f, err := open(s.path, os.O_RDWR|os.O_CREATE)
		if err != nil {
			return err
		}
		switch err := lockfile.TryLock(int(f.Fd()), unix.LOCK_EX); {
		case err == nil && lockfile.Names(s.path, int(f.Fd())):
			if err := s.claim(f, value); err != nil {
				f.Close()
				return err
			}
			s.setHeld(f, value)
			return nil
		case err == nil: // the file was replaced between open and lock, so the lock has no effect
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
			shared = true // the lock of a process that tests it, which is soon gone
			time.Sleep(retryPause)
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
	return fmt.Errorf("lock file %s is replaced again and again: find the process that does it (fuser), "+
		"or choose another --name", s.path)
}

// Swap replaces the record, or S. For L it returns ErrChanged when another process has the lock. It
// returns ErrAbsent when no process has it, or when the file was unlinked or replaced while we held
// the lock: such a lock no longer protects anything and is released.
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
	// If a write fails (a full disk), the note and the record are out of date. Only the lock
	// counts.
	if s.isNoteOutdated() {
		_ = s.writeNote(s.lock, s.value)
	}
	_ = s.writeRecord(value)
	s.setHeld(s.lock, value)
	return nil
}

// claim writes the note and the record for f, which is locked now, and takes over the note of a
// killed holder. It removes the old record first, so that it never exists next to our note.
func (s *Store) claim(f *os.File, value []byte) error {
	previous, err := s.readNote(f)
	if err == nil {
		err = s.removeRecord()
	}
	if err != nil {
		return err
	}
	s.removeTemporary()
	killed := previous.V != 0
	s.inherit(previous)
	err = s.writeNote(f, value)
	if err == nil {
		err = s.writeRecord(value)
	}
	if err != nil {
		if !killed {
			err = errors.Join(err, f.Truncate(0)) // the file was clean and stays so
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unclean = s.unclean || killed
	return nil
}

// inherit takes over what the note of the previous holder contains.
func (s *Store) inherit(previous note) {
	self := procfs.Self()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = merge(s.users, previous.Users)
	if s.secret = previous.Secret; s.secret == "" {
		s.secret = rand.Text()
	}
	if previous.V == 0 || previous.Holder.Boot != self.Boot { // no run survives a reboot
		return
	}
	s.pidNamespaces = previous.PIDNamespaces
	if !slices.Contains(s.pidNamespaces, previous.Holder.PIDNS) {
		s.pidNamespaces = append(s.pidNamespaces, previous.Holder.PIDNS)
	}
	s.pidNamespaces = s.pidNamespaces[max(0, len(s.pidNamespaces)-maxPIDNamespaces):] // the newest
}

// readNote returns the note in f, of a holder that is alive or was killed. Without a note the
// result is empty. readNote fails if gophd must not overwrite f or the record.
func (s *Store) readNote(f *os.File) (note, error) {
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
		return note{}, notWrittenByGophd("lock file", s.path) // also if it starts with a note
	case ok:
		return n, nil
	case bytes.HasPrefix(text, []byte(noteStart)): // cut: the disk was full, or the machine crashed
		return note{V: noteVersion}, nil
	case len(bytes.Trim(text, "\x00 \n")) > 0:
		return note{}, notWrittenByGophd("lock file", s.path)
	}
	// The file is empty, or has zeros, which some file systems leave after a crash of the machine.
	return note{}, s.checkRecord() // a clean release has removed the record
}

func (s *Store) writeNote(f *os.File, value []byte) error {
	self := procfs.Self()
	s.mu.Lock()
	text, err := json.Marshal(note{
		V: noteVersion, Holder: self, Users: s.users, Secret: s.secret, PIDNamespaces: s.pidNamespaces, Value: value,
	})
	s.noteOutdated = false
	s.mu.Unlock()
	if err == nil {
		err = write(f, text)
	}
	if err != nil {
		return failed("lock file "+s.path, err)
	}
	return nil
}

// Expire removes the record and frees the lock. It also empties the file, unless it is Unclean. For
// key S it removes the state. It returns ErrChanged and ErrAbsent as Swap does.
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
			return failed("state file "+s.path+suffix, err)
		}
		return s.syncDirectory()
	}
	err = s.removeRecord()
	if !s.Unclean() {
		err = errors.Join(err, s.lock.Truncate(0))
	}
	// Unlock explicitly: Close alone does not free the lock if a copy of the descriptor is open.
	err = errors.Join(err, lockfile.Unlock(int(s.lock.Fd())), s.lock.Close())
	s.setLock(nil)
	if err != nil {
		return fmt.Errorf("lock file %s: %w", s.path, err)
	}
	return nil
}

// enter is called first in every operation. It reports whether key is S, and releases a lock that
// no longer protects anything.
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
	return false, fmt.Errorf("lock file %s is for key %s: use another file for key %s", s.path, s.key, key)
}

// unchanged returns nil if old is still the current entry and we may write it.
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

func (s *Store) setHeld(f *os.File, value []byte) {
	s.setLock(f)
	s.value = bytes.Clone(value)
	s.writes++
}
