//go:build !linux

package api

import "golang.org/x/sys/unix"

// solLocal is the level of LOCAL_PEERCRED: unix(4) of FreeBSD and macOS.
const solLocal = 0

// peer returns the process at the other end of a connection when it connected.
func peer(fd int) (p Peer, err error) {
	x, err := unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
	if err != nil {
		return p, err
	}
	p.UID = int(x.Uid)
	for _, id := range x.Groups[:min(max(int(x.Ngroups), 0), len(x.Groups))] {
		p.groups = append(p.groups, int(id))
	}
	return p, nil
}
