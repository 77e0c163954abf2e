// Package daemonize answers: how does gophd detach from the terminal and report that it is ready?
//
// Start runs the same program again, in a session of its own and without the terminal. It waits
// until the daemon reports on a pipe that it is ready, or why it cannot start. So the user sees the
// error, and the command returns only when the daemon works. Inherit and Ready are the daemon's end
// of the pipe. Go cannot fork safely, so the program starts again, with the pipe in an environment
// variable. This package does not handle the PID file, the log and the working directory. There is
// no second fork: the daemon leads its session, so a terminal device that it opened without
// O_NOCTTY (open(2)) would become its terminal.
package daemonize

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/self"
)

// Report is what a daemon reports about its start.
type Report struct {
	Code   int    // 0 when it is ready, else the exit code for the terminal
	Text   string // what the terminal should show
	Stderr string // the last of what it wrote to stderr meanwhile, at most 4 KiB
}

const (
	maxText     = 16 << 10 // of a report; even with every byte escaped by JSON it fits a pipe, so no write blocks
	maxReport   = 8 * maxText
	maxStderr   = 4 << 10
	exitTimeout = 5 * time.Second // of a daemon that has failed, before it is killed
	readyFD     = 3
)

// Start starts the program of s again as a daemon. It blocks until the daemon has reported or
// exited; after the report of a failure it also waits for the exit. An INT or TERM meanwhile is
// passed on as TERM, so that no partly started daemon remains; a second one kills it. Without a
// report, the error says how the daemon exited, and Stderr of the Report may say why.
func Start(s self.Self) (Report, error) {
	// Before the start, so that a signal cannot end this process and leave the daemon alone.
	stops := make(chan os.Signal, 2)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if !signal.Ignored(sig) {
			signal.Notify(stops, sig)
		}
	}
	defer signal.Stop(stops)

	p, report, stderr, err := spawn(s)
	if err != nil {
		return Report{}, fmt.Errorf("cannot start the daemon: %w", err)
	}
	w := &startup{process: p, stops: stops}
	defer func() { _ = report.Close() }()
	defer func() { _ = stderr.Close() }()

	var group goroutine.Group
	reported := make(chan []byte, 1)
	group.Go(func() {
		data, _ := io.ReadAll(io.LimitReader(report, maxReport)) // a truncated one does not parse
		reported <- data
	})
	var last tail
	group.Go(func() { _, _ = io.Copy(&last, stderr) })

	data := w.await(reported)
	r, parsed := parse(data)
	var status *os.ProcessState
	if parsed == nil && r.Code == 0 {
		err = p.Release()
	} else {
		status, err = w.awaitExit()
	}
	// All that it wrote is in the pipe now. A descendant may hold the other end indefinitely.
	if err := stderr.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return Report{}, fmt.Errorf("cannot read the daemon's stderr: %w", err)
	}
	group.Wait()
	drain(stderr, &last)
	r.Stderr = string(last)

	switch {
	case err != nil:
		return r, fmt.Errorf("cannot wait for the daemon: %w", err)
	case len(data) == 0:
		return r, fmt.Errorf("the daemon exited before it was ready: %s%s", exitStatus(status), last.quote())
	case parsed != nil:
		return r, fmt.Errorf("the daemon's report is malformed: %.80q: %w%s", data, parsed, last.quote())
	case r.Code == 0 && w.signals > 0:
		return r, errors.New("the start was interrupted: the daemon was stopped right after its start")
	}
	return r, nil
}

// spawn starts the daemon and returns the pipes from which its report and its stderr are read.
func spawn(s self.Self) (p *os.Process, report, stderr *os.File, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() { _ = null.Close() }()
	report, reportEnd, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() { _ = reportEnd.Close() }()
	stderr, stderrEnd, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, errors.Join(err, report.Close())
	}
	defer func() { _ = stderrEnd.Close() }()

	env := append(s.Env[:len(s.Env):len(s.Env)], self.ReadyVariable+"="+strconv.Itoa(readyFD))
	release, err := self.HoldSignals()
	if err == nil {
		p, err = os.StartProcess(s.Path, s.Args, &os.ProcAttr{Env: env,
			Files: []*os.File{0: null, 1: null, 2: stderrEnd, readyFD: reportEnd},
			Sys:   &syscall.SysProcAttr{Setsid: true}})
		release()
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, report.Close(), stderr.Close())
	}
	return p, report, stderr, nil
}

// startup is the daemon as its parent sees it while it starts.
type startup struct {
	process *os.Process
	stops   <-chan os.Signal // INT and TERM to this process
	signals int              // passed on so far
}

// pass passes a signal on: the first as TERM, the next as KILL. An error means that the daemon has
// exited, which await and awaitExit notice.
func (w *startup) pass() {
	w.signals++
	if w.signals == 1 {
		_ = w.process.Signal(syscall.SIGTERM)
	} else {
		_ = w.process.Kill()
	}
}

// await waits for the daemon's report.
func (w *startup) await(reported <-chan []byte) []byte {
	for {
		select {
		case data := <-reported:
			return data
		case <-w.stops:
			w.pass()
		}
	}
}

// awaitExit waits for a daemon that has failed to exit, and kills it if it does not exit in time.
func (w *startup) awaitExit() (*os.ProcessState, error) {
	var group goroutine.Group
	exited := make(chan struct{})
	var status *os.ProcessState
	var err error
	group.Go(func() {
		defer close(exited)
		status, err = w.process.Wait()
	})
	defer group.Wait()
	late := time.NewTimer(exitTimeout)
	defer late.Stop()
	for {
		select {
		case <-exited:
			return status, err
		case <-late.C:
			_ = w.process.Kill()
		case <-w.stops:
			w.pass()
		}
	}
}

// parse decodes a report. A missing code is an error, not 0.
func parse(data []byte) (Report, error) {
	var w struct {
		Code *int
		Text string
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return Report{}, err
	}
	if w.Code == nil || *w.Code < 0 || *w.Code > 255 {
		return Report{}, errors.New("it has no exit code")
	}
	return Report{Code: *w.Code, Text: w.Text}, nil
}

// exitStatus says how a process exited, in the same words as package job.
func exitStatus(p *os.ProcessState) string {
	status, ok := p.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return "signal " + job.SignalName(status.Signal())
	}
	return "exit code " + strconv.Itoa(p.ExitCode())
}

// tail keeps the last maxStderr bytes that are written to it.
type tail []byte

func (t *tail) Write(b []byte) (int, error) {
	*t = append(*t, b...)
	if over := len(*t) - maxStderr; over > 0 {
		*t = append((*t)[:0], (*t)[over:]...)
	}
	return len(b), nil
}

// quote returns the text as the last part of a one-line error.
func (t *tail) quote() string {
	text := strings.Join(strings.Fields(string(*t)), " ")
	if text == "" {
		return ""
	}
	if len(text) > 400 {
		text = text[:200] + " ... " + text[len(text)-200:]
	}
	return "; its stderr: " + strings.ToValidUTF8(text, "?")
}

// drain reads what is in the pipe without waiting for more. It stops after 1 MiB.
func drain(pipe *os.File, to io.Writer) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		var b [4096]byte
		for range 256 { // 1 MiB; a pipe holds a sixteenth of it
			n, err := unix.Read(int(fd), b[:])
			if n <= 0 && !errors.Is(err, unix.EINTR) {
				return
			}
			_, _ = to.Write(b[:max(n, 0)])
		}
	})
}
