// Package file answers: who has the heartbeat, among the processes of this host?
//
// It is a heartbeat.Store whose proof is the lock on one file (package lockfile). So nothing expires,
// nothing is renewed and nobody is waited for. The file is never unlinked: a second opener would get
// a new one of the same name, and a second lock.
//
// Key L is the lock file with a record beside it: RecordPath, replaced as a whole, for everybody to
// read. The lock file is for gophd's user alone, since whoever can open it can lock it. It contains a
// note: which process holds the lock, and which users its runs belong to. The note and the record
// count only while the file is locked and that process may live. A lock without such a note is
// another program's, and an error. Key S, L + ".state", is a third file; it is replaced whole, and is
// on the disk when a write returns. Only the holder of the lock may write any of them. One Store
// keeps one L: the first key that it is asked for.
//
// It makes no folder, knows no ttl, and does not serve hosts: a network file system is refused.
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
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/heartbeat"
	"gophd/internal/lockfile"
	"gophd/internal/procfs"
)

const (
	mode     = 0o600 // whoever can open the file can lock it
	maxValue = 64 << 10
	block    = 1 << 10          // more than a record has
	maxSize  = maxValue + block // of what write leaves

	maxSpaces = 256 // each container that was killed adds one
	// Another's look at the lock (Get, or flock -s by a poller) makes ours fail for some
	// microseconds; as many tries outlast any number of them that is sane.
	tries = 100
	pause = time.Millisecond
)

// NoteTime is how long Get waits for the note of a new holder, over several calls, before it says that
// the lock is not gophd's. A holder writes its note right after it has locked the file.
const NoteTime = 5 * time.Second

// Store is one lock file. Any goroutine may use it.
type Store struct {
	path   string
	record string // RecordPath

	// One operation at a time. It may hang with the disk, so whoever only asks does not wait for it.
	operation sync.Mutex
	key       string // L
	value     []byte // the record that we wrote last
	writes    uint64 // the Token of what we wrote last
	closed    bool
	foreign   time.Time // since when the file is locked without a note; zero while it is not

	// Guarded by mu, which is never held while a file is touched. Only an operation changes lock.
	mu      sync.Mutex
	lock    *os.File // locked; nil when we do not hold it. An *os.File and not a number: see Descriptor
	unclean bool     // see Unclean
	users   []int    // see Users
	stale   bool     // the note does not have all users
	spaces  []string // see Clean
	secret  string   // see Secret
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
	return newStore(path), f.Close()
}

func newStore(path string) *Store { return &Store{path: path, record: RecordPath(path)} }

// Peek is Open for one who only looks: it makes no file. It fails as Open would, and also when the folder takes no
// state file.
func Peek(path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	s := newStore(path)
	f, err := open(path, os.O_RDWR)
	switch {
	case err == nil:
		_, err = s.left(f)
		f.Close()
	case errors.Is(err, fs.ErrNotExist):
		err = s.checkRecord()
	}
	if err != nil {
		return nil, err
	}
	if _, err := s.readState(); err != nil && !errors.Is(err, heartbeat.ErrAbsent) {
		return nil, err
	}
	return s, folder(path)
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
	if !lockfile.Names(path, int(f.Fd())) {
		return nil, fmt.Errorf("lock file %s was replaced since it was locked: claim it anew", path)
	}
	// A lock belongs to what was opened, so for the holder this changes nothing.
	if err := lockfile.TryLock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock file %s did not come with its lock: %w", path, err)
	}
	text, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("lock file %s: %w", path, err)
	}
	n, ok := parseNote(text)
	if !ok {
		return nil, fmt.Errorf("lock file %s did not come with the note of its holder: claim it anew", path)
	}
	s := newStore(path)
	s.lock, s.value, s.users, s.spaces, s.secret = f, n.Value, n.Users, n.Spaces, n.Secret
	return s, nil
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

// Clean says that what the process before us has started was looked for, and that nothing of it runs. The lock stays
// Unclean if a holder was killed in another PID namespace (container) whose processes cannot be seen from here.
func (s *Store) Clean() {
	self := procfs.Self()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spaces = slices.DeleteFunc(s.spaces, func(space string) bool { return self.SeesAll() || space == self.PIDNS })
	s.unclean = len(s.spaces) > 0
}

// AddUsers says that runs under this lock may belong to those users. The next holder learns it from
// Users if this one is killed. The next Add or Swap writes it.
func (s *Store) AddUsers(users ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := merge(s.users, users)
	if slices.Equal(all, s.users) {
		return
	}
	s.users, s.stale = all, true
}

// Users returns the users that leftover runs may belong to: those of AddUsers, and those of earlier
// holders as long as the lock is Unclean.
func (s *Store) Users() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.users)
}

// Secret returns a word that the holders of the lock have in common, from one release in order to the next, and that no
// other user can read; "" before Add. What a holder marks with it, nobody else can have marked.
func (s *Store) Secret() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secret
}

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

// Close frees the lock with its descriptor. The note and the record stay, and count no more.
func (s *Store) Close() error {
	s.operation.Lock()
	defer s.operation.Unlock()
	s.closed = true
	if s.lock == nil {
		return nil
	}
	err := s.lock.Close()
	s.setLock(nil)
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

func (s *Store) isStale() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stale
}

func (s *Store) setLock(f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lock = f
}

// locked reports whether a process has the lock on f, which is not ours.
func (s *Store) locked(f *os.File) (bool, error) {
	locked, err := lockfile.Locked(int(f.Fd()))
	if err != nil {
		err = fmt.Errorf("lock file %s: %w", s.path, err)
	}
	return locked, err
}
