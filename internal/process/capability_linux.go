package process

import (
	"encoding/binary"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// capabilityNames are the names of capabilities(7) in the order of their numbers, without cap_.
var capabilityNames = strings.Fields("chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap " +
	"linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio " +
	"sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease " +
	"audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf " +
	"checkpoint_restore")

// capabilityError returns why execve(2) returns EPERM for a program with file capabilities, with the
// fix; "" if it does not: by the rules of bprm_caps_from_vfs_caps in security/commoncap.c. If the
// file has the effective bit, each of its permitted capabilities must be allowed, also for root.
func capabilityError(path string) string {
	const (
		attribute     = "security.capability"
		effective     = 1 // flag in the first word
		size          = 20
		revision, two = 0xff000000, 0x02000000
	)
	var b [2 * size]byte
	n, err := unix.Getxattr(path, attribute, b[:])
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	// The kernel shows revision 2 if the attribute counts in this user namespace, see cap_inode_getsecurity.
	if err != nil || n != size || word(0)&revision != two || word(0)&effective == 0 {
		return ""
	}
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_NOSUID != 0 {
		return "" // the kernel ignores the attribute
	}
	var own [2]unix.CapUserData // version 3 has two
	_ = unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &own[0])
	var missing []string
	for i := range 64 {
		half, bit := i/32, uint32(1)<<(i%32)
		permitted, inheritable := word(1+2*half)&bit != 0, word(2+2*half)&bit != 0
		if !permitted || inheritable && own[half].Inheritable&bit != 0 {
			continue
		}
		if in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(i), 0, 0, 0); err == nil && in == 0 {
			missing = append(missing, capabilityName(i))
		}
	}
	if missing == nil {
		return ""
	}
	return fmt.Sprintf("%s has the file capability %s, which is not in gophd's bounding set: allow it "+
		"(CapabilityBoundingSet= of a unit, cap_add of a container), or remove it from the file (setcap -r)",
		quote(path), strings.Join(missing, ", "))
}

func capabilityName(i int) string {
	if i < len(capabilityNames) {
		return "cap_" + capabilityNames[i]
	}
	return fmt.Sprintf("number %d of capabilities(7)", i)
}

// capabilityFlaw is capabilityError as a flaw.
func capabilityFlaw(path string) flaw {
	if text := capabilityError(path); text != "" {
		return flaw{text: text, code: syscall.EPERM}
	}
	return flaw{}
}
