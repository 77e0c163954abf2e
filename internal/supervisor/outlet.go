package supervisor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"gophd/internal/credentials"
	"gophd/internal/line"
	"gophd/internal/logging"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/safefile"
)

// outlet receives the rest of a stream, byte for byte, that started in a pipe to gophd. It is used
// when the config now sends the output to a file, or to gophd's own output. The target may be
// stalled, and then the outlet gives up in bounded time like the log.
type outlet struct {
	runner *runner
	log    *logging.Log
	*logging.Stream
	name string
	file *os.File // to be closed at the end; nil for gophd's own output
}

var _ process.Rester = (*outlet)(nil)

// outlet returns an outlet that escalateOutlets reaches until it is closed.
func (r *runner) outlet(s process.HandedStream, name string, to, own *os.File) io.WriteCloser {
	log, err := logging.Open(logging.Options{Format: "simple", Echo: to, EchoName: name, EchoCommand: true,
		EchoExact: true})
	if err != nil {
		r.hooks.problem(err)
		return discard{}
	}
	o := &outlet{runner: r, log: log, Stream: log.Stream(streamName(s.Number), s.PID), name: name, file: own}
	r.mu.Lock()
	r.outlets = append(r.outlets, o)
	r.mu.Unlock()
	return resumeLine(o, s)
}

func (o *outlet) Close() error {
	_ = o.Stream.Close() // it never fails
	_ = o.log.Close()    // what it could not write is counted
	o.close()
	if err := o.lost(); err != nil {
		o.runner.hooks.problem(err)
	}
	o.runner.mu.Lock()
	defer o.runner.mu.Unlock()
	o.runner.outlets = slices.DeleteFunc(o.runner.outlets, func(other *outlet) bool { return other == o })
	return nil
}

// Rest ends the outlet, and returns what it has not written. The caller reports what is lost.
func (o *outlet) Rest() line.Rest {
	o.log.Leave() // the stream may have ended before PauseOutput
	rest := o.Stream.Rest()
	left, _ := o.log.Left() // it is closed nowhere else
	for _, l := range left {
		if len(l.Records) > 0 {
			rest = line.Rest{Bytes: append(l.Records, rest.Bytes...), Since: rest.Since}
		}
	}
	o.close()
	return rest
}

func (o *outlet) close() {
	if o.file != nil {
		_ = o.file.Close()
	}
}

// lost returns an error that says what could not be written; nil if nothing is lost.
func (o *outlet) lost() error {
	if s := o.log.Stats(); s.Dropped > 0 {
		return fmt.Errorf("%d lines of the command's output to %s are lost: %w", s.Dropped, o.name, s.Lost)
	}
	return nil
}

// escalateOutlets calls logging.Log.SetStopRequests for every outlet.
func (r *runner) escalateOutlets(times int) {
	for _, o := range r.allOutlets() {
		o.log.SetStopRequests(times)
	}
}

func (r *runner) allOutlets() []*outlet {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.outlets)
}

// openOutput opens the file that a command writes to itself. It does not block: a FIFO without a
// reader cannot be opened, which is ENXIO (open(2)). The job's user, if w has one, may own the file,
// and a new file belongs to it. If the file system does not allow that, problem is called, and the
// command can write to the file all the same.
func openOutput(path string, w *credentials.Credentials, problem func(error)) (*os.File, error) {
	give := func(f *os.File) error {
		if err := preflight.GiveOutput(f, w); err != nil {
			problem(err)
		}
		return nil
	}
	f, err := safefile.Create(path, os.O_WRONLY|os.O_APPEND|preflight.OpenFlags, 0o640, give, w.UIDs()...)
	switch rejected := (*safefile.Error)(nil); {
	case errors.As(err, &rejected):
		return nil, fmt.Errorf("cannot open the command's output: %w, or choose another --output", rejected)
	case errors.Is(err, syscall.ENXIO) && preflight.IsFIFO(path):
		return nil, fmt.Errorf("cannot open the command's output: %w: start its reader first", err)
	case err != nil:
		return nil, fmt.Errorf("cannot open the command's output: %w: %s", err, safefile.Fix(err, "choose another --output"))
	}
	return f, nil
}

// openInput opens the file that a command reads, see preflight.OpenInput.
func openInput(path string, w *credentials.Credentials) (*os.File, error) {
	f, err := preflight.OpenInput(path, w)
	switch rejected := (*safefile.Error)(nil); {
	case errors.As(err, &rejected):
		return nil, fmt.Errorf("cannot open the command's input: %w, or choose another --stdin", rejected)
	case err != nil:
		return nil, fmt.Errorf("cannot open the command's input: %w: %s", err, safefile.Fix(err, "choose another --stdin"))
	}
	return f, nil
}

// setBlocking sets the blocking mode that commands expect: they do not handle EAGAIN.
func setBlocking(f *os.File) error {
	return unix.SetNonblock(int(f.Fd()), false)
}
