package main_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// A machine's wall clock cannot be stepped for one process: time namespaces leave CLOCK_REALTIME alone, and
// Go asks the vDSO. So gophd-wall is built with a package time of its own, whose Now adds to the wall part of
// what it returns the number of seconds that the file $WALL_CLOCK holds. All else is the real program.

// steppedTime is added to package time. The file is mapped, since Now is also called where no goroutine is and
// nothing may block.
const steppedTime = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var wallStep *int64

func init() {
	name, _ := syscall.Getenv("WALL_CLOCK")
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic("no WALL_CLOCK: " + err.Error())
	}
	page, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("cannot map WALL_CLOCK: " + err.Error())
	}
	syscall.Close(fd)
	wallStep = (*int64)(unsafe.Pointer(&page[0]))
}

func steppedBy() int64 {
	if wallStep == nil {
		return 0
	}
	return atomic.LoadInt64(wallStep)
}
`

// stepWallClock writes an overlay for go build that has it into dir, and returns its name.
func stepWallClock(dir string) (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	home := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	source, err := os.ReadFile(filepath.Join(home, "time.go"))
	if err != nil {
		return "", err
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), now) != 1 {
		return "", fmt.Errorf("time.Now of this Go is not as it was: mend steppedTime in wall_test.go")
	}
	stepped := strings.Replace(string(source), now, now+"\tsec += steppedBy()\n", 1)
	replace := map[string]string{}
	for name, text := range map[string]string{"time.go": stepped, "stepped.go": steppedTime} {
		file := filepath.Join(dir, name+".overlay")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(home, name)] = file
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, text, 0o600)
}

// wallClock steps the wall clock of every gophd-wall of the script, those that run included: "wallclock -86400"
// sets it so many seconds beside the machine's. It must stand before the first of them is started.
func wallClock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: wallclock seconds")
	}
	seconds, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	name := ts.MkAbs("wall-clock")
	ts.Setenv("WALL_CLOCK", name)
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	ts.Check(err)
	_, err = file.Write(binary.NativeEndian.AppendUint64(nil, uint64(seconds)))
	ts.Check(err)
	ts.Check(file.Close())
}
