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

	"gophd/internal/credentials"
	"gophd/internal/job"
)

const (
	// selfExe is the program that is running, even if another file has its name by now. So the shim
	// and its parent are always of the same version.
	selfExe = "/proc/self/exe"

	shimFD      = 3
	aboutToExec = "exec\n" // everything is set, and execve(2) is next
)

// shimRequest is what the shim has to do.
type shimRequest struct {
	Commands    []shimCommand // the one to execute, or those to check
	Credentials credentials.Credentials
	Cgroup      string // the directory of the run's control group, or ""
	Check       bool   // do not execute the command: see Check
}

// shimCommand is a Command. Its arguments are bytes, which JSON's strings are not.
type shimCommand struct {
	Argv, Env [][]byte
	Dir       []byte
}

// shimReply is the reply of the shim for each command that it does not execute.
type shimReply struct {
	Path  []byte // the result of Check; empty after an error
	Text  string
	Errno int
	World bool // the error is about the exec environment, see startError.setup
}

// Permitted reports whether commands can be started with these credentials, as far as it can be
// determined beforehand. To switch to another user, gophd has to be root or have CAP_SETUID and
// CAP_SETGID; otherwise the error is fs.ErrPermission.
func Permitted(c *credentials.Credentials) error {
	if c == nil || c.User == nil || isCurrentUser(c.User) || canSwitch() {
		return nil
	}
	return permissionError(needsRoot(c.User))
}

// permissionError is the lack of a permission, which gophd may have as another user.
type permissionError string

func (e permissionError) Error() string { return string(e) }
func (permissionError) Unwrap() error   { return fs.ErrPermission }

func needsRoot(u *credentials.User) string {
	if os.Geteuid() == 0 {
		return fmt.Sprintf("gophd lacks the capabilities CAP_SETUID and CAP_SETGID, so it cannot run a command as %s "+
			"(uid %d, gid %d): give them to it, or leave the user out", quote(u.Name), u.UID, u.GID)
	}
	return fmt.Sprintf("only root can run a command as %s (uid %d, gid %d): run gophd as root, or leave the user out",
		quote(u.Name), u.UID, u.GID)
}

func isCurrentUser(u *credentials.User) bool {
	return os.Getuid() == u.UID && os.Geteuid() == u.UID && os.Getgid() == u.GID && os.Getegid() == u.GID
}

func canSwitch() bool { return hasCapabilities(1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID) }

func hasCapabilities(all uint32) bool {
	var caps [2]unix.CapUserData // version 3 has two
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0])
	return err == nil && caps[0].Effective&all == all
}

// MayGive returns an error, fs.ErrPermission, if the pipes of a command with these credentials
// cannot belong to its user. The command can write to them all the same, but cannot open
// /dev/stdout or /dev/stderr.
func MayGive(c *credentials.Credentials) error {
	if c == nil || c.User == nil || isCurrentUser(c.User) || hasCapabilities(1<<unix.CAP_CHOWN) {
		return nil
	}
	return permissionError(fmt.Sprintf("the command cannot open /dev/stdout or /dev/stderr: gophd may not give "+
		"its pipes to user %s; give gophd the capability CAP_CHOWN", quote(c.User.Name)))
}

// startShim starts the shim, and returns when the shim has executed the command.
func (s *Spawner) startShim(c Command, files []*os.File, group *leaf) (int, error) {
	pid, replies, err := runShim([]Command{c}, files, group, false)
	if err == nil && replies != nil {
		_, err = replies[0].result(c)
	}
	return pid, err
}

// checkByShim is Check for commands that all have the same Credentials.
func checkByShim(all []Command) []Checked {
	checked := make([]Checked, len(all))
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err == nil {
		defer null.Close()
	}
	var replies []shimReply
	if err == nil {
		_, replies, err = runShim(all, []*os.File{null, null, null}, nil, true)
	}
	for i, c := range all {
		at := &checked[i]
		if at.Err = err; err == nil {
			at.Path, at.Err = replies[i].result(c)
		}
		if at.Err != nil {
			explained := *c.explain(at.Err)
			explained.argv0 = c.Argv[0] // the error may be about all of them
			at.Err = &explained
		}
	}
	return checked
}

// result returns what the reply says about c.
func (r shimReply) result(c Command) (path string, err error) {
	if len(r.Path) > 0 {
		return string(r.Path), nil
	}
	return "", &startError{c.Argv[0], r.Text, syscall.Errno(r.Errno), r.World}
}

// runShim starts the shim for commands with the same Credentials. It returns its PID when the shim has
// executed the only command. Otherwise the shim has exited, and has a reply for each: with check, or
// why it cannot execute the command.
func runShim(all []Command, files []*os.File, group *leaf, check bool) (pid int, replies []shimReply, err error) {
	request := shimRequest{Credentials: *all[0].Credentials, Cgroup: group.String(), Check: check}
	for _, c := range all {
		request.Commands = append(request.Commands, shimCommand{asBytes(c.Argv), asBytes(c.Env), []byte(c.Dir)})
	}
	text, err := json.Marshal(request)
	if err != nil {
		return 0, nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	ours, shimEnd := os.NewFile(uintptr(pair[0]), "shim"), os.NewFile(uintptr(pair[1]), "shim")
	defer ours.Close()
	pid, err = fork(selfExe, Command{Argv: []string{"gophd", ShimCommand}, Dir: "/"}, append(files, shimEnd))
	_ = shimEnd.Close()
	if err == syscall.ENOENT || err == syscall.EACCES {
		text := "gophd's own program is not at " + selfExe + ": mount /proc"
		return 0, nil, &startError{all[0].Argv[0], text, err.(syscall.Errno), true}
	}
	if err != nil {
		return 0, nil, err
	}
	// A shim that died reads and replies nothing, which is found below.
	_, _ = ours.Write(text)
	_ = unix.Shutdown(pair[0], unix.SHUT_WR)
	answer, err := io.ReadAll(ours)
	var failed syscall.Errno // of the last step
	rest, ready := bytes.CutPrefix(answer, []byte(aboutToExec))
	if err == nil && ready {
		if len(rest) == 0 {
			return pid, nil, nil
		}
		failed, rest = syscall.Errno(rest[0]), rest[1:]
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	var status syscall.WaitStatus
	_, _ = wait4(pid, &status, 0, nil)
	switch {
	case json.Unmarshal(rest, &replies) == nil && len(replies) == len(all):
		return 0, replies, nil
	case failed != 0:
		return 0, nil, failed // the shim was short of resources for a text
	}
	outcome := fmt.Sprintf("exit code %d", status.ExitStatus())
	if status.Signaled() {
		outcome = "signal " + job.SignalName(status.Signal())
	}
	early := "the process that sets up its user and limits exited early (" + outcome + "): check the free memory"
	return 0, nil, &startError{all[0].Argv[0], early, 0, true}
}

// Shim is the hidden command of the program that Start executes with ShimCommand as its only
// argument. It applies the credentials to its own process and executes the command. If it returns,
// it has failed: with nil, Start has the error and the caller only has to exit; with an error,
// nothing read the reply.
func Shim() error {
	if kind, err := unix.GetsockoptInt(shimFD, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
		return fmt.Errorf("%s is for gophd itself, when it starts a command", ShimCommand)
	}
	unix.CloseOnExec(shimFD)
	// The niceness belongs to the thread, and must be that of the thread that executes the command.
	runtime.LockOSThread()
	// Nothing in the background may need memory or a thread at the last step, see exec.
	debug.SetGCPercent(-1)
	conn := os.NewFile(shimFD, "parent")
	request, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	var p shimRequest
	if err := json.Unmarshal(request, &p); err != nil {
		return err
	}
	var text string
	if p.Check {
		text, err = applyCredentials(&p.Credentials)
	}
	var replies []shimReply
	for _, command := range p.Commands {
		c := Command{Argv: asStrings(command.Argv), Env: asStrings(command.Env), Dir: string(command.Dir),
			Credentials: &p.Credentials}
		var path string
		var fault *startError
		switch {
		case !p.Check:
			fault = c.setUpAndExec(conn, p.Cgroup)
		case err != nil:
			fault = &startError{c.Argv[0], text, errno(err), true}
		default:
			path, fault = c.lookExplained()
		}
		reply := shimReply{Path: []byte(path)}
		if fault != nil {
			reply.Text, reply.Errno, reply.World = fault.text, int(fault.errno), fault.setup
		}
		replies = append(replies, reply)
	}
	answer, err := json.Marshal(replies)
	if err == nil {
		_, err = conn.Write(answer)
	}
	return err
}

// lookExplained is Check in a process with the credentials.
func (c Command) lookExplained() (path string, fault *startError) {
	path, err := c.look()
	if err != nil {
		return "", c.explain(err)
	}
	return path, nil
}

// setUpAndExec sets this process up and executes the command; it returns only if it fails. What
// needs root comes first, then the user: the permissions of that user decide whether the directory
// and the file are accessible.
func (c Command) setUpAndExec(conn *os.File, cgroup string) *startError {
	var members *os.File
	if cgroup != "" {
		var err error
		if members, err = os.OpenFile(cgroup+"/cgroup.procs", os.O_WRONLY, 0); err != nil {
			return &startError{c.Argv[0], "its control group cannot be entered (" + err.Error() + ")", errno(err), true}
		}
	}
	if text, err := applyCredentials(c.Credentials); err != nil {
		return &startError{c.Argv[0], text, errno(err), true}
	}
	if c.Dir != "" {
		if err := syscall.Chdir(c.Dir); err != nil {
			return c.explain(err)
		}
	}
	path := c.Argv[0]
	if !strings.Contains(path, "/") {
		found, err := LookPath(path, c.Dir, c.Env)
		if err != nil {
			return c.explain(err)
		}
		path = found
	}
	if members != nil {
		// Last, so that its limits apply to the command alone; the file was opened with the old
		// user's permissions.
		if _, err := members.WriteString("0"); err != nil {
			return &startError{c.Argv[0], "its control group cannot be entered (" + err.Error() + ")", errno(err), true}
		}
	}
	emptySignalMask()
	code, err := c.exec(path, conn)
	if err != nil {
		return &startError{c.Argv[0], "the gophd that starts it has exited (" + err.Error() + ")", errno(err), true}
	}
	return c.explain(code)
}

// exec sets the limits and executes the command. Once the limits apply, a Go program may fail at
// any step that needs memory or a thread. So from the first limit to execve(2) there are only bare
// system calls. If execve fails, the errno is sent in one byte before a text is composed.
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
	limits := make([]unix.Rlimit, len(c.Credentials.Rlimits))
	for i, r := range c.Credentials.Rlimits {
		limits[i] = unix.Rlimit{Cur: r.Soft, Max: r.Hard}
	}
	// The runtime has raised the soft limit of nofile, and only syscall.Exec knows what it was. It
	// restores the limit before it fails.
	_ = syscall.Exec("", nil, nil)
	if _, err := conn.WriteString(aboutToExec); err != nil {
		return 0, err
	}
	for i, r := range c.Credentials.Rlimits {
		_, _, code = syscall.RawSyscall6(
			unix.SYS_PRLIMIT64, 0, uintptr(r.Resource), uintptr(unsafe.Pointer(&limits[i])), 0, 0, 0)
		if code != 0 {
			break
		}
	}
	if code == 0 {
		_, _, code = syscall.RawSyscall(unix.SYS_EXECVE,
			uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])))
	}
	report := [1]byte{byte(code)}
	_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, shimFD, uintptr(unsafe.Pointer(&report[0])), 1)
	return code, nil
}

// applyCredentials applies the credentials to this process. text describes what could not be set.
func applyCredentials(c *credentials.Credentials) (text string, err error) {
	for _, r := range c.Rlimits {
		if text, err := allowRlimit(r); err != nil {
			return text, err
		}
	}
	if c.Nice != nil {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, *c.Nice); err != nil {
			return fmt.Sprintf("the niceness %d is below gophd's own, and %s (%v): choose a higher one",
				*c.Nice, lacks("CAP_SYS_NICE", "only root can lower it"), err), err
		}
	}
	if c.Umask != nil {
		syscall.Umask(*c.Umask)
	}
	if c.User != nil {
		return switchUser(c.User)
	}
	return "", nil
}

// lacks says why this process may not do something: otherwise, or if it is root, that it has not the
// capability. A container may take that from root.
func lacks(capability, otherwise string) string {
	if os.Geteuid() == 0 {
		return "gophd lacks the capability " + capability
	}
	return otherwise
}

// allowRlimit raises the hard limit if necessary, which only root can do. The limit itself is set
// last, so that it applies to the command and not to the shim.
func allowRlimit(r credentials.Rlimit) (text string, err error) {
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
		max := credentials.Rlimit{Name: r.Name, Soft: now.Max, Hard: now.Max}
		why := lacks("CAP_SYS_RESOURCE", "only root can raise that")
		if hasCapabilities(1 << unix.CAP_SYS_RESOURCE) {
			why = "the kernel allows no more (for nofile see sysctl fs.nr_open)"
		}
		return "the limit " + r.String() + " is above what gophd may have (" + max.String() + "), and " + why +
			": choose a lower one", err
	}
	return "", nil
}

// switchUser sets the groups, gid and uid of this process, in that order, because each step needs
// the permission that the next one gives up. Then it verifies the result.
func switchUser(u *credentials.User) (text string, err error) {
	if !canSwitch() {
		if isCurrentUser(u) {
			return "", nil
		}
		return needsRoot(u), syscall.EPERM
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
			return fmt.Sprintf("it cannot get %s (%v): check that gophd's container or user namespace has that id",
				step.what, err), err
		}
	}
	groups, err := syscall.Getgroups()
	if err != nil || !isCurrentUser(u) || !sameSet(groups, u.Groups) {
		return "it is not user " + quote(u.Name) + " after the switch to it: run gophd as plain root", syscall.EPERM
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
