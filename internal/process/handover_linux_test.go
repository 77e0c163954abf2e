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
)

// liner is a writer that can be left in mid-line: whole holds the finished lines of all the writers that
// followed one another.
type liner struct {
	whole *bytes.Buffer
	line  []byte
}

func (l *liner) Write(b []byte) (int, error) {
	l.line = append(l.line, b...)
	if i := bytes.LastIndexByte(l.line, '\n'); i >= 0 {
		l.whole.Write(l.line[:i+1])
		l.line = bytes.Clone(l.line[i+1:])
	}
	return len(b), nil
}

func (l *liner) Close() error { l.whole.Write(l.line); return nil }
func (l *liner) Rest() []byte { return l.line }

// TestHandoffKeepsTheCommand hands a command over a hundred times. Before each time it is asked for a
// block of lines, which it writes meanwhile. Every byte arrives once and in order, and the last image gets
// its true status and usage.
func TestHandoffKeepsTheCommand(t *testing.T) {
	const times, block = 100, 3000
	s := newSpawner(t)
	r, ask, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer ask.Close()
	var got bytes.Buffer
	var all goroutine.Group // the Waits, which end with the command
	p, err := s.Start(context.Background(), Command{
		Argv: sh(fmt.Sprintf(`while read -r n; do seq $n $((n+%d)); done; printf 'no end'; exit 7`, block-1)), Dir: "/", Env: os.Environ(),
		Stdin: r, Stdout: Output{Open: func(int) io.WriteCloser { return &liner{whole: &got} }}, Stderr: discard()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range times {
		left := p
		all.Go(func() { left.Wait() })
		fmt.Fprintln(ask, i*block+1)
		if Leave(p) != nil {
			t.Fatal("it was not left")
		}
		h := p.HandOver()
		if p, err = s.Adopt(h, func(hs HandedStream) io.WriteCloser {
			if hs.Number == 2 {
				return nowhere{}
			}
			return &liner{whole: &got, line: hs.Rest}
		}); err != nil {
			t.Fatal(err)
		}
	}
	ask.Close()
	if r := p.Wait(); r.Outcome != job.Exited || r.Code != 7 || r.Usage.MaxRSS == 0 || !r.Started.Equal(p.Started()) {
		t.Errorf("it ended with %v, usage %+v", r, r.Usage)
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

// A command that ends while nobody looks is collected by the image that adopts it, last words included.
func TestHandedCommandEndsMeanwhile(t *testing.T) {
	s := newSpawner(t)
	p, out, fault := begin(t, s, sh("mkfifo go; echo ready; read -r x <go; echo last; exit 9"))
	out.await(t, "ready")
	if Leave(p) != nil {
		t.Fatal("it was not left")
	}
	h := p.HandOver()
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
	if p, err = s.Adopt(h, func(hs HandedStream) io.WriteCloser { return []*capture{out, fault}[hs.Number-1] }); err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(); r.Code != 9 || out.String() != "ready\nlast\n" {
		t.Errorf("it ended with %v and said %q", r, out.String())
	}
	gone(t, h.PID)
}

func TestAdoptRefusesAStranger(t *testing.T) {
	s := newSpawner(t)
	p, out, fault := begin(t, s, sh("echo ready; sleep 3600 & wait"))
	out.await(t, "ready")
	if Leave(p) != nil {
		t.Fatal("it was not left")
	}
	h := p.HandOver()
	open := func(hs HandedStream) io.WriteCloser { return []*capture{out, fault}[hs.Number-1] }
	wrong := Handed{PID: h.PID, Birth: h.Birth + 1}
	if _, err := s.Adopt(wrong, open); err == nil || !strings.Contains(err.Error(), "not the command") {
		t.Errorf("a process that was born at another time was adopted: %v", err)
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
		t.Errorf("it ended with %v", r)
	}
}

// A stray's pipe is passed on too, and its last line with it.
func TestStraysAreHandedOver(t *testing.T) {
	first := newSpawner(t)
	whole := &bytes.Buffer{}
	dir := t.TempDir()
	p, err := first.Start(t.Context(), Command{Dir: dir, Env: os.Environ(), Stderr: discard(),
		Argv:   sh("mkfifo up go; setsid sh -c 'printf be; echo >up; read -r x <go; echo gun' & read -r x <up"),
		Stdout: Output{Open: func(int) io.WriteCloser { return &liner{whole: whole} }}})
	if err != nil {
		t.Fatal(err)
	}
	p.Wait()
	handed := first.HandOver()
	if len(handed) != 2 || handed[0].PID != p.PID() {
		t.Fatalf("%d streams were handed over: %+v", len(handed), handed)
	}
	second := newSpawner(t)
	closed := newCapture()
	second.AdoptStrays(handed, func(hs HandedStream) io.WriteCloser {
		if hs.Number == 2 {
			return nowhere{}
		}
		return struct {
			io.Writer
			io.Closer
		}{&liner{whole: whole, line: hs.Rest}, closed}
	})
	if err := os.WriteFile(dir+"/go", []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	<-closed.closed
	if whole.String() != "begun\n" {
		t.Errorf("the stray's words arrived as %q", whole)
	}
}

// Last words may take any time to deliver, and only this process has them. Nobody is left then.
func TestLeaveIsRefused(t *testing.T) {
	s := newSpawner(t)
	read, dead := make(chan struct{}), make(chan struct{})
	last, err := s.Start(t.Context(), Command{Argv: sh("echo last words"), Dir: "/", Env: os.Environ(), Stderr: discard(),
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
	p, out, _ := begin(t, s, sh("echo ready; sleep 3600"))
	out.await(t, "ready")
	if busy := Leave(p, last); busy != last {
		t.Errorf("%v was in the way, want the one whose output is being delivered", busy)
	}
	close(read)
	wait.Wait()
	if Leave(last) != last {
		t.Error("a command that has ended was left")
	}
	p.Stop(0)
	if r := p.Wait(); r.Signal != syscall.SIGKILL {
		t.Errorf("it ended with %v: was it left?", r)
	}
}

// A process that escaped and has had its TERM gets its KILL, although the next process has other rules, or knows its
// mark no more: the config has changed, or nobody adopts the run. Until then it keeps its grace, which neither the
// courtesy nor a stop that comes meanwhile makes shorter.
func TestEscapedProcessGetsItsKill(t *testing.T) {
	for name, rules := range map[string]*Strays{"no rules": nil, "another mark": {Mark: "RUN=7", Kill: true, Grace: time.Hour}, "report": {Mark: "RUN=6"}} {
		t.Run(name, func(t *testing.T) {
			s := newSpawner(t)
			p, out, _ := marked(t, s, "RUN=6", true, time.Hour, escape+obdurate)
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
			if Leave(p) != nil {
				t.Fatal("it was not left")
			}
			wait.Wait()
			h := p.HandOver()
			if h.Stop == nil || time.Until(h.Stop.Kill) < 50*time.Minute {
				t.Fatalf("handed over: %+v", h.Stop)
			}
			h.Strays, h.Stop.Kill = rules, time.Now()
			p, err := newSpawner(t).Adopt(h, func(HandedStream) io.WriteCloser { return nowhere{} })
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

// Processes that escaped and are being stopped get one TERM and one report, however many processes of gophd
// follow one another, and KILL when that is due.
func TestEscapedProcessesAreHandedOver(t *testing.T) {
	s, dir := newSpawner(t), t.TempDir()
	p, out, reports := marked(t, s, "RUN=5", true, time.Hour,
		`export DIR=`+dir+`; mkfifo $DIR/fifo; `+escape+ // it forks nothing, which could escape when it is killed
			`/bin/sh -c 'trap "echo TERM >>$DIR/heard" TERM; exec 3<>$DIR/fifo; echo $$; while :; do read x <&3; done'`)
	sweeps := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.now == sweeping
	}
	heard := func() string {
		b, _ := os.ReadFile(dir + "/heard")
		return string(b)
	}
	for range 3 {
		given := make(chan job.Result, 1)
		go func(p *Process) { given <- p.Wait() }(p)
		for !sweeps() || heard() == "" {
			time.Sleep(time.Millisecond)
		}
		if Leave(p) != nil {
			t.Fatal("it was not left")
		}
		if r := <-given; r.PID != 0 {
			t.Errorf("the Wait of what was given away said %+v", r)
		}
		h := p.HandOver()
		if h.Ended.IsZero() || h.Stop == nil || h.Stop.Kill.Before(h.Ended.Add(time.Hour)) || !slices.Equal(h.Escaped, []int{number(t, out.String())}) {
			t.Fatalf("handed over: %+v", h)
		}
		h.Strays, s = p.strays, newSpawner(t)
		var err error
		if p, err = s.Adopt(h, func(HandedStream) io.WriteCloser { return nowhere{} }); err != nil {
			t.Fatal(err)
		}
	}
	p.Stop(0)
	if r := p.Wait(); !r.OK() {
		t.Error(r)
	}
	pid := number(t, out.String())
	if want := fmt.Sprintf("%d sh true", pid); reports.String() != want || heard() != "TERM\n" {
		t.Errorf("reported %q, want %q; it heard %q", reports, want, heard())
	}
	gone(t, pid)
}

// TestInheritedStraysAreCollected: a stray of an image before, which cannot be told from a child of another room, is
// no zombie for ever; a command that is to be adopted keeps its status, and a child of another room its own.
func TestInheritedStraysAreCollected(t *testing.T) {
	s := newSpawner(t)
	start := func() int {
		pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "exit 3"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setpgid: true}})
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	stray, run := start(), start()
	s.Inherit(run)
	later := start()
	for _, pid := range []int{stray, run, later} {
		if _, err := waitid(unix.P_PID, pid, unix.WEXITED|unix.WNOWAIT); err != nil {
			t.Fatal(err)
		}
	}
	s.collecting.Lock()
	s.collectOrphans()
	s.collecting.Unlock()
	gone(t, stray)
	for _, pid := range []int{run, later} {
		var status syscall.WaitStatus
		if got, err := syscall.Wait4(pid, &status, 0, nil); got != pid || err != nil || status.ExitStatus() != 3 {
			t.Errorf("%d, %v, status %d: it was collected by somebody else", got, err, status.ExitStatus())
		}
	}
}

// TestInheritedMembersAreNotKeptInMind: an orphan in the group of a run that is adopted is collected with that run, and a
// later run that happens to get its PID keeps its status.
func TestInheritedMembersAreNotKeptInMind(t *testing.T) {
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
	s.Inherit(run)
	if len(s.inherited) != 0 {
		t.Errorf("%v are kept in mind, of run %d and %d of its group", s.inherited, run, member)
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
