// Package restart answers: when and how do we become a new image?
//
// A Handoff is what one image of gophd passes to the next: plain state and open descriptors. Exec puts
// it into an anonymous file and replaces the program in place, by execve(2): the PID, the parent, the
// children, the session and every lock on a passed descriptor stay as they are, so to the world
// nothing has ended. Inherit is the other end. A Guard says whether a fatal error may be answered by a
// restart, so that a broken image cannot do it in a storm. Whether to restart, and what the state
// means, is not decided here; nor is the new binary tried first.
package restart

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/fault"
	"gophd/internal/order"
	"gophd/internal/procfs"
	"gophd/internal/self"
)

// Version is that of the handoff, which both processes must know: one that is not understood in full
// would leave runs behind.
const Version = 3

// MaxSize bounds a handoff on both sides, so that what Exec writes Inherit reads.
const MaxSize = 16 << 20

// Handoff is what one image passes to the next.
type Handoff struct {
	Instance string        // the instance id, the same for all images of a daemon
	Daemon   bool          // detached from the terminal
	Born     time.Time     // first start of this daemon, by the wall clock of then
	Began    time.Duration // the same by the boot clock, for the uptime; 0 from an image that did not tell
	Restarts int           // images before this one
	Guard    Guard         // the storm guard's memory

	// Config is what the new process uses, validated by the preflight; nil if it must load the config
	// itself. Previous is what the old one used. Both are encoded by package config and not read here.
	Config, Previous json.RawMessage `json:",omitempty"`

	State  json.RawMessage // of the jobs and all that serves them; not read here
	Orders []order.Order   // that have arrived and are not carried out

	// Files are descriptors to be kept open, by name. Their offsets, locks and modes stay, since they
	// remain the same open file descriptions; deadlines do not.
	Files map[string]*os.File `json:"-"`
}

// Grid is where a job's loop stands in time.
type Grid struct {
	Anchor   Instant       // tick 0
	Tick     uint64        // the next tick is due at Anchor + Tick × Interval
	Interval time.Duration // of this grid
	Runs     uint64        // number of the last run
}

// Instant is a moment as a reading of CLOCK_MONOTONIC in nanoseconds, which is the same clock for
// both images. A time.Time cannot be passed on: its monotonic reading is Go's secret, and counts from
// the start of the process.
type Instant int64

// At is the instant of t, which must have a monotonic reading or be of now's wall clock; 0 is that of the
// zero time. At and Time are true to the fraction of a microsecond between two readings of the clock.
func At(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	i, now := clocks()
	return i - Instant(now.Sub(t))
}

// Time is the moment in this process, with its monotonic reading; the zero time for 0.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	at, now := clocks()
	return now.Add(time.Duration(i - at))
}

// clocks reads both clocks at the same moment. A thread that waits for a processor between two readings
// would move the moment by all of its wait, so the closest of some readings counts.
func clocks() (at Instant, now time.Time) {
	const near, tries = 2 * time.Microsecond, 20
	closest := Instant(math.MaxInt64)
	for range tries {
		before := monotonic()
		t := time.Now()
		if apart := monotonic() - before; apart < closest {
			closest, at, now = apart, before+apart/2, t
		}
		if closest <= Instant(near) {
			break
		}
	}
	return at, now
}

func monotonic() Instant {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(fmt.Errorf("restart: cannot read the monotonic clock: %w", err)) // POSIX lets no such clock fail
	}
	return Instant(t.Nano())
}

// wire is the hand-over as it is written: the Handoff under a seal that says whom it is for.
type wire struct {
	Version int
	PID     int    // execve keeps it; another one has got the descriptor by accident
	BootID  string // of this boot of the kernel, for the instants; "" where there is none
	Handoff
	Descriptors map[string]int
	Shielded    []syscall.Signal // ignored by Exec, and not by whoever started the daemon
}

// ErrUnreadable is that a handoff cannot be decoded. What the old process has left is not known then.
var ErrUnreadable = errors.New("it cannot be read")

// Inherit returns what the image before this one passed on, or nil when there was none. Its files get
// close-on-exec again. An error says why a hand-over that is there cannot be used; the state in it is
// lost then, and descriptors that it may name are left alone, for they may be another's.
func Inherit(s self.Self) (*Handoff, error) {
	if s.Handoff == "" {
		return nil, nil
	}
	h, err := inherit(s.Handoff)
	if err != nil {
		return nil, fmt.Errorf("cannot use the handoff %s=%.40q: %w: unset it, or start gophd anew",
			self.HandoffVariable, s.Handoff, err)
	}
	return h, nil
}

func inherit(number string) (*Handoff, error) {
	fd, err := strconv.Atoi(number)
	if err != nil || fd < 3 {
		return nil, errors.New("not the number of a descriptor above 2")
	}
	data, err := readAll(fd)
	if err != nil {
		return nil, err
	}
	w, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if pid := os.Getpid(); w.PID != pid {
		return nil, fmt.Errorf("it is for process %d, and this is %d", w.PID, pid)
	}
	if id := bootID(); w.BootID != id {
		return nil, fmt.Errorf("it is from another boot of this machine, %.40q", w.BootID)
	}
	for _, name := range slices.Sorted(maps.Keys(w.Descriptors)) {
		n := w.Descriptors[name]
		if n == fd {
			return nil, fmt.Errorf("it names itself as %.40q", name)
		}
		if _, err := unix.FcntlInt(uintptr(n), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, fmt.Errorf("descriptor %d, %.40q, is not open: %v", n, name, err)
		}
	}
	catch(w.Shielded)
	w.Files = make(map[string]*os.File, len(w.Descriptors))
	for name, n := range w.Descriptors {
		w.Files[name] = os.NewFile(uintptr(n), name)
	}
	return &w.Handoff, unix.Close(fd)
}

// readAll reads the regular file behind fd from its beginning. Anything else could block, or lose
// what it was asked for.
func readAll(fd int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("the descriptor is not open: %v", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("the descriptor is not that of a regular file")
	}
	if st.Size > MaxSize {
		return nil, fmt.Errorf("the file has %d bytes, more than %d", st.Size, MaxSize)
	}
	data := make([]byte, st.Size)
	for have := 0; have < len(data); {
		n, err := unix.Pread(fd, data[have:], int64(have))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case n == 0:
			return data[:have], nil
		default:
			have += n
		}
	}
	return data, nil
}

// decode reads a hand-over and checks all of it that can be checked without the kernel.
func decode(data []byte) (wire, error) {
	var w wire
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&w); err != nil {
		return wire{}, fmt.Errorf("it is not whole: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return wire{}, errors.New("there is more than one value in it")
	}
	if w.Version != Version {
		return wire{}, fmt.Errorf("its version is %d, and this gophd reads %d", w.Version, Version)
	}
	if w.Restarts < 0 {
		return wire{}, fmt.Errorf("it counts %d restarts", w.Restarts)
	}
	for _, o := range w.Orders {
		if !slices.Contains(order.Verbs[:], o.Verb) {
			return wire{}, fmt.Errorf("it has an order %d, which there is not", o.Verb)
		}
	}
	for _, s := range w.Shielded {
		if s != syscall.SIGINT && s != syscall.SIGHUP {
			return wire{}, fmt.Errorf("it shields signal %d, which is not to be shielded", int(s))
		}
	}
	seen := map[int]bool{}
	for name, fd := range w.Descriptors {
		if fd < 3 || seen[fd] {
			return wire{}, fmt.Errorf("descriptor %d, %.40q, is a standard one or named twice", fd, name)
		}
		seen[fd] = true
	}
	return w, nil
}

// Exec replaces this image by the program at s.Path, with the arguments, folder and environment of s,
// and passes h on. It returns only if that failed, with the reason, and then this image can go on as
// before: descriptors, signal mask and working directory are as they were. Only the limit of open
// files may have gone back to what gophd was started with, and INT and HUP do nothing until
// signal.Notify asks for them again.
//
// Call it last: nothing that runs here survives, output that is buffered is lost, and no other
// goroutine may start a program or use a relative path meanwhile (the first would wait, the second be
// led astray). When INT and HUP can do no harm any more, hush is called: it stops listening to signals, and returns
// what had arrived, which h passes on but for what asks for a restart. If Exec fails, that may or may not have been.
//
// What becomes of a signal that comes between hush and the signal.Notify of the next
// image, some milliseconds: USR1, USR2 and CONT wait in the kernel and are delivered then, if this image
// was itself started with them blocked; INT and HUP are dropped and do no harm, so an INT may have to
// be repeated, and a HUP is served by the restart that is under way; TERM ends the process. The last is
// the known gap: the Go runtime unblocks TERM and installs a deadly handler for it before main, and a
// TERM that ends gophd is better than one that is lost. All others that can be caught do nothing, as without a restart.
func (h *Handoff) Exec(s self.Self, hush func() []order.Order) error {
	if err := h.exec(s, hush); err != nil {
		return fmt.Errorf("cannot become %s: %w: put a working program there and restart again", s.Path, err)
	}
	return nil
}

func (h *Handoff) exec(s self.Self, hush func() []order.Order) error {
	if err := awaitDisk(); err != nil {
		return err
	}
	release, err := self.HoldSignals()
	if err != nil {
		return err
	}
	defer release()
	shielded := shielded()
	defer catch(shielded)
	catch(shielded) // or they would end us between hush and their being ignored
	h.hear(hush())
	for _, s := range shielded {
		signal.Ignore(s)
	}
	fault.At("signals closed")

	w := wire{Version: Version, PID: os.Getpid(), BootID: bootID(), Handoff: *h,
		Descriptors: map[string]int{}, Shielded: shielded}
	var kept []int
	for name, f := range h.Files {
		fd, err := number(f)
		if err != nil {
			return fmt.Errorf("the descriptor %q to be kept: %w", name, err)
		}
		w.Descriptors[name] = fd
		kept = append(kept, fd)
	}
	file, err := w.write()
	if err != nil {
		return fmt.Errorf("the hand-over: %w", err)
	}
	defer func() { _ = file.Close() }()
	fd, err := number(file)
	if err != nil {
		return fmt.Errorf("the hand-over: %w", err)
	}
	kept = append(kept, fd)

	// No fork may see the descriptors without close-on-exec.
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	for _, fd := range kept {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("keep descriptor %d: %w", fd, err)
		}
		defer unix.CloseOnExec(fd)
	}

	home, err := unix.Open(".", openFolder|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the working directory: %w", err)
	}
	defer func() { _ = unix.Close(home) }()
	if err := unix.Chdir(s.Dir); err != nil {
		return fmt.Errorf("return to the folder %s: %w", s.Dir, err)
	}
	defer func() { _ = unix.Fchdir(home) }()

	fault.At("exec")
	env := append(slices.Clip(s.Env), self.HandoffVariable+"="+strconv.Itoa(fd))
	return syscall.Exec(s.Path, s.Args, env)
}

// diskTime is how long an exec is put off for a disk that does not answer.
const diskTime = time.Second

// awaitDisk returns when no thread is in a call that the exec would wait for, in the kernel.
func awaitDisk() error {
	for end := time.Now().Add(diskTime); procfs.WaitsForDisk(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("a disk does not answer")
		}
	}
	return nil
}

// hear adds the orders that still mean something to the next image: one more restart is what is happening.
func (h *Handoff) hear(orders []order.Order) {
	for _, o := range orders {
		if o.Verb != order.Restart {
			h.Orders = append(h.Orders, o)
		}
	}
}

// shielded are those of INT and HUP that are not ignored already. To ignore them makes them harmless to the next image,
// in which the runtime leaves what is ignored alone until it is asked for.
func shielded() []syscall.Signal {
	return slices.DeleteFunc([]syscall.Signal{syscall.SIGINT, syscall.SIGHUP},
		func(s syscall.Signal) bool { return signal.Ignored(s) })
}

// catch makes signals harmless to this image until they are asked for: nobody reads this channel. And os/signal forgets
// that it found them ignored, which is the mark of nohup(1).
func catch(shielded []syscall.Signal) {
	nobody := make(chan os.Signal, 1)
	for _, s := range shielded {
		signal.Notify(nobody, s)
	}
}

// number is f's descriptor, without the change to blocking mode that f.Fd makes and that the next
// image would find.
func number(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	fd := -1
	if raw.Control(func(n uintptr) { fd = int(n) }) != nil {
		return 0, os.ErrClosed // whose own error says the same and is not it
	}
	return fd, nil
}

// write puts the hand-over into an anonymous file.
func (w *wire) write() (*os.File, error) {
	data, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	if _, err := decode(data); err != nil {
		return nil, err // better found here, where gophd can go on, than by the next image
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%d bytes are more than %d", len(data), MaxSize)
	}
	f, err := anonymous()
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(data); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
