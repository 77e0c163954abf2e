package safefile

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Others is what Descriptor returns for a descriptor of another process.
const Others = -1

// Descriptor reports whether path names a descriptor of a process, directly (/dev/stdout,
// /dev/fd/1, /proc/self/fd/1) or through symlinks. It returns the number if the process is this
// one, and Others if it is another. It opens nothing.
//
// Such a path names a different file in each process. The file has no name there that could be
// created, renamed or removed.
func Descriptor(path string) (n int, ok bool) {
	for range maxLinks {
		if n, ok := descriptor(path); ok {
			return n, true
		}
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			dir, _ := split(path)
			to = dir + "/" + to
		}
		path = to
	}
	return 0, false
}

// descriptor is Descriptor for a path whose last element is not followed.
func descriptor(path string) (n int, ok bool) {
	dir, base := split(path)
	n, named := standard[base]
	if !named {
		var err error
		if n, err = strconv.Atoi(base); err != nil || strconv.Itoa(n) != base || n < 0 {
			return 0, false
		}
	}
	dirs := []string{dir}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dirs = append(dirs, real)
	}
	for _, dir := range dirs {
		switch {
		case named && dir == "/dev", !named && dir == "/dev/fd", !named && isDescriptorDir(dir, true):
			return n, true
		case !named && isDescriptorDir(dir, false):
			return Others, true
		}
	}
	return 0, false
}

// standard has the names of descriptors in /dev. They are links to /proc/self/fd on Linux.
var standard = map[string]int{"stdin": 0, "stdout": 1, "stderr": 2}

// isDescriptorDir reports whether dir is /proc/PID/fd or /proc/PID/task/TID/fd of this process, or
// of any process (proc_pid_fd(5)).
func isDescriptorDir(dir string, own bool) bool {
	part := strings.Split(dir, "/") // "", proc, PID, fd or task, TID, fd
	thread := len(part) == 6 && part[3] == "task"
	if len(part) != 4 && !thread || part[1] != "proc" || part[len(part)-1] != "fd" {
		return false
	}
	// /proc may be that of another PID namespace, so the own PID is the one that it shows.
	self, _ := os.Readlink("/proc/self")
	return !own || part[2] == "self" || part[2] == "thread-self" || part[2] == self
}

// openDescriptor opens the descriptor n, which path names.
func openDescriptor(n int, path string, flags int, perm fs.FileMode) (int, error) {
	return retry(path, func() (int, error) {
		switch {
		case n == Others || flags&unix.O_NOFOLLOW != 0:
			return unix.Open(path, flags|unix.O_CLOEXEC, uint32(perm.Perm()))
		case n > 2:
			return 0, unix.EBADF // it may be any file of this process
		}
		return unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 3)
	})
}
