//go:build !linux

package file

import "golang.org/x/sys/unix"

// remote says that fd is not on a local disk, by the flag that statfs(2) of the BSDs has for it.
func remote(fd int) (string, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "", err
	}
	if uint64(st.Flags)&unix.MNT_LOCAL == 0 {
		return "a network file system", nil
	}
	return "", nil
}
