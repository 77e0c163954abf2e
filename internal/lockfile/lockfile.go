// Package lockfile answers: is this file locked, and is it still the file at that path?
//
// The lock is that of flock(2). It belongs to the open file description: all descriptors duplicated
// or inherited from the locked one share it. It survives exec and SIGSTOP. The kernel frees it when
// the last of these descriptors is closed, also by a kill, or when one of them is unlocked.
//
// No function waits for a lock. The package opens and closes no files: safefile opens them. It does
// not report which process holds a lock (procfs.Lockers does), or which file systems do not support
// locks.
package lockfile

import (
	"errors"

	"golang.org/x/sys/unix"
)

// ErrLocked is the error of TryLock when a lock of another open file description conflicts.
const ErrLocked = unix.EWOULDBLOCK

// TryLock locks the open file. how is unix.LOCK_EX or unix.LOCK_SH.
func TryLock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how|unix.LOCK_NB); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Unlock frees the lock, also if other descriptors share it.
func Unlock(fd int) error { return TryLock(fd, unix.LOCK_UN) }

// Locked reports whether another open file description has an exclusive lock on the file. The only
// way to find out is to attempt a lock. Locked uses a shared one, so concurrent calls of Locked do
// not disturb each other. A lock that fd itself has is freed.
func Locked(fd int) (bool, error) {
	switch err := TryLock(fd, unix.LOCK_SH); {
	case errors.Is(err, ErrLocked):
		return true, nil
	case err != nil:
		return false, err
	}
	return false, Unlock(fd)
}

// Names reports whether path names the open file now. It does not follow a symlink.
func Names(path string, fd int) bool {
	var named, opened unix.Stat_t
	return unix.Lstat(path, &named) == nil && unix.Fstat(fd, &opened) == nil &&
		named.Dev == opened.Dev && named.Ino == opened.Ino
}
