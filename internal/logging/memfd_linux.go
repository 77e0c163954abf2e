package logging

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// passFile passes an entry to the journal in a sealed memory file. The journal accepts only a file
// that cannot be changed (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
func passFile(c *net.UnixConn, entry []byte) error {
	fd, err := unix.MemfdCreate("gophd-log", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "gophd-log")
	defer f.Close()
	if _, err := f.Write(entry); err != nil {
		return err
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	// Package net sends a descriptor only on a socket that is not connected.
	var failed error
	err = raw.Write(func(to uintptr) bool {
		failed = unix.Sendmsg(int(to), nil, unix.UnixRights(int(f.Fd())), nil, 0)
		return failed != unix.EAGAIN
	})
	return errors.Join(err, failed)
}
