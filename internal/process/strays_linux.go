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

// doubtTime is how long the search waits for a process that is in the middle of execve(2) or of its
// exit. Its environment cannot be read then. A cold disk may hold up the one, and a full machine both.
const doubtTime = time.Second

// sweep deals with the strays of a run whose group has ended.
func (p *Process) sweep() {
	if p.leaf == nil && (p.strays == nil && len(p.escaped) == 0 || !p.others) {
		return
	}
	h := p.newHunt()
	look := h.round
	if p.leaf != nil {
		look = h.roundOfGroup
	}
	again := true
	for pause := probeMin; again; pause = min(2*pause, probeMax) {
		var found []escapee
		found, again = look()
		for _, st := range found {
			if h.Report != nil {
				h.Report(st.PID, st.Name, st.hunted)
			}
		}
		if again {
			if p.huntFor(h) == handed {
				return
			}
			time.Sleep(pause)
		}
	}
	// Who died with a stray's group has come home as a zombie, seen by nobody.
	p.spawner.collecting.Lock()
	defer p.spawner.collecting.Unlock()
	p.spawner.collectOrphans()
	if p.leaf != nil {
		p.leaf.drop()
	}
}

// escapee is a child of this program that came to it as an orphan.
type escapee struct {
	procfs.Stat
	hunted bool
}

// newHunt begins a search, or goes on with that of another process.
func (p *Process) newHunt() *hunt {
	h := &hunt{Strays: p.strays, p: p, began: time.Now(), seen: map[int]time.Time{}}
	if h.Strays == nil {
		h.Strays = &Strays{Grace: time.Until(p.StopPlan().Kill)}
	}
	if len(p.escaped) > 0 { // what has begun goes on, whatever the rule is now
		goesOn := *h.Strays
		goesOn.Kill, h.Strays = true, &goesOn
	}
	p.spawner.collecting.Lock()
	defer p.spawner.collecting.Unlock()
	for _, pid := range p.escaped {
		if p.leaf != nil {
			h.seen[pid] = h.began
		} else {
			p.spawner.know(pid, h)
		}
	}
	return h
}

// huntFor says that the search goes on, and returns the state.
func (p *Process) huntFor(h *hunt) state {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hunt = h
	p.step(escapeesFound)
	return p.now
}

// handOver returns who is being stopped, and when KILL is due; zero is never.
func (h *hunt) handOver() (escaped []int, kill time.Time) {
	if h.Kill {
		kill = h.due()
	}
	s := h.p.spawner
	s.collecting.Lock()
	defer s.collecting.Unlock()
	for pid, by := range s.known {
		if by == h {
			escaped = append(escaped, pid)
		}
	}
	if h.p.leaf != nil {
		escaped = slices.AppendSeq(escaped, maps.Keys(h.seen))
	}
	slices.Sort(escaped)
	return escaped, kill
}

// round looks once; it returns who was not known yet, and whether to look again.
func (h *hunt) round() (found []escapee, again bool) {
	s := h.p.spawner
	// Orphans are collected under this lock only, so a PID stays that of whom was found until the round is over.
	s.collecting.Lock()
	defer s.collecting.Unlock()
	if h.p.given() {
		return nil, true
	}
	for pid, by := range s.known {
		if by == h {
			s.collectStray(pid)
		}
	}
	now, due := time.Now(), h.due()
	seen, again := h.look(now)
	for _, st := range seen {
		by, known := s.known[st.PID]
		if !known {
			if st.hunted {
				by = h
			}
			s.know(st.PID, by)
			found = append(found, st)
		}
		switch {
		case by != h:
		case !now.Before(due):
			st.signal(syscall.SIGKILL)
			if h.killed.IsZero() {
				h.killed = now
			}
		case !known:
			st.signal(syscall.SIGTERM)
			st.signal(syscall.SIGCONT)
		}
	}
	giveUp := !h.killed.IsZero() && now.Sub(h.killed) > h.p.spawner.reap
	for pid, by := range s.known {
		switch {
		case by != h:
		case giveUp:
			s.known[pid] = nil
		default:
			again = true
		}
	}
	return found, again
}

// roundOfGroup is round where the run has a control group: all that is in it is the run's, and nothing else.
func (h *hunt) roundOfGroup() (found []escapee, again bool) {
	if !h.p.leaf.populated() {
		return nil, false
	}
	s := h.p.spawner
	s.collecting.Lock()
	defer s.collecting.Unlock()
	if h.p.given() {
		return nil, true
	}
	now, due := time.Now(), h.due()
	h.p.leaf.each(func(pid, pidfd int) {
		st, err := procfs.ReadStat(pid)
		if _, known := s.known[pid]; err == nil && !known && st.Parent == os.Getpid() {
			s.know(pid, nil)
		}
		if _, met := h.seen[pid]; met || err != nil {
			return
		}
		h.seen[pid] = now
		found = append(found, escapee{st, h.Kill})
		if h.Kill {
			_ = unix.PidfdSendSignal(pidfd, unix.SIGTERM, nil, 0)
			_ = unix.PidfdSendSignal(pidfd, unix.SIGCONT, nil, 0)
		}
	})
	switch {
	case !h.Kill, !h.killed.IsZero() && now.Sub(h.killed) > h.p.spawner.reap:
		return found, false
	case !now.Before(due):
		h.p.leaf.kill()
		if h.killed.IsZero() {
			h.killed = now
		}
	}
	return found, true
}

// due is when KILL is.
func (h *hunt) due() time.Time {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	due := h.began.Add(h.Grace)
	return earlier(due, h.p.stop.Kill)
}

// look finds the children of this program that are strays of the run, or may be; again says that of one it
// cannot be said yet.
func (h *hunt) look(now time.Time) (found []escapee, again bool) {
	self, group := os.Getpid(), unix.Getpgrp()
	session, _ := unix.Getsid(0)
	key, _, _ := strings.Cut(h.Mark, "=")
	for _, pid := range children() {
		st, err := procfs.ReadStat(pid)
		if err != nil || st.Parent != self || st.Ended() || st.Group == h.p.pid {
			continue
		}
		if h.p.spawner.known[pid] == h { // whatever its environment says
			found = append(found, escapee{st, true})
			continue
		}
		// It cannot be read when the stray has become another user, and this program is not root.
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if _, known := h.p.spawner.known[pid]; len(env) == 0 && !os.IsPermission(err) && !known && !bare(st) {
			if since, doubted := h.seen[pid]; !doubted || now.Sub(since) < doubtTime {
				if again = true; !doubted {
					h.seen[pid] = now
				}
				continue
			}
		}
		env = append([]byte{0}, env...)
		marked := h.Mark != "" && bytes.Contains(env, []byte("\x00"+h.Mark+"\x00"))
		if !marked && (bytes.Contains(env, []byte("\x00"+key+"=")) || !orphan(st, session, group)) {
			continue
		}
		if !marked && birth(pid) < birth(h.p.pid) {
			continue // it is older than the run; so an earlier image, or run, has spoken of it
		}
		hunted := marked && h.Kill && syscall.Kill(pid, 0) == nil
		found = append(found, escapee{st, hunted})
	}
	return found, again
}

// bare says that the process has an empty environment.
func bare(s procfs.Stat) bool { return s.EnvBegin != 0 && s.EnvBegin == s.EnvEnd }

// signal reaches the group too when the stray leads one: a group is made by members of it, and of their session.
func (s escapee) signal(sig syscall.Signal) {
	pid := s.PID
	if s.Group == s.PID {
		pid = -s.PID
	}
	_ = syscall.Kill(pid, sig)
}

// children lists the children of this program. The kernel has them for each thread, if it was built so; if
// not, all processes are looked at.
func children() (pids []int) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	for _, t := range tasks {
		b, err := os.ReadFile("/proc/self/task/" + t.Name() + "/children")
		switch {
		case os.IsNotExist(err) && t.Name() == strconv.Itoa(os.Getpid()):
			procfs.Processes(func(p procfs.Stat) {
				if p.Parent == os.Getpid() {
					pids = append(pids, p.PID)
				}
			})
			return pids
		case err == nil:
			for f := range bytes.FieldsSeq(b) {
				if pid, err := strconv.Atoi(string(f)); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	return pids
}
