package process

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/procfs"
)

// unreadableTime is how long the search waits for a process whose environment cannot be read
// because it is in the middle of execve(2) or of its exit. A slow disk can delay the exec, and a
// busy machine both.
const unreadableTime = time.Second

// sweep reports and stops the escaped processes of a run whose group is gone.
func (p *Process) sweep() {
	if p.leaf == nil && (p.escapes == nil && len(p.escaped) == 0 || !p.others) {
		return
	}
	sw := p.newSweep()
	look := sw.round
	if p.leaf != nil {
		look = sw.roundOfGroup
	}
	again, escaped := true, false
	for pause := probeMin; again; pause = min(2*pause, probeMax) {
		var found []orphan
		found, again = look()
		escaped = escaped || again || len(found) > 0
		for _, st := range found {
			if sw.Report != nil {
				sw.Report(EscapedProcess{PID: st.PID, Name: st.Name, Marked: st.marked, Killed: st.toStop})
			}
		}
		if again {
			if p.continueSweep(sw) == detached {
				return
			}
			time.Sleep(pause)
		}
	}
	if escaped {
		// Processes that died in the group of an escaped process became children of this program as
		// zombies that nothing has seen.
		p.spawner.reaping.Lock()
		p.spawner.reapOrphansNow()
		p.spawner.reaping.Unlock()
	}
	if p.leaf != nil {
		p.leaf.drop()
	}
}

// orphan is a child of this program that escaped from a run. It is marked if it escaped from this one.
type orphan struct {
	procfs.Stat
	marked, toStop bool
}

// newSweep starts a search, or continues that of another process.
func (p *Process) newSweep() *sweep {
	sw := &sweep{EscapeRules: p.escapes, p: p, started: time.Now(), seen: map[int]time.Time{}}
	if sw.EscapeRules == nil {
		sw.EscapeRules = &EscapeRules{Grace: time.Until(p.StopPlan().Kill)}
	}
	if len(p.escaped) > 0 { // the stop that was started continues, whatever the rule is now
		rules := *sw.EscapeRules
		rules.Kill, sw.EscapeRules = true, &rules
	}
	p.spawner.reaping.Lock()
	defer p.spawner.reaping.Unlock()
	for _, pid := range p.escaped {
		if p.leaf != nil {
			sw.seen[pid] = sw.started
		} else {
			p.spawner.track(pid, sw)
		}
	}
	return sw
}

// continueSweep records that the search continues, and returns the state.
func (p *Process) continueSweep(sw *sweep) state {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.search = sw
	p.step(escapedFound)
	return p.now
}

// handOff returns the processes that are being stopped, and when KILL is due; zero is never.
func (sw *sweep) handOff() (escaped []int, kill time.Time) {
	if sw.Kill {
		kill = sw.due()
	}
	s := sw.p.spawner
	s.reaping.Lock()
	defer s.reaping.Unlock()
	for pid, by := range s.known {
		if by == sw {
			escaped = append(escaped, pid)
		}
	}
	if sw.p.leaf != nil {
		escaped = slices.AppendSeq(escaped, maps.Keys(sw.seen))
	}
	slices.Sort(escaped)
	return escaped, kill
}

// round searches once. It returns the processes that were not known yet, and whether to search
// again.
func (sw *sweep) round() (found []orphan, again bool) {
	s := sw.p.spawner
	// Orphans are reaped under this lock only, so no PID is reused until the round is over.
	s.reaping.Lock()
	defer s.reaping.Unlock()
	if sw.p.isDetached() {
		return nil, true
	}
	for pid, by := range s.known {
		if by == sw {
			s.reapEscaped(pid)
		}
	}
	now, due := time.Now(), sw.due()
	seen, again := sw.look(now)
	for _, st := range seen {
		by, known := s.known[st.PID]
		if !known {
			if st.toStop {
				by = sw
			}
			s.track(st.PID, by)
			found = append(found, st)
		}
		switch {
		case by != sw:
		case !now.Before(due):
			st.signal(syscall.SIGKILL)
			if sw.killed.IsZero() {
				sw.killed = now
			}
		case !known:
			st.signal(syscall.SIGTERM)
			st.signal(syscall.SIGCONT)
		}
	}
	giveUp := !sw.killed.IsZero() && now.Sub(sw.killed) > sw.p.spawner.killWait
	for pid, by := range s.known {
		switch {
		case by != sw:
		case giveUp:
			s.known[pid] = nil
		default:
			again = true
		}
	}
	return found, again
}

// roundOfGroup is round for a run with a control group: exactly the processes in it belong to the
// run.
func (sw *sweep) roundOfGroup() (found []orphan, again bool) {
	if !sw.p.leaf.populated() {
		return nil, false
	}
	s := sw.p.spawner
	s.reaping.Lock()
	defer s.reaping.Unlock()
	if sw.p.isDetached() {
		return nil, true
	}
	now, due := time.Now(), sw.due()
	sw.p.leaf.each(func(pid, pidfd int) {
		st, err := procfs.ReadStat(pid)
		if _, known := s.known[pid]; err == nil && !known && st.Parent == os.Getpid() {
			s.track(pid, nil)
		}
		if _, met := sw.seen[pid]; met || err != nil {
			return
		}
		sw.seen[pid] = now
		found = append(found, orphan{st, true, sw.Kill})
		if sw.Kill {
			_ = unix.PidfdSendSignal(pidfd, unix.SIGTERM, nil, 0)
			_ = unix.PidfdSendSignal(pidfd, unix.SIGCONT, nil, 0)
		}
	})
	switch {
	case !sw.Kill, !sw.killed.IsZero() && now.Sub(sw.killed) > sw.p.spawner.killWait:
		return found, false
	case !now.Before(due):
		sw.p.leaf.kill()
		if sw.killed.IsZero() {
			sw.killed = now
		}
	}
	return found, true
}

// due returns when KILL is due.
func (sw *sweep) due() time.Time {
	sw.p.mu.Lock()
	defer sw.p.mu.Unlock()
	due := sw.started.Add(sw.Grace)
	return earlier(due, sw.p.stop.Kill)
}

// look finds the children of this program that escaped from the run, or may have. again tells that
// one of them cannot be decided on yet.
func (sw *sweep) look(now time.Time) (found []orphan, again bool) {
	self, group := os.Getpid(), unix.Getpgrp()
	session, _ := unix.Getsid(0)
	key, _, _ := strings.Cut(sw.Mark, "=")
	for _, pid := range procfs.Orphans() {
		if sw.p.spawner.isCommand(pid) {
			continue
		}
		st, err := procfs.ReadStat(pid)
		if err != nil || st.Parent != self || st.Ended() || st.Group == sw.p.pid {
			continue
		}
		if sw.p.spawner.known[pid] == sw { // whatever its environment contains
			found = append(found, orphan{st, true, true})
			continue
		}
		// It cannot be read if the process changed its user and this program is not root.
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if _, known := sw.p.spawner.known[pid]; len(env) == 0 && !os.IsPermission(err) && !known && !hasEmptyEnv(st) {
			if since, waiting := sw.seen[pid]; !waiting || now.Sub(since) < unreadableTime {
				if again = true; !waiting {
					sw.seen[pid] = now
				}
				continue
			}
		}
		env = append([]byte{0}, env...)
		marked := sw.marks(env)
		if !marked && (bytes.Contains(env, []byte("\x00"+key+"=")) || !isOrphan(st, session, group)) {
			continue
		}
		if !marked && childStart(pid) < childStart(sw.p.pid) {
			continue // it is older than the run, so an earlier process or run has reported it
		}
		toStop := marked && sw.Kill && syscall.Kill(pid, 0) == nil
		found = append(found, orphan{st, marked, toStop})
	}
	return found, again
}

// hasEmptyEnv reports whether the process has an empty environment.
func hasEmptyEnv(s procfs.Stat) bool { return s.EnvBegin != 0 && s.EnvBegin == s.EnvEnd }

// signal sends the signal to the whole group if the process leads one. Only the process itself or
// members of its session can have put others into that group.
func (s orphan) signal(sig syscall.Signal) {
	pid := s.PID
	if s.Group == s.PID {
		pid = -s.PID
	}
	_ = syscall.Kill(pid, sig)
}
