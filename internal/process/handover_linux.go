package process

import (
	"bytes"
	"os"
	"strconv"
)

// birth is the start of a child of this program in clock ticks since the boot (proc_pid_stat(5), field 22): 0
// when there is no such child, or no /proc.
func birth(pid int) uint64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	if p, ok := parseStat(b); !ok || p.parent != os.Getpid() {
		return 0
	}
	const starttime = 22 - 3 // the first field behind the name is number 3
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) <= starttime {
		return 0
	}
	ticks, _ := strconv.ParseUint(string(fields[starttime]), 10, 64)
	return ticks
}
