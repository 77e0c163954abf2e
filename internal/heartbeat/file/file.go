// Package file answers: which process of this host holds the lease?
//
// It is a heartbeat.Store whose proof is the lock on one file (package lockfile). So no entry
// expires, no renewal is needed, and no deadline has to pass. The file is never unlinked: a process
// that opens it after that would create a new file of the same name and lock that one too.
//
// Key L is the lock file and a record next to it, at RecordPath. Every user can read the record,
// and it is replaced as a whole. Only gophd's user can open the lock file, because a process that
// can open it can lock it. The lock file contains a note: which process holds the lock, and which
// users its runs belong to. The note and the record count only while the file is locked and that
// process may be alive. A lock without such a note belongs to another program and is an error. Key
// S, which is L + ".state", is a third file. It is replaced as a whole and is on the disk when a
// write returns. Only the holder of the lock may write these files. One Store serves one L: the
// first key that it is called with.
//
// The package creates no directory and ignores ttls. It does not work across hosts: a file on a
// network file system is rejected.
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

	"gophd/internal/lockfile"
	"gophd/internal/procfs"
	"gophd/internal/safefile"
)

const (
	mode     = 0o600 // a process that can open the file can lock it
	maxValue = 64 << 10
	block    = 1 << 10          // longer than a record
	maxSize  = maxValue + block // the longest file that write leaves

	// MinSize is how many bytes a holder writes at least, to the files next to each other.
	MinSize = 3 * block

	maxPIDNamespaces = 256 // each killed container adds one
	// A process that tests the lock (Get, or flock -s by a poller) makes our attempt fail for some
	// microseconds. This many attempts outlast any realistic number of such tests.
	maxAttempts = 100
	retryPause  = time.Millisecond
)

// NoteTime is how long Get waits for the note of a new holder, over several calls, before it
// reports that the lock is not gophd's. A holder writes its note right after it has locked the
// file.
const NoteTime = 5 * time.Second

// Store is one lock file. Any goroutine may use it.
type Store struct {
	path   string
	record string // RecordPath

	// One operation at a time. It may block on the disk, so methods that only read a field do not
	// wait for it.
	operation sync.Mutex
	key       string // L
	value     []byte // the record that we wrote last
	writes    uint64 // the Token of the record that we wrote last
	closed    bool
	noNote    time.Time // when Get first found a lock without a note; zero if there is none

	// Guarded by mu, which is never held during file I/O. Only an operation changes lock.
	mu            sync.Mutex
	lock          *os.File // locked; nil when we do not hold it. Not a bare number: see Descriptor
	unclean       bool     // see Unclean
	users         []int    // see Users
	noteOutdated  bool     // the note does not have all users
	pidNamespaces []string // see Clean
	secret        string   // see Secret
}

// foreignToken is the Token of a record that another process wrote.
type foreignToken struct{}

// Open returns the store of the lock file path, and creates an empty file if there is none. It
// fails when the file could not be locked later: no directory, no permission, not a regular file, a
// symbolic link (another user may have created it), a file system whose locks may be invisible to
// other hosts.
func Open(path string) (*Store, error) {
	path, err := filepath.Abs(path) // a daemon changes its directory
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

// Check returns the error that Open, or Add after it, would return, and leaves everything as it is.
// It ignores a lock: while a process holds it, Add creates no file.
func Check(path string) error {
	s, err := Peek(path)
	if err != nil {
		return err
	}
	if err := checkDirectory(s.path); err != nil {
		return err
	}
	if f, err := open(s.path, os.O_RDONLY); err == nil {
		locked, lockErr := s.locked(f)
		err := errors.Join(lockErr, mayCloseToOthers(s.path, f))
		f.Close()
		if locked || err != nil {
			return err
		}
	}
	return s.checkCreate()
}

// checkCreate returns an error if the next holder could not replace the files next to the lock.
func (s *Store) checkCreate() error {
	if err := safefile.TryWrite(filepath.Dir(s.path), MinSize); err != nil {
		return failed("lock file "+s.path, err)
	}
	for _, path := range Paths(s.path)[1:] {
		if err := safefile.TryReplace(path); err != nil {
			return failed("file "+path+" next to the lock file", err)
		}
	}
	return nil
}

// Peek is Open for a caller that only reads: it creates no file.
func Peek(path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	s := newStore(path)
	f, err := open(path, os.O_RDWR)
	switch {
	case err == nil:
		_, err = s.readNote(f)
		f.Close()
	case errors.Is(err, fs.ErrNotExist):
		err = s.checkRecord()
	}
	if err != nil {
		return nil, err
	}
	if err := s.checkState(); err != nil {
		return nil, err
	}
	return s, nil
}

// Adopt returns the store of the lock file path whose lock came with f: the Descriptor of the old
// process. unclean is what Unclean returned there. Adopt takes ownership of f. It fails, and closes
// f, when f is not the file that is at path now or does not have its lock.
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
	if err := checkFile(path, f); err != nil {
		return nil, err
	}
	if !lockfile.Names(path, int(f.Fd())) {
		return nil, fmt.Errorf("lock file %s was replaced since it was locked", path)
	}
	// A lock belongs to the open file description, so for the holder this changes nothing.
	if err := lockfile.TryLock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock file %s was handed off without its lock: %w", path, err)
	}
	text, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("lock file %s: %w", path, err)
	}
	n, ok := parseNote(text)
	if !ok {
		return nil, fmt.Errorf("lock file %s was handed off without the note of its holder", path)
	}
	s := newStore(path)
	s.lock, s.value, s.users, s.pidNamespaces, s.secret = f, n.Value, n.Users, n.PIDNamespaces, n.Secret
	return s, nil
}

// Descriptor returns the file that carries the lock, nil when it is not held. The Store owns it: do
// not close it. To keep the lock over exec(2), clear its close-on-exec flag, do not Close the
// Store, and pass the descriptor to Adopt in the new process. No other process inherits it.
func (s *Store) Descriptor() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lock
}

// Unclean reports whether the previous holder did not release the lock cleanly, so that processes
// it started may still run. Until Clean is called the file is not emptied, and Unclean is true for
// the next holder too.
func (s *Store) Unclean() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unclean
}

// Clean records that the caller has searched for processes of the previous holder and that none is
// running. The lock stays Unclean if a holder was killed in another PID namespace (container) whose
// processes cannot be seen from here.
func (s *Store) Clean() {
	self := procfs.Self()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pidNamespaces = slices.DeleteFunc(s.pidNamespaces, func(namespace string) bool {
		return self.SeesAll() || namespace == self.PIDNS
	})
	s.unclean = len(s.pidNamespaces) > 0
}

// AddUsers records that runs under this lock may belong to these users. The next Add or Swap writes
// them to the note. If this process is killed, Users of the next holder returns them.
func (s *Store) AddUsers(users ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := merge(s.users, users)
	if slices.Equal(all, s.users) {
		return
	}
	s.users, s.noteOutdated = all, true
}

// Users returns the users that leftover runs may belong to: those from AddUsers, and those of
// earlier holders as long as the lock is Unclean.
func (s *Store) Users() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.users)
}

// Secret returns a random word that no other user can read; "" before Add. It passes from holder to
// holder until a clean release. A process that carries it was started by one of these holders.
func (s *Store) Secret() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secret
}

// Close closes the descriptor and so frees the lock. The note and the record stay, but no longer
// count.
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

func (s *Store) isNoteOutdated() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noteOutdated
}

func (s *Store) setLock(f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lock = f
}

// locked reports whether another open file has the lock on the file that f is open on. f must not
// be the descriptor that carries our own lock.
func (s *Store) locked(f *os.File) (bool, error) {
	locked, err := lockfile.Locked(int(f.Fd()))
	if err != nil {
		err = fmt.Errorf("lock file %s: %w", s.path, err)
	}
	return locked, err
}
