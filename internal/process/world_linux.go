package process

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"gophd/internal/job"
	"gophd/internal/world"
)

const (
	// image is the program that runs, whatever has its name by now: shim and parent are always of one version.
	image = "/proc/self/exe"

	shimFD  = 3
	execing = "exec\n" // all is as asked for, and execve(2) is next
)

// plan is what the shim is asked for. The words of a command are bytes, which JSON's strings are not.
type plan struct {
	Argv, Env [][]byte
	Dir       []byte
	World     world.World
	Cgroup    string // the folder of the run's control group, or ""
}

// refused is what the shim answers when it cannot do it.
type refused struct {
	Text  string
	Errno int
	World bool // see startError
}

// Permitted says whether commands can be started in that world, as far as it can be told beforehand: to
// become another user, gophd has to be root, or to have CAP_SETUID and CAP_SETGID; the lack of that is fs.ErrPermission.
func Permitted(w *world.World) error {
	if w == nil || w.User == nil || isOneself(w.User) || canSwitch() {
		return nil
	}
	return rightError(notOther(w.User))
}

// rightError is the lack of a right, which another user may have.
type rightError string

func (e rightError) Error() string { return string(e) }
func (rightError) Unwrap() error   { return fs.ErrPermission }

func notOther(u *world.User) string {
	return fmt.Sprintf("only root can run a command as %s (uid %d, gid %d): run gophd as root, or leave the user out", quote(u.Name), u.UID, u.GID)
}

func isOneself(u *world.User) bool {
	return os.Getuid() == u.UID && os.Geteuid() == u.UID && os.Getgid() == u.GID && os.Getegid() == u.GID
}

func canSwitch() bool {
	var caps [2]unix.CapUserData // version 3 has two
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0])
	const both = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	return err == nil && caps[0].Effective&both == both
}

// enter starts the shim in place of the command, and returns when it has become the command.
func (s *Spawner) enter(c Command, files []*os.File, group *leaf) (int, error) {
	request, err := json.Marshal(plan{Argv: asBytes(c.Argv), Env: asBytes(c.Env), Dir: []byte(c.Dir), World: *c.World, Cgroup: group.String()})
	if err != nil {
		return 0, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	ours, its := os.NewFile(uintptr(pair[0]), "shim"), os.NewFile(uintptr(pair[1]), "shim")
	defer ours.Close()
	pid, err := fork(image, Command{Argv: []string{"gophd", ShimCommand}, Dir: "/"}, append(files, its))
	_ = its.Close()
	if err == syscall.ENOENT || err == syscall.EACCES {
		return 0, &startError{c.Argv[0], "gophd's own program is not at " + image + ": mount /proc", err.(syscall.Errno), true}
	}
	if err != nil {
		return 0, err
	}
	// A shim that has died reads nothing and answers nothing, which is found below.
	_, _ = ours.Write(request)
	_ = unix.Shutdown(pair[0], unix.SHUT_WR)
	reply, err := io.ReadAll(ours)
	var failed syscall.Errno // of the last step
	rest, ready := bytes.CutPrefix(reply, []byte(execing))
	if err == nil && ready {
		if len(rest) == 0 {
			return pid, nil
		}
		failed, rest = syscall.Errno(rest[0]), rest[1:]
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	var status syscall.WaitStatus
	_, _ = wait4(pid, &status, 0, nil)
	var why refused
	switch {
	case json.Unmarshal(rest, &why) == nil:
	case failed != 0:
		return 0, failed // it had no room left for words
	default:
		end := fmt.Sprintf("exit %d", status.ExitStatus())
		if status.Signaled() {
			end = "signal " + job.SignalName(status.Signal())
		}
		return 0, &startError{c.Argv[0], "what prepares its world ended early (" + end + "): look for a shortage of memory", 0, true}
	}
	return 0, &startError{c.Argv[0], why.Text, syscall.Errno(why.Errno), why.World}
}

// Shim is the hidden command of the program that Start executes with ShimCommand as its only argument. It
// changes its own world to the one asked for, and becomes the command. When it returns, it has not:
// with nil Start has been told why and the caller only has to exit, with an error nobody was listening.
func Shim() error {
	if kind, err := unix.GetsockoptInt(shimFD, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
		return fmt.Errorf("%s is for gophd itself, when it starts a command", ShimCommand)
	}
	unix.CloseOnExec(shimFD)
	// The niceness is the thread's, and must be that of the thread that becomes the command.
	runtime.LockOSThread()
	// Nothing in the background may want memory or a thread at the last step, see exec.
	debug.SetGCPercent(-1)
	conn := os.NewFile(shimFD, "parent")
	request, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	var p plan
	if err := json.Unmarshal(request, &p); err != nil {
		return err
	}
	c := Command{Argv: asStrings(p.Argv), Env: asStrings(p.Env), Dir: string(p.Dir), World: &p.World}
	fault := c.become(conn, p.Cgroup)
	reply, err := json.Marshal(refused{fault.text, int(fault.errno), fault.world})
	if err == nil {
		_, err = conn.Write(reply)
	}
	return err
}

// become turns this process into the command; it returns when it cannot. What needs root comes first, then
// the user, and only as that user it is seen what the folder and the file are to it.
func (c Command) become(conn *os.File, cgroup string) *startError {
	var members *os.File
	if cgroup != "" {
		var err error
		if members, err = os.OpenFile(cgroup+"/cgroup.procs", os.O_WRONLY, 0); err != nil {
			return &startError{c.Argv[0], "its control group cannot be entered (" + err.Error() + ")", errno(err), true}
		}
	}
	if text, err := assume(c.World); err != nil {
		return &startError{c.Argv[0], text, errno(err), true}
	}
	if c.Dir != "" {
		if err := syscall.Chdir(c.Dir); err != nil {
			return c.explain(err)
		}
	}
	path := c.Argv[0]
	if !strings.Contains(path, "/") {
		found, err := Look(path, c.Dir, c.Env)
		if err != nil {
			return c.explain(err)
		}
		path = found
	}
	if members != nil {
		// Last, so that its limits hold for the command alone, and by the right that opened the file.
		if _, err := members.WriteString("0"); err != nil {
			return &startError{c.Argv[0], "its control group cannot be entered (" + err.Error() + ")", errno(err), true}
		}
	}
	openMask()
	code, err := c.exec(path, conn)
	if err != nil {
		return &startError{c.Argv[0], "gophd went away (" + err.Error() + ")", errno(err), true}
	}
	return c.explain(code)
}

// exec sets the limits and becomes the command. Once they hold, a Go program may die of them at any step that
// wants memory or a thread, so from the first limit to execve(2) there are bare system calls and nothing
// else. When that fails, the errno is told in one byte before anybody looks for words.
func (c Command) exec(path string, conn *os.File) (code syscall.Errno, err error) {
	name, err := syscall.BytePtrFromString(path)
	if err != nil {
		return syscall.EINVAL, nil
	}
	argv, err := syscall.SlicePtrFromStrings(c.Argv)
	if err != nil {
		return syscall.EINVAL, nil
	}
	env, err := syscall.SlicePtrFromStrings(c.Env)
	if err != nil {
		return syscall.EINVAL, nil
	}
	limits := make([]unix.Rlimit, len(c.World.Rlimits))
	for i, r := range c.World.Rlimits {
		limits[i] = unix.Rlimit{Cur: r.Soft, Max: r.Hard}
	}
	// The runtime has raised the soft limit of nofile, and only this function knows what it was. It puts that
	// back before it fails.
	_ = syscall.Exec("", nil, nil)
	if _, err := conn.WriteString(execing); err != nil {
		return 0, err
	}
	for i, r := range c.World.Rlimits {
		if _, _, code = syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, uintptr(r.Resource), uintptr(unsafe.Pointer(&limits[i])), 0, 0, 0); code != 0 {
			break
		}
	}
	if code == 0 {
		_, _, code = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
	}
	told := [1]byte{byte(code)}
	_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, shimFD, uintptr(unsafe.Pointer(&told[0])), 1)
	return code, nil
}

// assume changes this process, and says in words what cannot be changed.
func assume(w *world.World) (text string, err error) {
	for _, r := range w.Rlimits {
		if text, err := allowRlimit(r); err != nil {
			return text, err
		}
	}
	if w.Nice != nil {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, *w.Nice); err != nil {
			return fmt.Sprintf("the niceness %d is below gophd's own, and only root can lower it (%v): ask for more", *w.Nice, err), err
		}
	}
	if w.Umask != nil {
		syscall.Umask(*w.Umask)
	}
	if w.User != nil {
		return become(w.User)
	}
	return "", nil
}

// allowRlimit raises the hard limit if it has to be raised, which only root can do. The limit itself is set
// last of all, so that it holds for the command and not for the shim.
func allowRlimit(r world.Rlimit) (text string, err error) {
	var now syscall.Rlimit
	if err := syscall.Getrlimit(r.Resource, &now); err != nil {
		return "the limit " + r.String() + " is not known to this kernel: leave it out", err
	}
	switch {
	case r.Soft > r.Hard:
		return "the limit " + r.String() + " has its soft part above the hard one: swap them", syscall.EINVAL
	case r.Hard <= now.Max:
		return "", nil
	}
	if err := syscall.Setrlimit(r.Resource, &syscall.Rlimit{Cur: now.Cur, Max: r.Hard}); err != nil {
		max := world.Rlimit{Name: r.Name, Soft: now.Max, Hard: now.Max}
		return "the limit " + r.String() + " is above what gophd may have (" + max.String() + "), and only root can raise that: ask for less", err
	}
	return "", nil
}

// become makes this process the user's: groups, gid, uid, in that order, since each needs the right that the
// next one gives away. Then it looks whether that is so.
func become(u *world.User) (text string, err error) {
	if !canSwitch() {
		if isOneself(u) {
			return "", nil
		}
		return notOther(u), syscall.EPERM
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"the groups of user " + quote(u.Name), func() error { return syscall.Setgroups(u.Groups) }},
		{fmt.Sprintf("the group %d", u.GID), func() error { return syscall.Setgid(u.GID) }},
		{fmt.Sprintf("the user %s (%d)", quote(u.Name), u.UID), func() error { return syscall.Setuid(u.UID) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Sprintf("it cannot get %s (%v): look whether gophd's container or user namespace has that id", step.what, err), err
		}
	}
	groups, err := syscall.Getgroups()
	if err != nil || !isOneself(u) || !sameSet(groups, u.Groups) {
		return "it is still not user " + quote(u.Name) + " after becoming it: run gophd as plain root", syscall.EPERM
	}
	return "", nil
}

func sameSet(a, b []int) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

func asBytes(s []string) [][]byte {
	b := make([][]byte, len(s))
	for i := range s {
		b[i] = []byte(s[i])
	}
	return b
}

func asStrings(b [][]byte) []string {
	s := make([]string, len(b))
	for i := range b {
		s[i] = string(b[i])
	}
	return s
}
