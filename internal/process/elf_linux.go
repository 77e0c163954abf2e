package process

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// This file reads from an ELF file what the kernel reads before it executes it, see elf(5). The
// package debug/elf would cost 0.3 MB and more memory at each start.

const elfMagic = "\x7fELF"

// readELF returns the machine of an ELF file and the dynamic loader that it names, or "" if it names
// none. damage says with the fix why it seems to be no program; the kernel may differ.
func readELF(path string, head []byte) (machine uint16, loader, damage string) {
	const (
		object = "is an object file and no program: link it, or name a program"
		cut    = "is cut off or damaged: copy it again"

		wide             = 2 // ELFCLASS64
		bigEndian        = 2 // ELFDATA2MSB
		executable, pie  = 2, 3
		loadable, interp = 1, 3 // PT_LOAD, PT_INTERP
		maxLoader        = 4096
		maxTable         = 64 << 10
	)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, "", ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, "", ""
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[5] == bigEndian {
		order = binary.BigEndian
	}
	header, entry := int64(52), 32
	table, size, count := int64(order.Uint32(head[28:])), int(order.Uint16(head[42:])), int(order.Uint16(head[44:]))
	if head[4] == wide {
		header, entry = 64, 56
		table, size, count = int64(order.Uint64(head[32:])), int(order.Uint16(head[54:])), int(order.Uint16(head[56:]))
	}
	machine = order.Uint16(head[18:])
	switch kind := order.Uint16(head[16:]); {
	case !bytes.HasPrefix(head, []byte(elfMagic)) || info.Size() < header:
		return machine, "", cut
	case kind != executable && kind != pie:
		return machine, "", object
	case size != entry || count == 0 || size*count > maxTable:
		return machine, "", cut
	}
	programs := make([]byte, size*count)
	if _, err := f.ReadAt(programs, table); err != nil {
		return machine, "", cut
	}
	for p := range slices.Chunk(programs, size) {
		at, length := int64(order.Uint32(p[4:])), int64(order.Uint32(p[16:]))
		if head[4] == wide {
			at, length = int64(order.Uint64(p[8:])), int64(order.Uint64(p[32:]))
		}
		kind := order.Uint32(p)
		if (kind == loadable || kind == interp) && (at < 0 || length < 0 || length > info.Size()-at) {
			damage = cut
			continue
		}
		if kind != interp || loader != "" {
			continue
		}
		if length < 2 || length > maxLoader {
			damage = cut
			continue
		}
		name := make([]byte, length)
		if _, err := f.ReadAt(name, at); err != nil || name[length-1] != 0 {
			damage = cut
			continue
		}
		if loader, _, _ = strings.Cut(string(name), "\x00"); loader == "" {
			loader = "." // as the kernel opens an empty name
		}
	}
	return machine, loader, damage
}

// ownMachine returns the machine of gophd's own program.
var ownMachine = sync.OnceValue(func() uint16 {
	head, err := readHead(selfExe)
	if err != nil {
		return 0 // so that the kernel decides about each program
	}
	machine, _, _ := readELF(selfExe, head)
	return machine
})

// machineName returns the name of an ELF machine as uname(1) writes it.
func machineName(machine uint16) string {
	name := map[uint16]string{3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64",
		183: "aarch64", 243: "riscv", 258: "loongarch64"}[machine]
	if name == "" {
		return "number " + strconv.Itoa(int(machine)) + " of elf(5)"
	}
	return name
}

// hostMachine returns the name of the machine of this host.
func hostMachine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return runtime.GOARCH
	}
	return unix.ByteSliceToString(u.Machine[:])
}
