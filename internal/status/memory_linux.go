package status

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
)

// memoryNow reads VmRSS and VmHWM (proc_pid_status(5)).
func memoryNow() (m Memory) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return m
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) != 3 {
			continue
		}
		kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			continue
		}
		switch string(fields[0]) {
		case "VmRSS:":
			m.Now = kib << 10
		case "VmHWM:":
			m.Peak = kib << 10
		}
	}
	return m
}
