package lease

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"gophd/internal/config"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/heartbeat/memcached"
)

// OpenStore opens the shared store of h, for any number of leases. A new scheme needs a case here, and
// in config the checks of its URL and of the lease's times.
func OpenStore(h config.Heartbeat) (heartbeat.Store, error) {
	scheme, _, _ := strings.Cut(h.URL, ":")
	switch scheme {
	case "memcached":
		address, err := config.MemcachedAddress(h.URL)
		if err != nil {
			return nil, fmt.Errorf("heartbeat.url %s: %w", h.URL, err)
		}
		return memcached.Open(address, h.PasswordFile, h.Timeout)
	}
	return nil, fmt.Errorf("heartbeat.url %s: unknown scheme; use none:, file: or memcached://host:port", h.URL)
}

// Key returns the key of a lease in a shared store: that of PHP-Daemon, so that its pollers keep
// working.
func Key(name string) string { return name + "_process_heartbeat" }

// LockPath returns the path of the lock that keeps one host from running the daemon twice, also
// with a shared store: that of its only job, or of all its jobs. It returns "" if heartbeat.url is
// "none:".
func LockPath(c *config.Config) string {
	if c.Many && c.Heartbeat.URL != "none:" {
		return filepath.Join(c.StateDir, c.Name+".daemon.lock")
	}
	return JobLockPath(c, c.Name)
}

// JobLockPath is LockPath for one job with a lease of its own. name is its Config.FileName.
func JobLockPath(c *config.Config, name string) string {
	if c.Heartbeat.URL == "none:" {
		return ""
	}
	if rest, ok := strings.CutPrefix(c.Heartbeat.URL, "file:"); ok && rest != "" {
		return filepath.Clean("/" + strings.TrimLeft(rest, "/"))
	}
	return filepath.Join(c.StateDir, name+".heartbeat")
}

// OpenLock opens the lock at path, or adopts the one that the old process has handed off.
func OpenLock(path string, kept *os.File, unclean bool) (*file.Store, error) {
	if kept != nil {
		if s, err := file.Adopt(path, kept, unclean); err == nil {
			return s, nil
		}
	}
	return file.Open(path)
}

// Mark returns the prefix of the process.RunID of all runs under a held lock: the device and inode
// of the lock, and its secret.
func Mark(lock *file.Store) string { return FileID(lock.Descriptor()) + "-" + lock.Secret() }

// FileID returns the device and inode of an open file, which identify a lock in a record; "" if f
// is nil.
func FileID(f *os.File) string {
	if f == nil {
		return ""
	}
	return id(f.Stat())
}

// PathID is FileID for the file at path.
func PathID(path string) string { return id(os.Stat(path)) }

func id(info os.FileInfo, err error) string {
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
