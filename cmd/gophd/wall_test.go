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

// The wall clock cannot be stepped for one process: time namespaces do not change CLOCK_REALTIME,
// and Go reads the clock from the vDSO. So gophd-wall is built with a modified package time. Its
// Now adds the number of seconds in the file $WALL_CLOCK to the wall clock reading. The rest is the
// real program.

// steppedTime is added to package time. The file is mapped into memory, because Now is also called
// where there is no goroutine and nothing may block.
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

// stepWallClock writes an overlay for go build with the modified package into dir, and returns its
// name.
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
		return "", fmt.Errorf("time.Now of this Go version has changed: update steppedTime in wall_test.go")
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

// wallClock steps the wall clock of every gophd-wall of the script, also of running ones:
// "wallclock -86400" sets the offset from the machine's clock in seconds. It must be called before
// the first of them is started.
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
