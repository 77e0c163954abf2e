package config

import "golang.org/x/sys/unix"

// isSessionTerminal reports whether the file at path is the terminal of a session, which a daemon
// leaves: /dev/tty, or a pseudo-terminal. Any other terminal, such as /dev/tty12 or a serial line,
// is a device like others. It opens nothing.
func isSessionTerminal(path string) bool {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return false
	}
	// The numbers are those of the kernel's admin-guide/devices.txt.
	major, minor := unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	return major == 5 && minor == 0 || major >= 136 && major <= 143
}
