package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
)

// Stat is what proc_pid_stat(5) reports about a process. A field that a line does not have is zero.
type Stat struct {
	PID                    int
	Name                   string // of the program, cut to 15 bytes by the kernel; it may contain anything
	State                  byte   // R, S, D, T, Z and others
	Parent, Group, Session int
	Start                  uint64 // in clock ticks after boot; no other process with this PID shares it
	CPU                    uint64 // clock ticks that it has used, and its children that it has waited for
	Resident               uint64 // pages of memory
	Memory                 uint64 // bytes of address space; 0 for one that is exiting, a zombie or a kernel thread
	EnvBegin, EnvEnd       uint64 // addresses of the environment; both 0 in the middle of execve(2) and of an exit
	// StopSignal is the signal that has stopped a process in state T. It is 0 before Linux 5.17, if
	// this process may not trace that one (ptrace(2)), and once its parent has read the signal.
	StopSignal uint64
}

// Ended reports whether the process is a zombie, or is just being collected.
func (s Stat) Ended() bool { return s.State == 'Z' || s.State == 'X' }

// ReadStat reads the Stat of a process. The error is that of reading the file, fs.ErrNotExist if
// there is no such process, or one of ParseStat.
func ReadStat(pid int) (Stat, error) {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(line)
}

// The fields after the name, as proc_pid_stat(5) numbers them, minus 3.
const (
	fieldState = iota
	fieldParent
	fieldGroup
	fieldSession

	fieldUser     = 14 - 3 // and three more
	fieldStart    = 22 - 3
	fieldResident = 24 - 3
	fieldMemory   = 23 - 3
	fieldEnvBegin = 50 - 3
	fieldEnvEnd   = 51 - 3
	fieldExitCode = 52 - 3
)

var errStat = errors.New("not a line of /proc/PID/stat")

// ParseStat reads a line. A line that does not have all fields up to the session is an error.
func ParseStat(line []byte) (Stat, error) {
	left, right := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if left < 0 || right < left {
		return Stat{}, errStat
	}
	fields := bytes.Fields(line[right+1:]) // the name may contain brackets, so the last bracket counts
	if len(fields) <= fieldSession || len(fields[fieldState]) != 1 {
		return Stat{}, errStat
	}
	s := Stat{Name: string(line[left+1 : right]), State: fields[fieldState][0]}
	for _, f := range []struct {
		to   *int
		from []byte
	}{{&s.PID, bytes.TrimSpace(line[:left])}, {&s.Parent, fields[fieldParent]}, {&s.Group, fields[fieldGroup]},
		{&s.Session, fields[fieldSession]}} {
		n, err := strconv.Atoi(string(f.from))
		if err != nil {
			return Stat{}, fmt.Errorf("%w: %w", errStat, err)
		}
		*f.to = n
	}
	for _, f := range []struct {
		to *uint64
		at int
	}{{&s.Start, fieldStart}, {&s.Memory, fieldMemory}, {&s.Resident, fieldResident}, {&s.EnvBegin, fieldEnvBegin}, {&s.EnvEnd, fieldEnvEnd},
		{&s.StopSignal, fieldExitCode}} {
		if f.at < len(fields) {
			*f.to, _ = strconv.ParseUint(string(fields[f.at]), 10, 64) // always a number; else 0, unknown
		}
	}
	for at := fieldUser; at < fieldUser+4 && at < len(fields); at++ {
		used, _ := strconv.ParseUint(string(fields[at]), 10, 64)
		s.CPU += used
	}
	if s.State != 'T' {
		s.StopSignal = 0 // it is the exit code
	}
	return s, nil
}

// Processes calls see for each process that can be seen, in no particular order. A process that
// exits meanwhile may be missing.
func Processes(see func(Stat)) {
	dir, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // as many as can be read
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if s, err := ReadStat(pid); err == nil {
			see(s)
		}
	}
}

// Children returns a func that returns the PIDs of the children of a process. The kernel lists them
// for each thread, if it was built with that option. Otherwise Children scans all processes once,
// and the func returns what it has found.
func Children() func(pid int) []int {
	if _, err := os.Stat("/proc/thread-self/children"); err == nil {
		return listedChildren
	}
	return scannedChildren()
}

func scannedChildren() func(pid int) []int {
	all := map[int][]int{}
	Processes(func(s Stat) { all[s.Parent] = append(all[s.Parent], s.PID) })
	return func(pid int) []int { return all[pid] }
}

func listedChildren(pid int) (pids []int) {
	tasks := "/proc/" + strconv.Itoa(pid) + "/task"
	threads, _ := os.ReadDir(tasks) // a process that has exited has no children
	for _, t := range threads {
		list, _ := os.ReadFile(tasks + "/" + t.Name() + "/children")
		pids = append(pids, numbers(list)...)
	}
	return pids
}

// Orphans returns the PIDs of the children of this program that it may have got as orphans, and some
// others. The kernel gives an orphan to the first thread of a subreaper or of process 1
// (find_new_reaper in kernel/exit.c), and lists the children of other threads elsewhere: with many
// commands, that is most of them.
func Orphans() []int {
	pid := os.Getpid()
	self := strconv.Itoa(pid)
	list, err := os.ReadFile("/proc/" + self + "/task/" + self + "/children")
	if err != nil { // the kernel was built without that list
		return Children()(pid)
	}
	return numbers(list)
}

func numbers(list []byte) (all []int) {
	for f := range bytes.FieldsSeq(list) {
		if n, err := strconv.Atoi(string(f)); err == nil {
			all = append(all, n)
		}
	}
	return all
}

// Switches returns how often the kernel has switched from the first thread of a process to another.
// If the number is the same later, that thread has not run. It is 0 if it is not known.
func Switches(pid int) (n uint64) {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	for line := range bytes.Lines(text) {
		if _, count, ok := bytes.Cut(line, []byte("_ctxt_switches:")); ok {
			number, _ := strconv.ParseUint(string(bytes.TrimSpace(count)), 10, 64) // always a number
			n += number
		}
	}
	return n
}

// Threads returns a Stat for each thread of this process.
func Threads() (threads []Stat) {
	names, _ := os.ReadDir("/proc/self/task")
	for _, name := range names {
		line, err := os.ReadFile("/proc/self/task/" + name.Name() + "/stat")
		if err != nil {
			continue // the thread has exited
		}
		if s, err := ParseStat(line); err == nil {
			threads = append(threads, s)
		}
	}
	return threads
}

// WaitsForDisk reports whether a thread of this process is in a system call that no signal
// interrupts (state D), such as a write to a disk that does not respond. An exec or an exit would
// wait for that call. A short call may be reported, too.
func WaitsForDisk() bool {
	return slices.ContainsFunc(Threads(), func(s Stat) bool { return s.State == 'D' })
}
