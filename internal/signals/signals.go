// Package signals answers: which request does each signal stand for?
//
// Signals turns the signals that arrive by os/signal into requests, by one table. It also handles
// the other effects of signals on gophd: a stop by the terminal, a broken pipe, and signals that
// were ignored when gophd started. It does not decide about a request, does not signal other
// processes and does not restore the signal mask.
package signals

import (
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/request"
)

// row is a signal and what it requests.
type row struct {
	signal syscall.Signal
	verb   request.Verb
}

// table lists what each signal requests. Those without a verb are the stops by the terminal: a CONT
// after such a stop only ends it. A CONT that comes with another signal, of this table or of unused, is
// no request either: see together. Any other CONT requests a run. initTable is for process 1 only.
var table = []row{
	{syscall.SIGINT, request.Stop},
	{syscall.SIGTERM, request.Stop},
	{syscall.SIGHUP, request.Reload},
	{syscall.SIGUSR1, request.Dump},
	{syscall.SIGUSR2, request.Reopen},
	{syscall.SIGCONT, request.RunNow},
	{syscall.SIGTSTP, 0},
	{syscall.SIGTTIN, 0},
	{syscall.SIGTTOU, 0},
}

// maxRows is the number of rows of both tables. The select in read has a case for each.
const maxRows = 12

// together is how far apart a CONT and another signal may come and still be one act of the sender:
// systemd, timeout(1) and the kernel at the hangup of a terminal send CONT after their signal, in
// case the process is frozen. Either may arrive first. So a CONT waits that long before it is a
// request.
const together = 100 * time.Millisecond

// settle is how long a request waits for another of its kind, which is then the same: timeout(1)
// sends its signal to gophd and, a moment later, to the process group.
const settle = 20 * time.Millisecond

// unused lists what gophd does nothing about, except that a CONT that comes with it is no request.
// These are missing, because gophd also gets them without an act of a sender, and often, so that
// they would hide a CONT: CHLD at the end of each process, PIPE at each write to a broken pipe, and
// URG of the Go runtime. os/signal does not tell who has sent a signal.
var unused = append([]syscall.Signal{
	syscall.SIGALRM, syscall.SIGVTALRM, syscall.SIGWINCH, syscall.SIGIO, syscall.SIGXCPU, syscall.SIGXFSZ,
}, unusedHere()...)

// others receives the signals of unused, from the first seeUnused on, for good: they mean nothing, so
// none is kept for the new process.
var others = make(chan os.Signal, 1)

// unusedAfter is when a process begins to see the signals of unused. To notify of one takes two thread
// switches, 50 us, and there are 36: measured, a third of the time from the exec to the first run.
const unusedAfter = 50 * time.Millisecond

// seeUnused makes others receive the signals of unused that are not in rows.
var seeUnused = sync.OnceFunc(func() {
	rows := rows()
	for _, sig := range unused {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.signal == sig }) {
			signal.Notify(others, sig)
		}
	}
})

// rows returns the rows for this process.
func rows() []row {
	if os.Getpid() == 1 {
		return slices.Concat(table, initTable)
	}
	return table
}

// Signals receives the signals of the process. There is one per process.
//
// As in the kernel, a signal is not queued again while one of its kind waits to be read. Signals of
// one kind never displace those of another, however many come.
type Signals struct {
	rows    []row
	arrived [maxRows]chan os.Signal // one for each row; see read
	others  chan os.Signal          // those of unused; see seeUnused
	late    <-chan time.Time        // delivers when seeUnused is due; nil if it is not
	ignored []os.Signal             // at the start, and again after Close
	out     chan request.Request
	close   chan struct{}
	reader  goroutine.Group

	// Owned by the goroutine in read, and by Close after it.
	queue   []request.Request
	hold    <-chan time.Time // delivers when the queue may be sent; nil if it may
	stopped bool             // by the terminal; the next CONT ends that and is no request
	cont    <-chan time.Time // delivers when a CONT that waits is a request; nil if none waits
	other   time.Time        // when the last other signal arrived
}

// Listen starts listening. From then on a write to a broken pipe fails with EPIPE, on stdout and
// stderr too, and does not end gophd. This stays so after Close.
//
// HUP (nohup(1)) and INT are no requests if they were ignored when gophd was started. gophd keeps
// ignoring them. With INT it ignores QUIT too, because a shell's background command ignores both
// (POSIX, Shell & Utilities 2.12). Commands start with every signal at its default action, because
// their execve(2) resets caught signals. Package process sets their mask.
//
// Process 1, the first of a container, also stops on what container runtimes send it: the
// STOPSIGNAL of a container image may be QUIT (nginx, php-fpm) or RTMIN+3 (systemd), and LXC sends
// PWR. The kernel protects process 1 from signals that it does not catch, so the runtime would have
// to KILL it. In any other process QUIT is the stack dump of the Go runtime. WINCH, the STOPSIGNAL
// of some images, is no stop: a terminal sends it whenever its window changes.
//
// Two gaps: the Go runtime cannot tell whether other signals were ignored at the start, and treats
// them as not ignored. It leaves signals 32 to 34 as it found them.
func Listen() *Signals {
	s := &Signals{rows: rows(), others: others, late: time.After(unusedAfter),
		out: make(chan request.Request), close: make(chan struct{})}
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			s.ignored = append(s.ignored, sig)
		}
	}
	if signal.Ignored(syscall.SIGINT) {
		s.ignored = append(s.ignored, syscall.SIGQUIT)
	}

	// Commands would inherit an ignored signal, but not one that is caught and dropped. The channel
	// stays full after the first; os/signal never waits.
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGPIPE)
	for _, sig := range s.ignored {
		signal.Notify(unread, sig)
	}
	for i, row := range s.rows {
		if row.verb == request.RunNow && continued() {
			s.take(i)
		}
		s.arrived[i] = make(chan os.Signal, 1)
		if !slices.Contains(s.ignored, os.Signal(row.signal)) {
			signal.Notify(s.arrived[i], row.signal)
		}
	}
	s.reader.Go(s.read)
	return s
}

// C delivers the requests in the order in which the kernel delivers the signals, settle after the
// first of them, and one of a kind. It is never closed.
func (s *Signals) C() <-chan request.Request { return s.out }

// Close stops listening, waits for the goroutine, and returns the requests that had arrived and
// were not read. Later signals cause their default action, or wait in the kernel for the new
// process; see restart.Handoff.Exec. Close ignores again what was ignored at the start, as the new
// process needs.
func (s *Signals) Close() []request.Request {
	for _, c := range s.arrived {
		signal.Stop(c)
	}
	close(s.close)
	s.reader.Wait()
	for i, c := range s.arrived {
		select {
		case <-c:
			s.take(i)
		default:
		}
	}
	if s.cont != nil {
		s.add(syscall.SIGCONT, request.RunNow)
	}
	if len(s.ignored) > 0 {
		signal.Ignore(s.ignored...)
	}
	return s.queue
}

// read queues what arrives and sends it to C, until Close.
//
// os/signal drops a signal when its channel is full. A channel of capacity 1 is enough for one kind
// of signal, but a burst of one kind can fill a shared channel of any capacity. One goroutine for
// each kind, forwarding to a shared channel, would lose none, but would mix up signals that arrive
// within a millisecond.
func (s *Signals) read() {
	for a := &s.arrived; ; {
		var out chan request.Request // nil while the queue is empty, so that nothing is sent
		var next request.Request
		if len(s.queue) > 0 && s.hold == nil {
			out, next = s.out, s.queue[0]
		}
		select {
		case <-s.close:
			return
		case out <- next:
			s.queue = s.queue[1:]
		case <-s.hold:
			s.hold = nil
		case <-s.late:
			s.late = nil
			seeUnused()
		case <-s.others:
			s.cont, s.other = nil, time.Now()
		case <-s.cont:
			s.cont = nil
			s.add(syscall.SIGCONT, request.RunNow)
		case <-a[0]:
			s.take(0)
		case <-a[1]:
			s.take(1)
		case <-a[2]:
			s.take(2)
		case <-a[3]:
			s.take(3)
		case <-a[4]:
			s.take(4)
		case <-a[5]:
			s.take(5)
		case <-a[6]:
			s.take(6)
		case <-a[7]:
			s.take(7)
		case <-a[8]:
			s.take(8)
		case <-a[9]:
			s.take(9)
		case <-a[10]:
			s.take(10)
		case <-a[11]:
			s.take(11)
		}
	}
}

// take handles one signal of row i.
func (s *Signals) take(i int) {
	switch row := s.rows[i]; {
	case row.verb == 0:
		s.stopped = stop()
		s.cont, s.other = nil, time.Now()
	case row.verb == request.RunNow && s.stopped:
		s.stopped = false
	case row.verb == request.RunNow:
		if s.cont == nil && time.Since(s.other) >= together {
			s.cont = time.After(together)
		}
	default:
		s.cont, s.other = nil, time.Now()
		if len(s.queue) == 0 {
			s.hold = time.After(settle)
		}
		s.add(row.signal, row.verb)
	}
}

// add queues a request, unless the same is in the queue.
func (s *Signals) add(sig syscall.Signal, verb request.Verb) {
	r := request.Request{Verb: verb, From: "signal " + name(sig)}
	if !slices.Contains(s.queue, r) {
		s.queue = append(s.queue, r)
	}
}

// name returns job.SignalName, except for systemd's realtime signal.
func name(s syscall.Signal) string {
	if s == systemdHalt {
		return "RTMIN+3"
	}
	return job.SignalName(s)
}

// stop stops this process as the terminal requested, and returns whether it did. A session leader
// and PID 1 have no shell that would continue them. The kernel does not stop them either: their
// process group is orphaned, and POSIX ignores the default stop in such a group.
func stop() bool {
	pid := os.Getpid()
	if sid, err := unix.Getsid(0); pid == 1 || err != nil || sid == pid {
		return false
	}
	return unix.Kill(pid, syscall.SIGSTOP) == nil
}
