package supervisor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"gophd/internal/logging"
	"gophd/internal/process"
	"gophd/internal/safefile"
	"gophd/internal/world"
)

// outlet is where the rest of a stream goes, byte for byte, whose beginning went through a pipe of ours, when the
// config now sends the output to a file or to where gophd's own goes. Whatever that is may be stuck, and has to be
// given up as the log is.
type outlet struct {
	runner *runner
	log    *logging.Log
	stream *logging.Stream
	name   string
	file   *os.File // to be closed at the end; nil for gophd's own
}

var _ process.Rester = (*outlet)(nil)

// outlet makes one that can be hurried and given up until it has ended.
func (r *runner) outlet(s process.HandedStream, name string, to, own *os.File) io.WriteCloser {
	log, err := logging.Open(logging.Options{Format: "simple", Echo: to, EchoName: name, EchoCommand: true, EchoExact: true})
	if err != nil {
		r.hooks.trouble(err)
		return nowhere{}
	}
	o := &outlet{runner: r, log: log, stream: log.Stream("", s.PID, nil), name: name, file: own}
	r.mu.Lock()
	r.outlets = append(r.outlets, o)
	r.mu.Unlock()
	return begun(o, s)
}

func (o *outlet) Write(b []byte) (int, error) { return o.stream.Write(b) }

func (o *outlet) Close() error {
	_ = o.stream.Close() // it has no error
	_ = o.log.Close()    // what it could not bring out is counted
	o.close()
	if err := o.lost(); err != nil {
		o.runner.hooks.trouble(err)
	}
	o.runner.mu.Lock()
	defer o.runner.mu.Unlock()
	o.runner.outlets = slices.DeleteFunc(o.runner.outlets, func(other *outlet) bool { return other == o })
	return nil
}

// Rest ends it, and returns what it has not written. What is lost is left to who hands over.
func (o *outlet) Rest() []byte {
	rest := o.stream.Rest()
	left, _ := o.log.Left() // it is closed nowhere else
	for _, l := range left {
		rest = append(l.Records, rest...)
	}
	o.close()
	return rest
}

func (o *outlet) close() {
	if o.file != nil {
		_ = o.file.Close()
	}
}

// lost says what did not get through.
func (o *outlet) lost() error {
	if s := o.log.Stats(); s.Dropped > 0 {
		return fmt.Errorf("%d lines of the command's output to %s are lost: %w", s.Dropped, o.name, s.Lost)
	}
	return nil
}

// hurryOutlets is logging.Log.Hurry for every outlet.
func (r *runner) hurryOutlets(times int) {
	for _, o := range r.allOutlets() {
		o.log.Hurry(times)
	}
}

func (r *runner) allOutlets() []*outlet {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.outlets)
}

// openOutput opens the file that a command writes to itself. It waits for nobody: a FIFO that nobody reads cannot
// be opened, which is ENXIO (open(2)). The job's user, if w has one, may own the file.
func openOutput(path string, w *world.World) (*os.File, error) {
	f, err := safefile.Open(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640, w.UIDs()...)
	switch refused := (*safefile.Error)(nil); {
	case errors.As(err, &refused):
		return nil, fmt.Errorf("cannot open the command's output: %w (job.output)", refused)
	case errors.Is(err, syscall.ENXIO):
		return nil, fmt.Errorf("cannot open the command's output: %w: let somebody read it first", err)
	case err != nil:
		return nil, fmt.Errorf("cannot open the command's output: %w: check job.output", err)
	}
	return f, nil
}

func isFIFO(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeNamedPipe != 0
}

// openInput opens the file that a command reads. It waits for nobody either: a FIFO that nobody has open for writing
// is empty.
func openInput(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the command's input: %w: check job.stdin", err)
	}
	return f, nil
}

// asCommandsExpect takes from a file the mode in which it was opened here: a command knows nothing of EAGAIN.
func asCommandsExpect(f *os.File) error {
	return unix.SetNonblock(int(f.Fd()), false)
}
