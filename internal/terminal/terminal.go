// Package terminal answers: how does a program show a screen that changes, and leave the terminal as it
// found it?
//
// A Terminal takes the terminal of stdin and stdout: raw mode, the alternate screen, no cursor. Draw shows
// the lines of a screen and writes only those that differ. What the user types and what happens to the
// terminal are Inputs. Close restores the terminal. So does a stop by TSTP or Ctrl-Z, until the program is
// continued.
//
// The package knows nothing of what is shown. It needs no database of terminals: it uses the sequences
// of ECMA-48 and of xterm that all of today's terminals have.
package terminal

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"gophd/internal/goroutine"
)

// Input is something that the user or the system did.
type Input struct {
	Key    string         // that was typed: a character, or the name of a key as in keys.go
	Resize bool           // the terminal has another size
	End    bool           // the program must end: by the signal, or because the terminal is gone
	Signal syscall.Signal // why, if it is a signal
}

// Terminal is a terminal on which a screen is shown. Any goroutine may call its methods.
type Terminal struct {
	in, out *os.File
	inputs  chan Input
	over    chan struct{} // closed by Close
	wake    [2]int        // a pipe that ends the wait for a key
	news    chan struct{} // capacity 1: there is something to draw
	stop    chan struct{} // capacity 1: the user wants to suspend the program
	resumed chan struct{} // capacity 1: CONT has continued the program
	signals chan os.Signal
	reading goroutine.Group // of the reader and the signals
	drawing goroutine.Group
	drawn   chan struct{} // closed when the goroutine of drawing has ended
	closing sync.Once

	mu     sync.Mutex // guards the fields below
	screen []string   // that is to be shown
	whole  bool       // every line must be written again

	// These belong to the goroutine of drawing.
	before *term.State // of the terminal, as it was found; nil while the program is suspended
	shown  []string
}

// Check returns why no screen can be shown on these files.
func Check(in, out *os.File) error {
	switch name := os.Getenv("TERM"); {
	case !term.IsTerminal(int(in.Fd())):
		return errors.New("stdin is not a terminal")
	case !term.IsTerminal(int(out.Fd())):
		return errors.New("stdout is not a terminal")
	case name == "" || name == "dumb":
		return fmt.Errorf("the terminal (TERM=%s) cannot show a screen that changes", name)
	}
	return nil
}

// Open takes the terminal. The caller reads Inputs and calls Close.
func Open(in, out *os.File) (*Terminal, error) {
	if err := Check(in, out); err != nil {
		return nil, err
	}
	t := &Terminal{in: in, out: out, inputs: make(chan Input), over: make(chan struct{}), news: make(chan struct{}, 1),
		stop: make(chan struct{}, 1), resumed: make(chan struct{}, 1), drawn: make(chan struct{}),
		signals: make(chan os.Signal, 8)}
	if err := unix.Pipe(t.wake[:]); err != nil {
		return nil, fmt.Errorf("cannot create a pipe: %w", err)
	}
	unix.CloseOnExec(t.wake[0])
	unix.CloseOnExec(t.wake[1])
	signal.Notify(t.signals, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGINT, syscall.SIGTERM,
		syscall.SIGHUP, syscall.SIGQUIT)
	if err := t.enter(); err != nil {
		signal.Stop(t.signals)
		return nil, errors.Join(fmt.Errorf("cannot set up the terminal: %w", err), unix.Close(t.wake[0]), unix.Close(t.wake[1]))
	}
	t.reading.Go(t.readKeys)
	t.reading.Go(t.readSignals)
	t.drawing.Go(t.draw)
	return t, nil
}

// Inputs returns the channel of all Inputs.
func (t *Terminal) Inputs() <-chan Input { return t.inputs }

// Size returns the columns and lines of the terminal.
func (t *Terminal) Size() (width, height int) {
	width, height, err := term.GetSize(int(t.out.Fd()))
	if err != nil || width == 0 || height == 0 { // a serial console does not know
		return 80, 24
	}
	return width, height
}

// Draw shows these lines, the first one at the top. A line may have sequences for colors and must not be
// wider than the terminal. It does not block: on a terminal that does not read, screens are left out.
func (t *Terminal) Draw(lines []string) {
	t.mu.Lock()
	t.screen = lines
	t.mu.Unlock()
	notice(t.news)
}

// Redraw makes the next screen be written as a whole.
func (t *Terminal) Redraw() {
	t.mu.Lock()
	t.whole = true
	t.mu.Unlock()
	notice(t.news)
}

func notice(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// closeTime is how long Close waits for a terminal that does not read.
const closeTime = time.Second

// Close restores the terminal. A panic of one of its goroutines is repeated after that.
func (t *Terminal) Close() {
	t.closing.Do(func() {
		close(t.over)
		signal.Stop(t.signals)
		_, _ = unix.Write(t.wake[1], []byte{0}) // the pipe is empty
		select {
		case <-t.drawn:
			t.leave()
			t.drawing.Wait()
		case <-time.After(closeTime): // nobody can wait for its write, which has the terminal as it is now
			if before := t.before; before != nil {
				_ = term.Restore(int(t.in.Fd()), before)
			}
		}
		t.reading.Wait()
		_, _ = unix.Close(t.wake[0]), unix.Close(t.wake[1])
	})
}

// The sequences of xterm (ctlseqs.html): alternate screen, cursor, wrap at the right border.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[0m\x1b[2J"
	leaveScreen = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
)

func (t *Terminal) enter() error {
	before, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return err
	}
	if t.before == nil {
		t.before = before
	}
	t.shown = nil
	_, err = t.out.WriteString(enterScreen)
	return err
}

// leave restores the terminal. Nothing can be done if it is gone.
func (t *Terminal) leave() {
	if t.before == nil {
		return // enter has failed
	}
	_, _ = t.out.WriteString(leaveScreen)
	_ = term.Restore(int(t.in.Fd()), t.before)
}

// draw writes the screens, until Close.
func (t *Terminal) draw() {
	defer close(t.drawn)
	defer t.send(Input{End: true}) // after a panic too
	for {
		select {
		case <-t.over:
			return
		case <-t.stop:
			if !t.suspend() {
				return
			}
		case <-t.resumed: // it was stopped by a signal that cannot be caught
			if t.enter() != nil {
				return
			}
			t.send(Input{Resize: true})
		case <-t.news:
			t.mu.Lock()
			screen, whole := t.screen, t.whole
			t.whole = false
			t.mu.Unlock()
			if whole {
				t.shown = nil
			}
			if _, err := t.out.WriteString(difference(t.shown, screen)); err != nil {
				return
			}
			t.shown = screen
		}
	}
}

// difference returns what to write so that a terminal which shows some lines shows others. Without lines
// that are shown the whole screen is written.
func difference(shown, lines []string) string {
	var b strings.Builder
	if shown == nil {
		b.WriteString("\x1b[0m\x1b[2J")
	}
	for i := range max(len(shown), len(lines)) {
		line := ""
		if i < len(lines) {
			line = lines[i]
		}
		if i < len(shown) && shown[i] == line {
			continue
		}
		// The line is erased first: at the right border the cursor stays on the last character.
		fmt.Fprintf(&b, "\x1b[%d;1H\x1b[0m\x1b[K%s", i+1, line)
	}
	return b.String()
}

// suspend restores the terminal, stops the program, and takes the terminal again. It returns false if the
// terminal is gone.
func (t *Terminal) suspend() bool {
	// In the process group of the session leader there is no shell that could continue the program. The
	// kernel ignores TSTP there, too (POSIX: an orphaned process group).
	if sid, err := unix.Getsid(0); err != nil || unix.Getpgrp() == sid {
		return true
	}
	t.leave()
	t.before = nil // the user may change it meanwhile
	select {       // one from before
	case <-t.resumed:
	default:
	}
	// os/signal cannot give TSTP its default action again. What the terminal would stop is the group.
	if unix.Kill(0, unix.SIGSTOP) == nil {
		<-t.resumed
	}
	if t.enter() != nil {
		return false
	}
	t.send(Input{Resize: true})
	return true
}

// send passes an Input to the reader of Inputs, unless the Terminal is being closed.
func (t *Terminal) send(i Input) {
	select {
	case t.inputs <- i:
	case <-t.over:
	}
}

// readSignals passes the signals on, until Close.
func (t *Terminal) readSignals() {
	defer t.send(Input{End: true})
	for {
		select {
		case <-t.over:
			return
		case s := <-t.signals:
			switch s {
			case syscall.SIGWINCH:
				t.Redraw() // what the terminal shows after a change of its size is not known
				t.send(Input{Resize: true})
			case syscall.SIGTSTP:
				notice(t.stop)
			case syscall.SIGCONT:
				notice(t.resumed)
			default:
				t.send(Input{End: true, Signal: s.(syscall.Signal)})
			}
		}
	}
}
