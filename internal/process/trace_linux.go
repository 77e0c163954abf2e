package process

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// tracedName is the argument 0 of a process that traceFile starts.
const tracedName = "gophd-check"

// traceFile is trace for a program whose arguments do not matter.
func traceFile(path, dir string) (argv []string, code syscall.Errno, known bool) {
	return trace(path, Command{Argv: []string{tracedName}, Dir: dir})
}

// trace has the kernel load the program at path in a new process, with the directory, arguments and
// environment of c, and kills that process before its first instruction: the process is stopped at
// the end of execve(2), see ptrace(2). It
// returns the errno of execve, or 0 and the arguments that the program would have, as far as the
// system shows them. So it finds the handlers of the kernel (binfmt_misc) as they are, also in a
// container, where they are not visible.
//
// known is false if the answer may not be that of a start: the process may not be traced here, it
// may not have this program while it is traced, or the system is short of resources. trace blocks
// until the process is gone. If gophd is killed meanwhile, so is the process.
func trace(path string, c Command) (argv []string, code syscall.Errno, known bool) {
	runtime.LockOSThread() // the process belongs to the thread that traces it
	defer runtime.UnlockOSThread()
	pid, err := forkAttr(path, c, nil,
		&syscall.SysProcAttr{Ptrace: true, Setpgid: true, Pdeathsig: syscall.SIGKILL})
	if err != nil {
		switch code := errno(err); code {
		case 0, syscall.EPERM, syscall.ENOSYS, syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE,
			syscall.ETXTBSY:
			return nil, code, false
		default:
			return nil, code, true
		}
	}
	var status syscall.WaitStatus
	_, err = wait4(pid, &status, 0, nil)
	switch {
	case err != nil:
		return nil, errno(err), false
	case status.Stopped() && status.StopSignal() == syscall.SIGTRAP:
		text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline") // hidden by some systems
		argv, known = strings.Split(string(text), "\x00"), true
	case status.Stopped() && status.StopSignal() == syscall.SIGSEGV, status.Signaled() && status.Signal() == syscall.SIGSEGV:
		// The kernel found the fault when the old program was gone already.
		code, known = syscall.ENOEXEC, true
	}
	for !status.Exited() && !status.Signaled() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		if _, err := wait4(pid, &status, 0, nil); err != nil {
			break
		}
	}
	return argv, code, known
}

// byInterpreter reports whether a program with these arguments, which traceFile returned, reads the file
// as the interpreter of a script. A handler of the kernel may get the file open. It keeps argument
// 0, or it is a program that does not exist in a container.
func byInterpreter(argv []string, dir string) bool {
	return len(argv) > 0 && !slices.Contains(argv, tracedName) && executable(under(dir, argv[0])) == nil
}
