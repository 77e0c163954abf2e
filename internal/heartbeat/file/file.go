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
