// Package daemonize answers: how do we leave the terminal and say that we are well?
//
// Start runs the same program once more, in a session of its own and away from the terminal, and waits
// until it says by a pipe that it serves, or why it cannot: who typed the command sees the error, and
// the terminal is given back only when the promise is true. Inherit and Ready are the other end. Go
// cannot fork safely, so the program begins anew and is told by an environment variable. The PID file,
// the log and the working directory are not its business. There is no second fork: the daemon leads its
// session, so a terminal device that it opened without O_NOCTTY (open(2)) would become its terminal.
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

// Report is what a daemon says of its start.
type Report struct {
	Code   int    // 0 when it serves, else the exit code for the terminal
	Text   string // what the terminal should see
	Stderr string // the end of what it wrote to stderr meanwhile, at most 4 KiB
}

const (
	maxText   = 16 << 10 // of a report; with the worst of JSON's escapes it fits a pipe, so no report blocks
	maxReport = 8 * maxText
	maxWords  = 4 << 10
	patience  = 5 * time.Second // with a daemon that has failed and does not end
	readyFD   = 3
)

// Start starts the program of s again as a daemon and blocks until it has reported or ended; the report
// of a failure comes when it has ended, too. An INT or TERM meanwhile is passed to it as TERM, so that
// no half-started daemon stays behind, and a second one kills it. When there is no report the error
// says how it ended, and Stderr of the Report may still say why.
func Start(s self.Self) (Report, error) {
	// Before the start, so that there is no moment in which they end us and leave the daemon alone.
	asked := make(chan os.Signal, 2)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if !signal.Ignored(sig) {
			signal.Notify(asked, sig)
		}
	}
	defer signal.Stop(asked)

	p, report, words, err := spawn(s)
	if err != nil {
		return Report{}, fmt.Errorf("cannot start the daemon: %w", err)
	}
	w := &watch{process: p, asked: asked}
	defer func() { _ = report.Close() }()
	defer func() { _ = words.Close() }()

	var group goroutine.Group
	reported := make(chan []byte, 1)
	group.Go(func() {
		data, _ := io.ReadAll(io.LimitReader(report, maxReport)) // cut short it does not parse
		reported <- data
	})
	var last tail
	group.Go(func() { _, _ = io.Copy(&last, words) })

	data := w.await(reported)
	r, parsed := parse(data)
	var status *os.ProcessState
	if parsed == nil && r.Code == 0 {
		err = p.Release()
	} else {
		status, err = w.end()
	}
	// What it wrote before is in the pipe by now. A descendant may hold the other end for ever.
	if err := words.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return Report{}, fmt.Errorf("cannot read the daemon's stderr: %w", err)
	}
	group.Wait()
	drain(words, &last)
	r.Stderr = string(last)

	switch {
	case err != nil:
		return r, fmt.Errorf("cannot wait for the daemon: %w", err)
	case len(data) == 0:
		return r, fmt.Errorf("the daemon ended before it was ready: %s%s", ending(status), last.quote())
	case parsed != nil:
		return r, fmt.Errorf("the daemon's report makes no sense: %.80q: %w%s", data, parsed, last.quote())
	case r.Code == 0 && w.signals > 0:
		return r, errors.New("the start was interrupted: the daemon had just begun to serve and was told to stop")
	}
	return r, nil
}

// spawn starts the daemon and returns the ends on which it reports and writes its stderr.
func spawn(s self.Self) (p *os.Process, report, words *os.File, err error) {
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
	words, wordsEnd, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, errors.Join(err, report.Close())
	}
	defer func() { _ = wordsEnd.Close() }()

	env := append(s.Env[:len(s.Env):len(s.Env)], self.ReadyVariable+"="+strconv.Itoa(readyFD))
	release, err := self.HoldSignals()
	if err == nil {
		p, err = os.StartProcess(s.Path, s.Args, &os.ProcAttr{Dir: s.Dir, Env: env,
			Files: []*os.File{0: null, 1: null, 2: wordsEnd, readyFD: reportEnd},
			Sys:   &syscall.SysProcAttr{Setsid: true}})
		release()
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, report.Close(), words.Close())
	}
	return p, report, words, nil
}

// watch is the parent's care for the daemon while it starts.
type watch struct {
	process *os.Process
	asked   <-chan os.Signal
	signals int // that have been passed on
}

// pass passes a signal on: TERM, then KILL. That the daemon has ended shows elsewhere.
func (w *watch) pass() {
	w.signals++
	if w.signals == 1 {
		_ = w.process.Signal(syscall.SIGTERM)
	} else {
		_ = w.process.Kill()
	}
}

func (w *watch) await(reported <-chan []byte) []byte {
	for {
		select {
		case data := <-reported:
			return data
		case <-w.asked:
			w.pass()
		}
	}
}

// end waits for the end of a daemon that has failed, and makes it if it does not come.
func (w *watch) end() (*os.ProcessState, error) {
	var group goroutine.Group
	ended := make(chan struct{})
	var status *os.ProcessState
	var err error
	group.Go(func() {
		defer close(ended)
		status, err = w.process.Wait()
	})
	defer group.Wait()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case <-ended:
			return status, err
		case <-late.C:
			_ = w.process.Kill()
		case <-w.asked:
			w.pass()
		}
	}
}

// parse reads a report. A missing code must not pass for a 0.
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

// ending tells how a process ended, in the words of package job.
func ending(p *os.ProcessState) string {
	status, ok := p.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return "signal " + job.SignalName(status.Signal())
	}
	return "exit " + strconv.Itoa(p.ExitCode())
}

// tail keeps the end of what is written to it.
type tail []byte

func (t *tail) Write(b []byte) (int, error) {
	*t = append(*t, b...)
	if over := len(*t) - maxWords; over > 0 {
		*t = append((*t)[:0], (*t)[over:]...)
	}
	return len(b), nil
}

// quote is the text as the end of a one-line error.
func (t *tail) quote() string {
	words := strings.Join(strings.Fields(string(*t)), " ")
	if words == "" {
		return ""
	}
	if len(words) > 400 {
		words = words[:200] + " ... " + words[len(words)-200:]
	}
	return ": it said: " + strings.ToValidUTF8(words, "?")
}

// drain reads what is in the pipe without waiting for more, and not for ever if more keeps coming.
func drain(pipe *os.File, to io.Writer) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		var b [4096]byte
		for range 256 { // a megabyte; a pipe holds a sixteenth of it
			n, err := unix.Read(int(fd), b[:])
			if n <= 0 && !errors.Is(err, unix.EINTR) {
				return
			}
			_, _ = to.Write(b[:max(n, 0)])
		}
	})
}
