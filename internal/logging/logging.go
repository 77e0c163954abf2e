package logging

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"gophd/internal/goroutine"
)

const (
	ownLimit     = 1 << 20 // pending bytes from which gophd's own lines are dropped
	commandLimit = 1 << 18 // pending bytes from which the command waits; the rest of ownLimit is left to gophd
	maxLine      = 1 << 16 // bytes of a command's line that make one record; of syslog's maxSyslog

	stuckTime  = 10 * time.Second      // without any progress, after which a sink is stuck and no longer slow
	fileTime   = 30 * time.Second      // the same for a regular file that is written by a program that ends
	readerTime = 10 * time.Second      // the same for what somebody reads
	abortTime  = time.Second           // for a write that cannot be called back
	awaitTick  = 50 * time.Millisecond // between two looks at a sink that is to end
	returnTime = 10 * time.Second      // for one that was, and returns as soon as its goroutine gets a processor
)

// Options say where lines go and how they look.
type Options struct {
	// File is an absolute path, which may hold %Y %m %d %H and others of strftime, in local time; or
	// "journald:TAG" or "syslog:TAG", where no TAG means gophd; or "", no file.
	File   string
	Format string        // simple, json or console; the services have their own
	Level  zerolog.Level // gophd's own lines below it are dropped

	OnFull string // what becomes of the command's lines when File cannot be written, or is stuck: drop, or block; "" is drop

	Echo        io.Writer     // gophd's stderr, or nil; it stays the caller's to close
	EchoName    string        // what Echo is, in messages; "" is stderr
	EchoLevel   zerolog.Level // own lines from this level on go to Echo as well
	EchoCommand bool          // the command's lines go to Echo as well
	EchoColor   bool          // Echo is a terminal that shows colours (format console only)
	EchoExact   bool          // Echo gets the command's bytes as they are, with no time and no name, and no word of gophd's own, not even on what was lost

	Job string // named in every json line
	PID int    // gophd's own

	Losses Losses // of an earlier Log in whose place this one comes
	Left   []Left // what that Log has left to be written

	// The rest is about regular files; nothing else is rotated.

	RotateSize int64         // bytes that a file may have before it becomes an archive; 0 is any number
	RotateAge  time.Duration // how long after its first line the next line makes an archive of it; 0 is never
	Keep       int           // archives that are kept, the newest; 0 is all
	KeepBytes  int64         // that the archives may have together; 0 is any number
	Compress   bool          // archives by gzip

	Mode  os.FileMode // of new files; 0 is 0640 less the umask
	Owner *Owner      // of new files; nil is whom the system chooses
	// Trusted are further users who may own an existing file where others can create files: safefile.Open.
	Trusted []int
	Sync    string // when lines are brought to the disk: never, second or always; "" is never
}

// Losses are lines that could not be written.
type Losses struct {
	Lines  uint64 `json:",omitempty"` // in all
	Untold uint64 `json:",omitempty"` // of which the log itself does not tell yet: the first write that works again is preceded by that
	Why    string `json:",omitempty"` // the last ones were lost
}

// Owners returns the users who may own an existing log file, besides root and gophd's own user.
func (o Options) Owners() []int {
	if o.Owner == nil || o.Owner.UID < 0 {
		return o.Trusted
	}
	return append(slices.Clone(o.Trusted), o.Owner.UID)
}

// Owner is the user and group of a file. -1 changes nothing, as in chown(2).
type Owner struct{ UID, GID int }

// The words of Options.OnFull.
const (
	onFullDrop  = "drop"
	onFullBlock = "block"
)

// The words of Options.Sync.
const (
	syncNever  = "never"
	syncSecond = "second" // at most a second after they were written, and when a file is finished
	syncAlways = "always" // before the next lines are written
)

// Log takes lines and writes them. Its methods may be called from any goroutine.
type Log struct {
	echoName string
	forms    []format // those in which a sink wants the command's lines
	level    zerolog.Level
	file     *file // nil without a file
	sinks    []*sink

	maxLine int // bytes of a command's line that make one record
	trouble chan struct{}
	hasted  chan struct{} // Hurry was called
	timeLimits
	writers goroutine.Group

	mu      sync.Mutex // guards the fields below and those that sink names
	state   state
	paused  bool       // see Pause
	leaving bool       // see Leave
	hurry   int        // see Hurry
	hurried time.Time  // when it began; the time without progress counts from then on
	room    *sync.Cond // broadcast when a sink has taken its buffer, and at each change of state
}

// timeLimits are how long the Log waits for a sink, see stuckTime and the constants after it. Tests set
// shorter times.
type timeLimits struct {
	stuckTime  time.Duration
	fileTime   time.Duration
	readerTime time.Duration
	abort      time.Duration
	returns    time.Duration
}

// The states of a Log; doc.go has the table.
type state uint8

const (
	running state = iota
	draining
	closed
)

// Open makes the log and opens its file. It waits neither for the reader of a FIFO nor for a service.
func Open(o Options) (*Log, error) {
	return openLog(o, sockets{"/run/systemd/journal/socket", syslogSocket()})
}

func openLog(o Options, at sockets) (*Log, error) {
	o.Sync, o.OnFull = cmp.Or(o.Sync, syncNever), cmp.Or(o.OnFull, onFullDrop)
	f, err := newFormat(o)
	if err != nil {
		return nil, err
	}
	l := &Log{echoName: cmp.Or(o.EchoName, "stderr"), level: o.Level, maxLine: maxLine, trouble: make(chan struct{}, 1), hasted: make(chan struct{}, 1),
		timeLimits: timeLimits{stuckTime: stuckTime, fileTime: fileTime, readerTime: readerTime, abort: abortTime, returns: returnTime}}
	l.room = sync.NewCond(&l.mu)
	main := &sink{sinkOptions: sinkOptions{level: zerolog.TraceLevel, command: true, format: f, block: o.OnFull == onFullBlock, policy: o.Sync}}
	switch name, tag, err := service(o.File); {
	case err != nil:
		return nil, err
	case name != "":
		s := &socket{service: name, address: at.journald, job: o.Job, tag: tag}
		if name == syslog {
			s.address, l.maxLine = at.syslog, maxSyslog
		}
		main.target, main.path, main.format = s, name+":", format{name: name, pid: f.pid, tag: tag}
		l.add(main)
	case o.File != "":
		if l.file, err = newFile(o, time.Now()); err != nil {
			return nil, err
		}
		main.target, main.path, main.torn, main.regular = l.file, l.file.path, l.file.torn, l.file.info != nil
		l.add(main)
	}
	if o.Echo != nil {
		k := &sink{target: echo{o.Echo}, sinkOptions: sinkOptions{format: f, level: o.EchoLevel, command: o.EchoCommand, color: o.EchoColor}}
		if o.EchoExact {
			k.format.name, k.level, k.regular = exact, zerolog.Disabled, isRegular(o.Echo)
		}
		l.add(k)
	}
	if len(l.sinks) > 0 {
		l.sinks[0].inherit(o.Losses)
		l.take(o.Left)
	}
	for _, k := range l.sinks {
		l.writers.Go(k.run)
	}
	return l, nil
}

// take gives each sink what was left for its place. What was left for the file goes to Echo if there
// is no file any more, and the other way round; but what had both is in the file.
func (l *Log) take(all []Left) {
	var homeless []Left
	for _, left := range all {
		if i := slices.IndexFunc(l.sinks, func(k *sink) bool { return k.isEcho() == left.Echo }); i >= 0 {
			l.sinks[i].goOn(left)
		} else if !left.Echo || len(all) == 1 {
			homeless = append(homeless, left)
		}
	}
	for _, left := range homeless {
		l.sinks[0].goOn(left)
	}
}

// Check says what Open would refuse, as far as that can be told without opening anything.
func Check(o Options) error {
	if _, err := newFormat(o); err != nil {
		return err
	}
	if name, _, err := service(o.File); name != "" || err != nil {
		return err
	}
	if _, err := parsePattern(o.File); err != nil {
		return fmt.Errorf("log file %s: %w", escape(o.File), err)
	}
	return nil
}

// FileAt is the file that lines go to at that time, in its zone, for an Options.File that Check takes.
func FileAt(file string, at time.Time) string {
	p, err := parsePattern(file)
	if err != nil {
		return file
	}
	return p.name(at)
}

func (l *Log) add(k *sink) {
	k.log = l
	k.wake = sync.NewCond(&l.mu)
	k.done = make(chan struct{})
	l.sinks = append(l.sinks, k)
	if !k.command {
		return
	}
	if k.form = slices.Index(l.forms, k.format); k.form < 0 {
		k.form, l.forms = len(l.forms), append(l.forms, k.format)
	}
}

// Logger is for gophd's own lines. It never blocks: see the package comment for what it drops. The
// time is added by the Log; the logger needs no Timestamp.
func (l *Log) Logger() zerolog.Logger {
	return zerolog.New(own{log: l}).Level(l.level)
}

// EchoLogger is for those of gophd's own lines that are about the log, and have to be seen elsewhere.
func (l *Log) EchoLogger() zerolog.Logger { return zerolog.New(own{log: l, echo: true}) }

// Stream takes the named stream of the command with the given PID. What is written to it is split into
// lines; rest is the beginning of the first one, which another Stream's Rest has returned.
func (l *Log) Stream(name string, pid int, rest []byte) *Stream {
	s := &Stream{log: l, rest: rest}
	for _, f := range l.forms {
		s.forms = append(s.forms, rendering{format: f, head: f.head(name, pid)})
	}
	return s
}

// Path is the file that lines go to now, or the service with its colon, or "" without either.
func (l *Log) Path() string {
	if len(l.sinks) == 0 {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sinks[0].path
}

// Reopen opens the file anew, since it may have been moved away, and returns without waiting for the
// sink: a write that is under way still goes to the old file. On an error the old file stays in use.
func (l *Log) Reopen() error {
	if l.file == nil {
		return nil
	}
	f, err := l.file.open(l.file.pattern.name(time.Now()))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != running {
		return errors.Join(os.ErrClosed, f.close())
	}
	k := l.sinks[0]
	if k.next != nil {
		err = k.next.close()
	}
	k.next, k.path = f, f.path
	k.wake.Signal()
	return err
}

// CrashOutput lets the runtime write the trace of a fatal error to the file too, until Close. It
// follows the file when that changes. There is one such file for the whole process.
func (l *Log) CrashOutput() error {
	if l.file == nil {
		return nil
	}
	l.file.crash.Store(true)
	f, err := l.file.open(l.Path())
	if err != nil {
		return err
	}
	return errors.Join(f.takeCrashes(), f.close())
}

// Stats is what became of the lines so far.
type Stats struct {
	Lines   uint64 // written
	Dropped uint64 // lost, for whatever reason; also those that a later line has already reported

	Pending int           // bytes taken and not yet handed to the sink
	Stalled time.Duration // how long the write that is under way has not got on; 0 between writes
	Err     error         // why the last write failed; nil when it did not

	Lost  error // why lines were dropped last
	Stray error // why the file that lines go to is not the one that has its name, or its archives are not in order; nil when all is well
}

// Trouble is sent to when Stats has more Dropped or another Stray, or none any more, once for any number of them.
func (l *Log) Trouble() <-chan struct{} { return l.trouble }

// Losses is for the Log that comes in the place of this one, after Close.
func (l *Log) Losses() Losses {
	if len(l.sinks) == 0 {
		return Losses{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.sinks[0]
	lost := Losses{Lines: k.stats.Dropped, Untold: k.stats.Dropped - min(k.told, k.stats.Dropped)}
	if k.stats.Lost != nil {
		lost.Why = k.stats.Lost.Error()
	}
	return lost
}

// Stats tells about the file, or about Echo when there is no file.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sinks) == 0 {
		return Stats{}
	}
	k := l.sinks[0]
	s := k.stats
	s.Pending = len(k.buf)
	if !k.since.IsZero() {
		s.Stalled = time.Since(k.since)
	}
	return s
}

// look makes everybody who waits look again. The caller holds mu.
func (l *Log) look() {
	l.room.Broadcast()
	for _, k := range l.sinks {
		k.wake.Signal()
	}
}

// own is where zerolog hands over gophd's own lines, as JSON.
type own struct {
	log  *Log
	echo bool // no other sink
}

var _ zerolog.LevelWriter = own{}

func (o own) Write(p []byte) (int, error) { return o.WriteLevel(zerolog.NoLevel, p) }

func (o own) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	now := time.Now()
	for _, k := range o.log.sinks {
		if level >= k.level && (k.isEcho() || !o.echo) {
			k.offer(k.format.own(nil, now, level, p, k.color), 1)
		}
	}
	return len(p), nil
}

// newFormat checks the options that say how lines look.
func newFormat(o Options) (format, error) {
	f := format{name: o.Format, pid: strconv.Itoa(o.PID), job: quoteJSON(o.Job)}
	for _, c := range []struct {
		name, word string
		words      []string
	}{
		{"log format", o.Format, []string{simple, inJSON, console}},
		{"log sync policy", cmp.Or(o.Sync, syncNever), []string{syncNever, syncSecond, syncAlways}},
		{"policy of a full log", cmp.Or(o.OnFull, onFullDrop), []string{onFullDrop, onFullBlock}},
	} {
		if last := len(c.words) - 1; !slices.Contains(c.words, c.word) {
			return f, fmt.Errorf("%s %q is not known: use %s or %s", c.name, c.word, strings.Join(c.words[:last], ", "), c.words[last])
		}
	}
	if o.RotateSize < 0 || o.RotateAge < 0 || o.Keep < 0 || o.KeepBytes < 0 {
		return f, fmt.Errorf("a bound of the log is below 0: use 0 for none")
	}
	if name, _, err := service(o.File); name != "" || err != nil {
		return f, err
	}
	if o.File != "" && !filepath.IsAbs(o.File) {
		return f, fmt.Errorf("log file %q is not an absolute path: write it from / on", o.File)
	}
	return f, nil
}
