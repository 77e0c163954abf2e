package process

import (
	"os"
	"time"
)

// Forget ends the Waits of detached commands. It is called when the new process did not start and
// this one continues with those commands. Otherwise each Wait would keep a thread and a descriptor
// until its command exits. Forget blocks for at most a tenth of a second. A Wait that has not
// returned by then stays until another call of Forget or the exit of its command.
func Forget(all ...*Process) {
	if len(all) == 0 {
		return
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer null.Close()
	// Only the exit of a child wakes a Wait, and the Wait misses it if another goroutine reaps that
	// child at once. So Forget starts a child that exits and is not reaped until all Waits have
	// seen it: the shim, which has nothing to do.
	shim := Command{Argv: []string{"gophd", ShimCommand}, Dir: "/", Env: os.Environ()}
	child, err := fork(selfExe, shim, []*os.File{null, null, null})
	if err != nil {
		return
	}
	defer func() { _, _ = wait4(child, nil, 0, nil) }()
	timeout := time.After(all[0].spawner.forget)
	for _, p := range all {
		select {
		case <-p.waitDone:
		case <-timeout:
			return
		}
	}
}
