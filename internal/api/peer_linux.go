package api

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer returns the process at the other end of a connection when it connected (SO_PEERCRED and
// SO_PEERGROUPS in socket(7)).
func peer(fd int) (p Peer, err error) {
	u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return p, err
	}
	return Peer{UID: int(u.Uid), PID: int(u.Pid), groups: append(peerGroups(fd), int(u.Gid))}, nil
}

// maxGroups is the number of supplementary groups that a process may have (NGROUPS_MAX).
const maxGroups = 65536

func peerGroups(fd int) (all []int) {
	for n := 64; n <= maxGroups; n *= 32 {
		ids, size := make([]uint32, n), uint32(4*n)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&ids[0])), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 {
			for _, id := range ids[:size/4] {
				all = append(all, int(id))
			}
			return all
		}
		if errno != unix.ERANGE {
			return nil // a kernel before 4.13
		}
	}
	return nil
}
