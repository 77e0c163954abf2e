package supervisor

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unmapProgram lets go of the pages of the program's own code and constants: most of those that a start has
// touched, or the kernel has mapped beside them, are not needed again. Those that are come back from the page
// cache when they are next used (madvise(2), MADV_DONTNEED on a file that is not written to).
func unmapProgram() {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	program, _ := os.Readlink("/proc/self/exe")
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// ADDRESS-ADDRESS PERMISSIONS OFFSET DEVICE INODE PATH; what is writable may hold what is in no file.
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || strings.Contains(fields[1], "w") || !strings.HasSuffix(lines.Text(), " "+program) {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		begin, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(begin), uintptr(end-begin), unix.MADV_DONTNEED) // or it stays as it is
		}
	}
}
