package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

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
}

// refused is what the shim answers when it cannot do it.
type refused struct {
	Text  string
	Errno int
}

// Permitted says whether commands can be started in that world, as far as it can be told beforehand: to
// become another user, gophd has to be root, or to have CAP_SETUID and CAP_SETGID.
func Permitted(w *world.World) error {
	if w == nil || w.User == nil || isOneself(w.User) || canSwitch() {
		return nil
	}
	return errors.New(notOther(w.User))
}

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
func (s *Spawner) enter(c Command, files []*os.File) (int, error) {
	request, err := json.Marshal(plan{Argv: asBytes(c.Argv), Env: asBytes(c.Env), Dir: []byte(c.Dir), World: *c.World})
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
		return 0, &startError{c.Argv[0], "gophd's own program is not at " + image + ": mount /proc", err.(syscall.Errno)}
	}
	if err != nil {
		return 0, err
	}
	// A shim that has died reads nothing and answers nothing, which is found below.
	_, _ = ours.Write(request)
	_ = unix.Shutdown(pair[0], unix.SHUT_WR)
	reply, err := io.ReadAll(ours)
	rest, ready := bytes.CutPrefix(reply, []byte(execing))
	if err == nil && ready && len(rest) == 0 {
		return pid, nil
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	var status syscall.WaitStatus
	_, _ = wait4(pid, &status, 0, nil)
	var why refused
	if json.Unmarshal(rest, &why) != nil {
		end := fmt.Sprintf("exit %d", status.ExitStatus())
		if status.Signaled() {
			end = "signal " + job.SignalName(status.Signal())
		}
		return 0, &startError{c.Argv[0], "what prepares its world ended early (" + end + "): look for a shortage of memory", 0}
	}
	return 0, &startError{c.Argv[0], why.Text, syscall.Errno(why.Errno)}
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
	// Limits that are meant for the command hold for the shim's last steps too: it must not need more by then.
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
	fault := c.become(conn)
	reply, err := json.Marshal(refused{fault.text, int(fault.errno)})
	if err == nil {
		_, err = conn.Write(reply)
	}
	return err
}

// become turns this process into the command; it returns when it cannot. What needs root comes first, then
// the user, and only as that user it is seen what the folder and the file are to it.
func (c Command) become(conn *os.File) *startError {
	if text, err := assume(c.World); err != nil {
		return &startError{c.Argv[0], text, errno(err)}
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
	openMask()
	if _, err := conn.WriteString(execing); err != nil {
		return &startError{c.Argv[0], "gophd went away", errno(err)}
	}
	return c.explain(syscall.Exec(path, c.Argv, c.Env))
}

// assume changes this process, and says in words what cannot be changed.
func assume(w *world.World) (text string, err error) {
	for _, r := range w.Rlimits {
		// Not by x/sys: the syscall package must know that its own wish for nofile no longer counts.
		if err := syscall.Setrlimit(r.Resource, &syscall.Rlimit{Cur: r.Soft, Max: r.Hard}); err != nil {
			if err == syscall.EPERM {
				return "the limit " + r.String() + " is above what gophd has itself, and only root can raise it: ask for less" + hardLimit(r), err
			}
			return "the limit " + r.String() + " cannot be set (" + err.Error() + "): ask for less", err
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

func hardLimit(r world.Rlimit) string {
	var now syscall.Rlimit
	if syscall.Getrlimit(r.Resource, &now) != nil {
		return ""
	}
	now.Cur = now.Max
	return " (" + world.Rlimit{Name: r.Name, Soft: now.Cur, Hard: now.Max}.String() + ")"
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
