package daemon

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// remote returns true if pages of such a file system (statfs(2)) come from a server, or from
// another program.
func remote(magic uint32) bool {
	switch magic {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.V9FS_MAGIC,
		unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC, unix.CODA_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC:
		return true
	}
	return false
}

// unmapProgram releases the pages of the program's own code and constants. Most of those that a
// start has touched, or that the kernel has mapped beside them, are not needed again. The others
// come back from the page cache when they are next used (madvise(2), MADV_DONTNEED on a file that
// is not written to). From a server they may not come back, and that would kill gophd: a program on
// such a file system keeps its pages.
func unmapProgram() {
	var fs unix.Statfs_t
	if err := unix.Statfs("/proc/self/exe", &fs); err != nil || remote(uint32(fs.Type)) {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	program, _ := os.Readlink("/proc/self/exe")
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// ADDRESS-ADDRESS PERMISSIONS OFFSET DEVICE INODE PATH; what is writable may hold what is
		// in no file.
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || strings.Contains(fields[1], "w") || !strings.HasSuffix(lines.Text(), " "+program) {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		begin, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil {
			// After an error the pages just stay.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(begin), uintptr(end-begin), unix.MADV_DONTNEED)
		}
	}
}
