package restart

import (
	"fmt"
	"os"
	"strings"
	"time"

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

// epoch is one moment on both clocks.
var epochAt, epoch = readClocks()

// clocks reads both clocks at the same moment. Package time reads CLOCK_MONOTONIC, so the difference
// between them stays.
func clocks() (at Instant, now time.Time) {
	now = time.Now()
	return epochAt + Instant(now.Sub(epoch)), now
}

// bootID returns the kernel's id of this boot of the machine, or "" when /proc is not mounted.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
