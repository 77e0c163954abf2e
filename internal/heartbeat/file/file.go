// Package file answers: who has the heartbeat, among the processes of this host?
//
// It is a heartbeat.Store whose proof is a lock of flock(2) on one file. The kernel frees the lock
// when the last descriptor of its holder is closed, by whatever death, and keeps it over a SIGSTOP,
// so nothing expires, nothing is renewed and nobody is waited for. The file is never unlinked: a
// second opener would get a new one of the same name, and a second lock.
//
// Key L is the file itself. Its content is the record, written in place for those who poll, and is
// believed only while the file is locked. Key S, L + ".state", is a file beside it of the same name
// with .state added; it is replaced whole, and is on the disk when a write returns. Only the holder
// of the lock may write either. One Store keeps one L: the first key that it is asked for.
//
// It makes no folder, knows no ttl, and does not serve hosts: a network file system is refused.
package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/heartbeat"
)

const (
	mode     = 0o644 // others may poll, unless the umask says no
	maxValue = 64 << 10
	block    = 1 << 10 // more than a record has
	// Another's look at the lock (Get, or flock -s by a poller) makes ours fail for some
	// microseconds; as many tries outlast any number of them that is sane.
	tries = 100
	pause = time.Millisecond
)

// Store is one lock file. Any goroutine may use it.
type Store struct {
	path string

	mu     sync.Mutex
	key    string   // L
	lock   *os.File // locked; nil when we do not hold it. An *os.File and not a number: see Descriptor
	value  []byte   // what we wrote last into lock
	writes uint64   // the Token of what we wrote last
	closed bool

	unclean bool // see Unclean
}

// theirs is the Token of a record that another process wrote.
type theirs struct{}

// Open returns the store of the lock file path, and makes an empty one if there is none. It fails
// when the file could not be locked later: no folder, no permission, not a plain file, a symbolic
// link (another user may have planted it), a file system whose locks end at another host's door.
func Open(path string) (*Store, error) {
	path, err := filepath.Abs(path) // a daemon changes its folder
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	f, err := open(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	return &Store{path: path}, f.Close()
}

// Peek is Open for one who only looks: it makes no file. It fails as Open would, and also when the folder takes no
// state file.
func Peek(path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	f, err := open(path, os.O_RDWR)
	switch {
	case err == nil:
		f.Close()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return &Store{path: path}, folder(path)
}

// Adopt returns the store of the lock file path whose lock came with f, the Descriptor of the image
// before this one, with what Unclean said there. It owns f from here on, and fails, with f closed, when f is not the
// file that is at path now or does not have its lock.
func Adopt(path string, f *os.File, unclean bool) (*Store, error) {
	s, err := adopt(path, f)
	if err != nil {
		f.Close()
		return nil, err
	}
	s.unclean = unclean
	return s, nil
}

func adopt(path string, f *os.File) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	unix.CloseOnExec(int(f.Fd()))
	if err := suits(path, f); err != nil {
		return nil, err
	}
	if !same(f, path) {
		return nil, fmt.Errorf("lock file %s was replaced since it was locked: claim it anew", path)
	}
	// A lock belongs to what was opened, so for the holder this changes nothing.
	if err := flock(f, unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock file %s did not come with its lock: %w", path, err)
	}
	value, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("lock file %s: %w", path, err)
	}
	return &Store{path: path, lock: f, value: value}, nil
}

// Descriptor returns the file that carries the lock, nil when it is not held. It stays the Store's:
// do not close it. To keep the lock over exec(2), clear its close-on-exec flag, do not Close the
// Store, and give the descriptor to Adopt in the next image. Nobody else inherits it.
func (s *Store) Descriptor() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lock
}

// Unclean says that the process which held the lock before us did not release it in order, so what it has started
// may still run. Until Clean is called the file is not emptied, and whoever has the lock after us hears the same.
func (s *Store) Unclean() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unclean
}

// Clean says that what the process before us has started was looked for, and that nothing of it runs.
func (s *Store) Clean() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unclean = false
}

// Traits tells that the lock is the lease.
func (s *Store) Traits() heartbeat.Traits { return heartbeat.Traits{Lock: true, FenceDurable: true} }

// Get reads the record of the process that holds the lock; ErrAbsent when nobody does, whatever a
// crashed one left in the file. For the instant between its lock and its first write, a new holder
// is seen with the record of the one before.
func (s *Store) Get(ctx context.Context, key string) (heartbeat.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
		return heartbeat.Entry{}, heartbeat.ErrAbsent
	}
	var value []byte
	for range tries { // the holder may be about to write its first record
		if value, err = read(f); err != nil {
			return heartbeat.Entry{}, fmt.Errorf("lock file %s: %w", s.path, err)
		}
		if len(value) > 0 {
			break
		}
		time.Sleep(pause)
	}
	return heartbeat.Entry{Value: value, Token: theirs{}}, nil
}

// Add takes the lock and writes the record, or writes S if it is not there. ttl is not used.
func (s *Store) Add(ctx context.Context, key string, value []byte, _ time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	for range tries {
		f, err := open(s.path, os.O_RDWR|os.O_CREATE)
		if err != nil {
			return err
		}
		switch err := flock(f, unix.LOCK_EX); {
		case err == nil && same(f, s.path):
			left, err := f.Stat()
			if err == nil {
				err = write(f, value)
			}
			if err != nil {
				f.Close()
				return fmt.Errorf("lock file %s: %w", s.path, err)
			}
			s.unclean = s.unclean || left.Size() > 0
			s.hold(f, value)
			return nil
		case err == nil: // it was replaced between open and lock; the lock is worth nothing
		case errors.Is(err, unix.EWOULDBLOCK):
			locked, err := s.locked(f)
			if err == nil && locked {
				err = heartbeat.ErrExists
			}
			if err != nil {
				f.Close()
				return err
			}
			time.Sleep(pause)
		default:
			f.Close()
			return fmt.Errorf("lock file %s: %w", s.path, err)
		}
		f.Close()
	}
	return fmt.Errorf("lock file %s is looked at or replaced without a pause: find out by whom with fuser", s.path)
}

// Swap writes the record, or S, again. For L it is ErrChanged when another process has the lock,
// ErrAbsent when nobody has it, or when the file was unlinked or replaced under our lock: then the
// lock protects nothing any more and is given up.
func (s *Store) Swap(ctx context.Context, key string, old heartbeat.Entry, value []byte, _ time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	if err := write(s.lock, value); err != nil {
		return fmt.Errorf("lock file %s: %w", s.path, err)
	}
	s.hold(s.lock, value)
	return nil
}

// Expire frees the lock and empties the file, unless it is Unclean; or removes S. It refuses as Swap does.
func (s *Store) Expire(ctx context.Context, key string, old heartbeat.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	if !s.unclean {
		err = s.lock.Truncate(0)
	}
	// Unlocked by word and not by Close alone: a copy of the descriptor may have strayed.
	err = errors.Join(err, flock(s.lock, unix.LOCK_UN), s.lock.Close())
	s.lock = nil
	if err != nil {
		return fmt.Errorf("lock file %s: %w", s.path, err)
	}
	return nil
}

// Close frees the lock with its descriptor; the record stays, and is not believed.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.lock == nil {
		return nil
	}
	err := s.lock.Close()
	s.lock = nil
	return err
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
	if s.lock != nil && !same(s.lock, s.path) {
		s.lock.Close()
		s.lock = nil
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
	s.lock, s.value = f, bytes.Clone(value)
	s.writes++
}

// locked says whether a process has the lock on f, which is not ours. The kernel tells only by an
// attempt; a shared one does not disturb other looks.
func (s *Store) locked(f *os.File) (bool, error) {
	switch err := flock(f, unix.LOCK_SH); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("lock file %s: %w", s.path, err)
	}
	return false, flock(f, unix.LOCK_UN)
}
