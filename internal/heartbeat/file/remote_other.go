//go:build !linux

package file

import "golang.org/x/sys/unix"

// remote returns a description of fd's file system if it is not on a local disk, and "" otherwise.
// It uses the flag MNT_LOCAL of statfs(2) on the BSDs.
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
