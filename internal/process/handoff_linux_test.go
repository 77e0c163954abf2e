package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/line"
)

// lineWriter is a writer that can be detached in the middle of a line. whole holds the finished
// lines of all writers, one after another.
type lineWriter struct {
	whole  *bytes.Buffer
	line   []byte
	handed line.Part
}

func (l *lineWriter) Write(b []byte) (int, error) {
	l.line = append(l.line, b...)
	if i := bytes.LastIndexByte(l.line, '\n'); i >= 0 {
		l.whole.Write(l.line[:i+1])
		l.line = bytes.Clone(l.line[i+1:])
	}
	return len(b), nil
}

func (l *lineWriter) Close() error { l.whole.Write(l.line); return nil }

// Rest counts the handoffs in the Part.
func (l *lineWriter) Rest() line.Rest {
	return line.Rest{Bytes: l.line, Written: line.Part{Bytes: 1 + l.handed.Bytes}}
}

func (l *lineWriter) Continue(r line.Rest) { l.line, l.handed = r.Bytes, r.Written }

// TestHandoffKeepsTheCommand hands a command off a hundred times. Before each handoff it requests a
// block of lines, which the command writes meanwhile. Every byte arrives once and in order, and the
// last process gets the true status and usage.
func TestHandoffKeepsTheCommand(t *testing.T) {
	const times, block = 100, 3000
	s := newSpawner(t)
	r, requests, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer requests.Close()
	var got bytes.Buffer
	var all goroutine.Group // the Waits, which return when the command exits
	script := fmt.Sprintf(`while read -r n; do seq $n $((n+%d)); done; printf 'no end'; exit 7`, block-1)
	p, err := s.Start(context.Background(), Command{
		Argv: sh(script), Dir: "/", Env: os.Environ(), Stdin: r,
		Stdout: Output{Open: func(int) io.WriteCloser { return &lineWriter{whole: &got} }}, Stderr: discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range times {
		left := p
		all.Go(func() { left.Wait() })
		fmt.Fprintln(requests, i*block+1)
		if Detach(p) != nil {
			t.Fatal("it was not detached")
		}
		h := p.HandOff()
		if p, err = s.Adopt(h, func(hs HandedStream) io.WriteCloser {
			if hs.Number == 2 {
				return discardWriter{}
			}
			if hs.Rest.Written.Bytes != i+1 {
				t.Errorf("handoff %d has the part of handoff %d", i+1, hs.Rest.Written.Bytes)
			}
			next := &lineWriter{whole: &got}
			next.Continue(hs.Rest)
			return next
		}); err != nil {
			t.Fatal(err)
		}
	}
	requests.Close()
	if r := p.Wait(); r.Outcome != job.Exited || r.Code != 7 || r.Usage.MaxRSS == 0 || !r.Started.Equal(p.Started()) {
		t.Errorf("it exited with %v, usage %+v", r, r.Usage)
	}
	all.Wait()
	var want strings.Builder
	for i := range times * block {
		fmt.Fprintln(&want, i+1)
	}
	want.WriteString("no end")
	if got.String() != want.String() {
		t.Errorf("%d bytes arrived of %d, or others", got.Len(), want.Len())
	}
}

// A command that exits during the handoff is reaped by the process that adopts it, with all of its
// output.
func TestCommandExitsDuringHandoff(t *testing.T) {
	s := newSpawner(t)
	p, out, fault := startCommand(t, s, sh("mkfifo go; echo ready; read -r x <go; echo last; exit 9"))
	out.await(t, "ready")
	if Detach(p) != nil {
		t.Fatal("it was not detached")
	}
	h := p.HandOff()
	dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", h.PID))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/go", []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := waitid(unix.P_PID, h.PID, unix.WEXITED|unix.WNOWAIT); err != nil {
		t.Fatal(err)
	}
	open := func(hs HandedStream) io.WriteCloser { return []*capture{out, fault}[hs.Number-1] }
	if p, err = s.Adopt(h, open); err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(); r.Code != 9 || out.String() != "ready\nlast\n" {
		t.Errorf("it exited with %v and wrote %q", r, out.String())
	}
	gone(t, h.PID)
}

func TestAdoptRejectsAnotherProcess(t *testing.T) {
	s := newSpawner(t)
	p, out, fault := startCommand(t, s, sh("echo ready; sleep 3600 & wait"))
	out.await(t, "ready")
	if Detach(p) != nil {
		t.Fatal("it was not detached")
	}
	h := p.HandOff()
	open := func(hs HandedStream) io.WriteCloser { return []*capture{out, fault}[hs.Number-1] }
	wrong := Handed{PID: h.PID, Birth: h.Birth + 1}
	if _, err := s.Adopt(wrong, open); err == nil || !strings.Contains(err.Error(), "not the command") {
		t.Errorf("a process that was started at another time was adopted: %v", err)
	}
	if _, err := s.Adopt(Handed{PID: os.Getppid(), Birth: h.Birth}, open); err == nil {
		t.Error("the parent was adopted")
	}
	p, err := s.Adopt(h, open)
	if err != nil {
		t.Fatal(err)
	}
	p.Stop(0)
	if r := p.Wait(); r.Signal != syscall.SIGKILL {
		t.Errorf("it exited with %v", r)
	}
}

// The pipe of an escaped process is handed off too, with its unfinished line.
func TestEscapedStreamsAreHandedOff(t *testing.T) {
	first := newSpawner(t)
	whole := &bytes.Buffer{}
	dir := t.TempDir()
	p, err := first.Start(t.Context(), Command{Dir: dir, Env: os.Environ(), Stderr: discard(),
		Argv:   sh("mkfifo up go; setsid sh -c 'printf be; echo >up; read -r x <go; echo gun' & read -r x <up"),
		Stdout: Output{Open: func(int) io.WriteCloser { return &lineWriter{whole: whole} }}})
	if err != nil {
		t.Fatal(err)
	}
	p.Wait()
	handed := first.HandOff()
	if len(handed) != 2 || handed[0].PID != p.PID() {
		t.Fatalf("%d streams were handed off: %+v", len(handed), handed)
	}
	second := newSpawner(t)
	closed := newCapture()
	second.AdoptStreams(handed, func(hs HandedStream) io.WriteCloser {
		if hs.Number == 2 {
			return discardWriter{}
		}
		return struct {
			io.Writer
			io.Closer
		}{&lineWriter{whole: whole, line: hs.Rest.Bytes}, closed}
	})
	if err := os.WriteFile(dir+"/go", []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	<-closed.closed
	if whole.String() != "begun\n" {
		t.Errorf("the output of the escaped process is %q", whole)
	}
}

// Delivering the last output may take any time, and only this process has it. So no command is
// detached.
func TestDetachFailsWhileOutputIsDelivered(t *testing.T) {
	s := newSpawner(t)
	read, dead := make(chan struct{}), make(chan struct{})
	last, err := s.Start(t.Context(), Command{
		Argv: sh("echo last words"), Dir: "/", Env: os.Environ(), Stderr: discard(),
		Stdout: Output{Open: func(int) io.WriteCloser {
			return badWriter{write: func() error { <-read; return nil }, close: func() error { return nil }}
		}}})
	if err != nil {
		t.Fatal(err)
	}
	last.OnDeath(func() { close(dead) })
	var wait goroutine.Group
	wait.Go(func() { last.Wait() })
	<-dead
	p, out, _ := startCommand(t, s, sh("echo ready; sleep 3600"))
	out.await(t, "ready")
	if busy := Detach(p, last); busy != last {
		t.Errorf("%v blocks it, want the one whose output is being delivered", busy)
	}
	close(read)
	wait.Wait()
	if Detach(last) != last {
		t.Error("a command that has exited was detached")
	}
	p.Stop(0)
	if r := p.Wait(); r.Signal != syscall.SIGKILL {
		t.Errorf("it exited with %v: was it detached?", r)
	}
}

// The same while the writer of an output is closed that the command has closed, although it runs.
func TestDetachFailsWhileAWriterIsClosed(t *testing.T) {
	s := newSpawner(t)
	closing, closed := make(chan struct{}), make(chan struct{})
	p, err := s.Start(t.Context(), Command{
		Argv: sh("exec >&-; exec sleep 3600"), Dir: "/", Env: os.Environ(), Stderr: discard(),
		Stdout: Output{Open: func(int) io.WriteCloser {
			return badWriter{write: func() error { return nil }, close: func() error { close(closing); <-closed; return nil }}
		}}})
	if err != nil {
		t.Fatal(err)
	}
	var wait goroutine.Group
	wait.Go(func() { p.Wait() })
	<-closing
	if busy := Detach(p); busy != p {
		t.Error("it was detached while a writer was closed")
	}
	close(closed)
	<-p.streams[0].done
	if busy := Detach(p); busy != nil {
		t.Error("it cannot be detached when the writer is closed")
	}
	next, err := s.Adopt(p.HandOff(), func(HandedStream) io.WriteCloser { return discardWriter{} })
	if err != nil {
		t.Fatal(err)
	}
	Forget(p)
	wait.Wait()
	next.Stop(0)
	next.Wait()
}

// An output that ends between Detach and HandOff is left to the new process like any other. This
// process could not close its writer in time: the log does not write during a re-exec.
func TestStreamThatEndsAfterDetachIsHandedOff(t *testing.T) {
	s := newSpawner(t)
	p, out, errs := startCommand(t, s, sh("echo ready; exec sleep 3600"))
	var wait goroutine.Group
	wait.Go(func() { p.Wait() })
	out.await(t, "ready")
	if busy := Detach(p); busy != nil {
		t.Fatal("it cannot be detached")
	}
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, st := range p.streams {
		<-st.done
	}
	h := p.HandOff()
	for _, c := range []*capture{out, errs} {
		select {
		case <-c.closed:
			t.Error("a writer was closed")
		default:
		}
	}
	next, err := s.Adopt(h, func(h HandedStream) io.WriteCloser { return []*capture{out, errs}[h.Number-1] })
	if err != nil {
		t.Fatal(err)
	}
	if r := next.Wait(); r.Signal != syscall.SIGKILL || len(h.Streams) != 2 {
		t.Errorf("%v, %d streams", r, len(h.Streams))
	}
	<-out.closed
	<-errs.closed
	Forget(p)
	wait.Wait()
}

// An escaped process that got TERM gets KILL even if the new process has other rules or does not
// know its mark: the config has changed, or the run is not adopted. Until then it keeps its grace.
// Neither the group grace nor a stop in between shortens it.
func TestEscapedProcessGetsItsKill(t *testing.T) {
	for name, rules := range map[string]*EscapeRules{
		"no rules": nil, "another mark": {Mark: "RUN=7", Kill: true, Grace: time.Hour}, "report": {Mark: "RUN=6"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpawner(t)
			p, out, _ := marked(t, s, "RUN=6", true, time.Hour, escape+ignoresTERM)
			var wait goroutine.Group
			wait.Go(func() { p.Wait() })
			for {
				p.mu.Lock()
				now := p.now
				p.mu.Unlock()
				if now == sweeping {
					break
				}
				time.Sleep(time.Millisecond)
			}
			p.Stop(time.Hour)
			if Detach(p) != nil {
				t.Fatal("it was not detached")
			}
			wait.Wait()
			h := p.HandOff()
			if h.Stop == nil || time.Until(h.Stop.Kill) < 50*time.Minute {
				t.Fatalf("handed off: %+v", h.Stop)
			}
			h.Escapes, h.Stop.Kill = rules, time.Now()
			p, err := newSpawner(t).Adopt(h, func(HandedStream) io.WriteCloser { return discardWriter{} })
			if err != nil {
				t.Fatal(err)
			}
			if r := p.Wait(); !r.OK() {
				t.Error(r)
			}
			gone(t, number(t, out.String()))
		})
	}
}

// Escaped processes that are being stopped get one TERM and one report, over any number of
// handoffs, and KILL when it is due.
func TestEscapedProcessesAreHandedOff(t *testing.T) {
	s, dir := newSpawner(t), t.TempDir()
	p, out, reports := marked(t, s, "RUN=5", true, time.Hour,
		`export DIR=`+dir+`; mkfifo $DIR/fifo; `+escape+ // it forks nothing that could escape when it is killed
			`/bin/sh -c 'trap "echo TERM >>$DIR/received" TERM; exec 3<>$DIR/fifo; echo $$; while :; do read x <&3; done'`)
	sweeps := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.now == sweeping
	}
	received := func() string {
		b, _ := os.ReadFile(dir + "/received")
		return string(b)
	}
	for range 3 {
		oldWait := make(chan job.Result, 1)
		go func(p *Process) { oldWait <- p.Wait() }(p)
		for !sweeps() || received() == "" {
			time.Sleep(time.Millisecond)
		}
		if Detach(p) != nil {
			t.Fatal("it was not detached")
		}
		if r := <-oldWait; r.PID != 0 {
			t.Errorf("the Wait of a detached command returned %+v", r)
		}
		h := p.HandOff()
		if h.Ended.IsZero() || h.Stop == nil || h.Stop.Kill.Before(h.Ended.Add(time.Hour)) ||
			!slices.Equal(h.Escaped, []int{number(t, out.String())}) {
			t.Fatalf("handed off: %+v", h)
		}
		h.Escapes, s = p.escapes, newSpawner(t)
		var err error
		if p, err = s.Adopt(h, func(HandedStream) io.WriteCloser { return discardWriter{} }); err != nil {
			t.Fatal(err)
		}
	}
	p.Stop(0)
	if r := p.Wait(); !r.OK() {
		t.Error(r)
	}
	pid := number(t, out.String())
	if want := fmt.Sprintf("%d sh true", pid); reports.String() != want || received() != "TERM\n" {
		t.Errorf("reported %q, want %q; it received %q", reports, want, received())
	}
	gone(t, pid)
}

// TestInheritedEscapedProcessesAreReaped: an escaped process of the old process that cannot be
// distinguished from another package's child does not stay a zombie. A command that is to be
// adopted keeps its status, and so does another package's child.
func TestInheritedEscapedProcessesAreReaped(t *testing.T) {
	s := newSpawner(t)
	start := func() int {
		pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "exit 3"},
			&syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setpgid: true}})
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	escaped, run := start(), start()
	s.Inherit([]int{run}, nil)
	later := start()
	for _, pid := range []int{escaped, run, later} {
		if _, err := waitid(unix.P_PID, pid, unix.WEXITED|unix.WNOWAIT); err != nil {
			t.Fatal(err)
		}
	}
	s.reaping.Lock()
	s.reapOrphansNow()
	s.reaping.Unlock()
	gone(t, escaped)
	for _, pid := range []int{run, later} {
		var status syscall.WaitStatus
		if got, err := syscall.Wait4(pid, &status, 0, nil); got != pid || err != nil || status.ExitStatus() != 3 {
			t.Errorf("%d, %v, status %d: it was reaped elsewhere", got, err, status.ExitStatus())
		}
	}
}

// TestInheritedMembersAreNotRecorded: an orphan in the group of an adopted run is reaped with that
// run, and a later run that gets its PID keeps its status.
func TestInheritedMembersAreNotRecorded(t *testing.T) {
	s := newSpawner(t)
	start := func(group int) int {
		pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "sleep 3600"},
			&syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setpgid: true, Pgid: group}})
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	run := start(0)
	member := start(run)
	s.Inherit([]int{run}, nil)
	if len(s.inherited) != 0 {
		t.Errorf("%v are recorded, of run %d and %d of its group", s.inherited, run, member)
	}
	if err := syscall.Kill(-run, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{run, member} {
		if got, err := syscall.Wait4(pid, nil, 0, nil); got != pid || err != nil {
			t.Errorf("%d, %v", got, err)
		}
	}
}
