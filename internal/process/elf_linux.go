package process

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// This file reads two things from an ELF file, see elf(5). The package debug/elf would cost 0.3 MB
// and more memory at each start.

// elfMachine returns the machine of an ELF file.
func elfMachine(head []byte) (machine uint16, isELF bool) {
	if !bytes.HasPrefix(head, []byte("\x7fELF")) {
		return 0, false
	}
	return elfOrder(head).Uint16(head[18:]), true
}

func elfOrder(head []byte) binary.ByteOrder {
	const bigEndian = 2
	if head[5] == bigEndian {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// executes reports whether this kernel may execute programs for that machine without a handler. It
// also has a 32-bit or a 64-bit machine beside that of gophd. The machines of other architectures
// are not known here.
func executes(machine uint16) bool {
	const i386, arm, amd64, arm64 = 3, 40, 62, 183
	var known []uint16
	switch runtime.GOARCH {
	case "386", "amd64":
		known = []uint16{i386, amd64}
	case "arm", "arm64":
		known = []uint16{arm, arm64}
	default:
		return true
	}
	return slices.Contains(known, machine)
}

// elfLoader returns the dynamic loader that an ELF file names, or "" if it names none or cannot be
// read.
func elfLoader(path string, head []byte) string {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	const (
		wide       = 2 // ELFCLASS64
		loaderType = 3 // PT_INTERP
		maxLoader  = 4096
		maxTable   = 64 << 10
	)
	order := elfOrder(head)
	table, size, count := int64(order.Uint32(head[28:])), int(order.Uint16(head[42:])), int(order.Uint16(head[44:]))
	minimum := 32
	if head[4] == wide {
		table, size, count = int64(order.Uint64(head[32:])), int(order.Uint16(head[54:])), int(order.Uint16(head[56:]))
		minimum = 56
	}
	if size < minimum || size*count > maxTable {
		return ""
	}
	programs := make([]byte, size*count)
	if _, err := f.ReadAt(programs, table); err != nil {
		return ""
	}
	for p := range slices.Chunk(programs, size) {
		if order.Uint32(p) != loaderType {
			continue
		}
		at, length := int64(order.Uint32(p[4:])), int64(order.Uint32(p[16:]))
		if head[4] == wide {
			at, length = int64(order.Uint64(p[8:])), int64(order.Uint64(p[32:]))
		}
		if length < 2 || length > maxLoader {
			return ""
		}
		name := make([]byte, length)
		if _, err := f.ReadAt(name, at); err != nil {
			return ""
		}
		return strings.TrimRight(string(name), "\x00")
	}
	return ""
}
