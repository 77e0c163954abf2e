// Package signals answers: what did the kernel say?
//
// Signals turns what arrives by os/signal into orders, by one table. It also sees to what signals do to
// gophd besides: a stop by the terminal, a broken pipe, and what was ignored when gophd started. It
// decides nothing about an order, sends no signal to anyone else and restores no mask.
package signals

import (
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/order"
)

// row is what a signal asks for.
type row struct {
	signal syscall.Signal
	verb   order.Verb
}

// table is what each signal asks for. Those without a verb are the stops by the terminal, which is what
// distinguishes a CONT that wakes from one that only ends such a stop. initTable is for process 1 only.
var table = []row{
	{syscall.SIGINT, order.Stop},
	{syscall.SIGTERM, order.Stop},
	{syscall.SIGHUP, order.Restart},
	{syscall.SIGUSR1, order.Dump},
	{syscall.SIGUSR2, order.Reopen},
	{syscall.SIGCONT, order.Wake},
	{syscall.SIGTSTP, 0},
	{syscall.SIGTTIN, 0},
	{syscall.SIGTTOU, 0},
}

// maxRows is the number of rows of both tables. The select of keep has a case for each.
const maxRows = 12

// Signals listens to the kernel. There is one in a process, since signals are the process's.
//
// A signal of which one waits to be read already is not queued twice, as in the kernel; signals of
// different kinds are never lost to each other, however many come.
type Signals struct {
	rows    []row
	arrived [maxRows]chan os.Signal // one for each row; see keep
	ignored []os.Signal             // at the start, and to be again after Close
	out     chan order.Order
	close   chan struct{}
	keeper  goroutine.Group

	// Owned by the keeper, and by Close after it.
	queue   []order.Order
	stopped bool // by the terminal; the next CONT ends that and is no order
}

// Listen starts listening. From then on a write to a broken pipe fails with EPIPE also on stdout and
// stderr and does not end gophd, and that stays so after Close.
//
// HUP (nohup(1)) and INT that were ignored when gophd was started are no orders; gophd goes on to
// ignore them, QUIT too with the latter, because a shell's background command ignores both (POSIX,
// Shell & Utilities 2.12). Commands find every signal at its default action, since what is caught is
// reset by their execve(2); that those start from an empty mask is their spawner's business.
//
// Process 1, the first of a container, is stopped by what container runtimes send it, too: the STOPSIGNAL of an image
// may be QUIT (nginx, php-fpm) or RTMIN+3 (systemd), and LXC sends PWR. The kernel protects process 1 from signals that it
// does not catch, so one that is not understood would be answered by the runtime's KILL. To all others QUIT is the
// dump of Go's runtime. WINCH, some images' too, is no stop: a terminal sends it whenever its window changes.
//
// Two gaps:
// the Go runtime cannot tell for other signals whether they were ignored at the start and takes them as
// not, and leaves signals 32 to 34 as it found them.
func Listen() *Signals {
	s := &Signals{rows: table, out: make(chan order.Order), close: make(chan struct{})}
	if os.Getpid() == 1 {
		s.rows = slices.Concat(table, initTable)
	}
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(sig) {
			s.ignored = append(s.ignored, sig)
		}
	}
	if signal.Ignored(syscall.SIGINT) {
		s.ignored = append(s.ignored, syscall.SIGQUIT)
	}

	// Caught and thrown away is not ignored: it does not pass to commands. The channel is full for
	// ever after the first, and os/signal never waits.
	nobody := make(chan os.Signal, 1)
	signal.Notify(nobody, syscall.SIGPIPE)
	for _, sig := range s.ignored {
		signal.Notify(nobody, sig)
	}
	for i, row := range s.rows {
		if row.verb == order.Wake && continued() {
			s.take(i)
		}
		s.arrived[i] = make(chan os.Signal, 1)
		if !slices.Contains(s.ignored, os.Signal(row.signal)) {
			signal.Notify(s.arrived[i], row.signal)
		}
	}
	s.keeper.Go(s.keep)
	return s
}

// C delivers the orders in the order of their arrival as far as the kernel tells it. It is never closed.
func (s *Signals) C() <-chan order.Order { return s.out }

// Close stops listening, waits for the goroutine, and returns what had arrived and was not read. Signals
// that come later meet the default action, or wait in the kernel for the next image; see
// restart.Handoff.Exec. What was ignored at the start is ignored again, so that the next image finds it so.
func (s *Signals) Close() []order.Order {
	for _, c := range s.arrived {
		signal.Stop(c)
	}
	close(s.close)
	s.keeper.Wait()
	for i, c := range s.arrived {
		select {
		case <-c:
			s.take(i)
		default:
		}
	}
	if len(s.ignored) > 0 {
		signal.Ignore(s.ignored...)
	}
	return s.queue
}

// keep queues what arrives and offers it, until Close.
//
// os/signal drops a signal when its channel is full, and one of capacity 1 is enough for one kind
// only: a burst of one kind can fill a shared channel of any capacity. One goroutine for each kind
// that forwards to a shared channel loses none, but it mixes up the order of signals that arrive
// within a millisecond.
func (s *Signals) keep() {
	for a := &s.arrived; ; {
		var out chan order.Order // nil while the queue is empty, so that nothing is sent
		var next order.Order
		if len(s.queue) > 0 {
			out, next = s.out, s.queue[0]
		}
		select {
		case <-s.close:
			return
		case out <- next:
			s.queue = s.queue[1:]
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

// take does what one signal of row i asks for.
func (s *Signals) take(i int) {
	switch row := s.rows[i]; {
	case row.verb == 0:
		s.stopped = stop()
	case row.verb == order.Wake && s.stopped:
		s.stopped = false
	default:
		o := order.Order{Verb: row.verb, From: "signal " + name(row.signal)}
		if !slices.Contains(s.queue, o) {
			s.queue = append(s.queue, o)
		}
	}
}

// name is that of job.SignalName, but for the one realtime signal that we know by its part.
func name(s syscall.Signal) string {
	if s == stopOfSystemd {
		return "RTMIN+3"
	}
	return job.SignalName(s)
}

// stop does what the terminal asked for, and says whether it did. A session's leader and PID 1 have
// no shell that would ever continue them, and the kernel would not stop them either: POSIX ignores
// the default stop in an orphaned process group, which theirs is.
func stop() bool {
	pid := os.Getpid()
	if sid, err := unix.Getsid(0); pid == 1 || err != nil || sid == pid {
		return false
	}
	return unix.Kill(pid, syscall.SIGSTOP) == nil
}
