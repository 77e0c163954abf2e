package procfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Lockers returns the PIDs of the processes that hold a flock(2) lock on the open file, from
// /proc/locks (proc_locks(5)). Processes of another PID namespace are missing.
//
// A line of /proc/locks has the device of the file system, and on some (btrfs) fstat(2) returns
// another one. So if no line has both the device and the inode, the inode alone decides.
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
	deviceAndInode := fmt.Sprintf("%02x:%02x%s", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)), inode)
	var exact, byInode []int
	for line := range strings.Lines(string(text)) {
		w := strings.Fields(line) // 1: FLOCK ADVISORY WRITE 4711 fe:01:131 0 EOF
		if len(w) < 6 || w[1] != "FLOCK" {
			continue
		}
		pid, err := strconv.Atoi(w[4])
		switch {
		case err != nil || pid <= 0: // of another PID namespace
		case w[5] == deviceAndInode:
			exact = append(exact, pid)
		case strings.HasSuffix(w[5], inode):
			byInode = append(byInode, pid)
		}
	}
	if exact != nil {
		return exact
	}
	return byInode
}
