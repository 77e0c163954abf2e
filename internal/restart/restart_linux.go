package restart

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// openDirectory opens a directory to return to, which need not be readable.
const openDirectory = unix.O_PATH

// anonymous creates a file without a name, in memory: a full or read-only disk cannot prevent a
// restart.
func anonymous() (*os.File, error) {
	fd, err := unix.MemfdCreate("gophd-handoff", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return os.NewFile(uintptr(fd), "gophd-handoff"), nil
}

// bootID returns the kernel's id of this boot of the machine, or "" when /proc is not mounted.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
