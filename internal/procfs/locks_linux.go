package procfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Lockers returns the PIDs of those who hold a lock of flock(2) on the open file, from /proc/locks
// (proc_locks(5)); none of another PID namespace. The device there is that of the file system,
// which fstat(2) hides on some (btrfs), so the inode alone decides if no line has both.
func Lockers(fd int) []int {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return nil
	}
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil
	}
	inode := fmt.Sprintf(":%d", st.Ino)
	whole := fmt.Sprintf("%02x:%02x%s", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)), inode)
	var exact, like []int
	for line := range strings.Lines(string(text)) {
		w := strings.Fields(line) // 1: FLOCK ADVISORY WRITE 4711 fe:01:131 0 EOF
		if len(w) < 6 || w[1] != "FLOCK" {
			continue
		}
		pid, err := strconv.Atoi(w[4])
		switch {
		case err != nil || pid <= 0: // of another PID namespace
		case w[5] == whole:
			exact = append(exact, pid)
		case strings.HasSuffix(w[5], inode):
			like = append(like, pid)
		}
	}
	if exact != nil {
		return exact
	}
	return like
}
