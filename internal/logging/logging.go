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
	"gophd/internal/line"
	"gophd/internal/safefile"
)

const (
	ownLimit     = 1 << 20 // bytes; with more pending, gophd's own lines are dropped
	commandLimit = 1 << 18 // bytes; with more pending, the command waits; the rest is for gophd
	jobShare     = 1 << 13 // bytes; in a log of several jobs, those of a job that may be pending also then
	sharedLimit  = 3 << 18 // bytes; with more pending, every command waits
	maxLine      = 1 << 16 // bytes of a command's line in one record; for syslog it is maxSyslog

	stallTime     = 10 * time.Second      // without progress until a sink is stalled
	fileTime      = 30 * time.Second      // the same at exit, for a regular file
	readerTime    = 10 * time.Second      // the same at exit, for a sink with a reader
	abortTime     = time.Second           // for a write that cannot be interrupted
	awaitInterval = 50 * time.Millisecond // between two checks of a sink that must exit
	returnTime    = 10 * time.Second      // for an interrupted write, which returns when scheduled
	lineTime      = time.Second           // until an unfinished line is written
	napTime       = time.Minute           // without a line until a job's own file is closed
)

// Options select where lines go and how they are formatted.
type Options struct {
	// File is an absolute path, which may contain %Y %m %d %H and other verbs of strftime, in local
	// time. It may lead to stdout or stderr of this process. Or it is "journald:TAG" or
	// "syslog:TAG", with the default tag gophd. "" is no file.
	File   string
	Format string        // simple, json or console; the services have their own
	Level  zerolog.Level // gophd's own lines below it are dropped

	// OnFull selects what happens to the command's lines when File cannot be written or is stalled:
	// drop or block. "" is drop.
	OnFull string

	Echo        io.Writer     // gophd's stderr, or nil; the Log does not close it
	EchoName    string        // the name of Echo in messages; "" is stderr
	EchoLevel   zerolog.Level // own lines of this level or higher go to Echo too
	EchoCommand bool          // the command's lines go to Echo too
	EchoColor   bool          // Echo is a terminal with colors (format console only)
	// EchoExact gives Echo only the command's bytes: no time, no name, and no line of gophd's own,
	// not even about lost lines.
	EchoExact bool

	Job string // the job's name in every json line; "" if the lines are of several jobs
	PID int    // gophd's own

	Jobs []JobLog // of several jobs, those with a log of their own

	Losses    Losses      // of the previous Log
	Unwritten []Unwritten // lines that the previous Log did not write

	// The other options apply to regular files only.

	RotateSize int64         // maximum bytes of a file before it is rotated; 0 is no limit
	RotateAge  time.Duration // maximum age of the first line before rotation; 0 is no limit
	Keep       int           // number of newest archives to keep; 0 is all
	KeepBytes  int64         // maximum total bytes of the archives; 0 is no limit
	Compress   bool          // compress archives with gzip

	Mode  os.FileMode // of new files; 0 is 0640 minus the umask
	Owner *Owner      // of new files; nil is the system's default
	// Trusted are more users who may own an existing file in a directory where others can create
	// files: see safefile.Open.
	Trusted []int
	Sync    string // when lines are synced to disk: never, second or always; "" is never
}

// JobLog gives one of several jobs a log of its own, in which the lines do not begin with its name.
// The file is opened at the first line, and closed after a minute without one. Then it costs no
// descriptor, no goroutine and no buffer. The other options are those of the Log.
type JobLog struct {
	Job     string
	File    string // as Options.File
	Trusted []int  // as Options.Trusted
	Losses  Losses // as Options.Losses
}

// Losses are lines that could not be written. The next successful write reports those that the log
// has not reported yet.
type Losses struct {
	Lines      uint64 `json:",omitempty"`       // total
	Unreported uint64 `json:"Untold,omitempty"` // those that the log has not reported
	Why        string `json:",omitempty"`       // reason of the last loss
}

// Owners returns the users who may own an existing log file, besides root and gophd's own user.
func (o Options) Owners() []int {
	if o.Owner == nil || o.Owner.UID < 0 {
		return o.Trusted
	}
	return append(slices.Clone(o.Trusted), o.Owner.UID)
}

// SetUp gives a new log file the configured mode and owner. The umask has no effect. It is an error
// if gophd could not open the file again after that.
func (o Options) SetUp(f *os.File) error {
	if o.Mode != 0 {
		if err := f.Chmod(o.Mode); err != nil {
			return err
		}
	}
	if o.Owner == nil {
		return nil
	}
	if err := f.Chown(o.Owner.UID, o.Owner.GID); err != nil {
		return fmt.Errorf("cannot give it to user %d and group %d: %w: run gophd as root, or leave log.owner out",
			o.Owner.UID, o.Owner.GID, cause(err))
	}
	if err := safefile.Reopens(f); err != nil {
		return fmt.Errorf("cannot give it to user %d and group %d: %w: give gophd that capability, or leave log.owner out",
			o.Owner.UID, o.Owner.GID, err)
	}
	return nil
}

// Owner is the user and group of a file. -1 means no change, as in chown(2).
type Owner struct{ UID, GID int }

// The values of Options.OnFull.
const (
	onFullDrop  = "drop"
	onFullBlock = "block"
)

// The values of Options.Sync.
const (
	syncNever  = "never"
	syncSecond = "second" // at most a second after a write, and when a file is finished
	syncAlways = "always" // before the next lines are written
)

// Log takes lines and writes them. Its methods are safe for any goroutine.
type Log struct {
	echoName string
	level    zerolog.Level
	file     *file   // nil without a file
	sinks    []*sink // all
	routes

	maxLine      int        // maximum bytes of a command's line in one record
	turn         sync.Mutex // held by the only one of archives that works
	trouble      chan struct{}
	stopsChanged chan struct{} // SetStopRequests changed stopRequests
	timeLimits
	writers goroutine.Group
	open    openLines

	mu    sync.Mutex // guards control and some fields of sink
	space *sync.Cond // broadcast when a sink took its buffer, and at each change of state
	control
}

// routes are the sinks for the lines of a job.
type routes struct {
	common []*sink            // of all jobs, and of the daemon itself: those of File and of Echo
	own    map[string][]*sink // of a job with a log of its own: that of its file, and that of Echo
}

// control is what the owner of a Log requested of it.
type control struct {
	state        state
	paused       bool      // see Pause
	leaving      bool      // see Leave
	stopRequests int       // see SetStopRequests
	stopSince    time.Time // time of the first request; the time without progress counts from then
}

// timeLimits has the times that the Log waits for a sink: see stallTime and the next constants.
// Tests set other times.
type timeLimits struct {
	stallTime  time.Duration
	fileTime   time.Duration
	readerTime time.Duration
	abort      time.Duration
	returns    time.Duration
	lineTime   time.Duration
}

// The states of a Log; see the table in doc.go.
type state uint8

const (
	running state = iota
	draining
	closed
)

// Open creates the log and opens its file. It does not wait for the reader of a FIFO or for a
// service.
func Open(o Options) (*Log, error) {
	return openLog(o, standardSockets())
}

func openLog(o Options, at sockets) (*Log, error) {
	o.Sync, o.OnFull = cmp.Or(o.Sync, syncNever), cmp.Or(o.OnFull, onFullDrop)
	f, err := newFormat(o)
	if err != nil {
		return nil, err
	}
	l := &Log{
		echoName: cmp.Or(o.EchoName, "stderr"), level: o.Level, maxLine: maxLine,
		trouble: make(chan struct{}, 1), stopsChanged: make(chan struct{}, 1),
		timeLimits: timeLimits{
			stallTime: stallTime, fileTime: fileTime, readerTime: readerTime, abort: abortTime, returns: returnTime,
			lineTime: lineTime,
		},
		open: openLines{of: map[*Stream]line.Unfinished{}},
	}
	l.space = sync.NewCond(&l.mu)
	if o.File != "" {
		k, err := l.fileSink(o, f, at)
		if err != nil {
			return nil, err
		}
		l.add(k)
		l.file = k.file()
	}
	if o.Echo != nil {
		k := &sink{target: echo{o.Echo}, sinkOptions: sinkOptions{
			format: f, level: o.EchoLevel, command: o.EchoCommand, color: o.EchoColor,
		}}
		if o.EchoExact {
			k.format.name, k.level, k.regular = exact, zerolog.Disabled, isRegular(o.Echo)
		}
		l.add(k)
	}
	l.common = slices.Clip(l.sinks)
	if err := l.addJobs(o, f, at); err != nil {
		return nil, err
	}
	if l.file != nil {
		if err := l.file.start(); err != nil {
			return nil, err
		}
		l.sinks[0].path, l.sinks[0].torn, l.sinks[0].regular = l.file.path, l.file.torn, l.file.regular
	}
	if len(l.common) > 0 {
		l.sinks[0].inherit(o.Losses)
		l.distribute(o.Unwritten)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.sinks {
		if !k.lazy || len(k.buf) > 0 {
			k.rouse()
		}
	}
	return l, nil
}

// fileSink returns a sink for o.File. It opens nothing.
func (l *Log) fileSink(o Options, f format, at sockets) (*sink, error) {
	k := &sink{sinkOptions: sinkOptions{
		level: zerolog.TraceLevel, command: true, format: f, block: o.OnFull == onFullBlock, policy: o.Sync,
	}}
	name, tag, err := service(o.File)
	if err != nil {
		return nil, err
	}
	if name != "" {
		if name == syslog {
			l.maxLine = maxSyslog
		}
		k.target, k.path = &socket{service: name, address: at.of(name), job: o.Job, tag: tag}, name+":"
		k.format = format{name: name, pid: f.pid, tag: tag}
		return k, nil
	}
	t, err := newFile(o, time.Now(), &l.turn)
	if err != nil {
		return nil, err
	}
	k.target, k.path, k.regular = t, t.path, true // a FIFO is found at the first line
	return k, nil
}

// addJobs adds a sink for each of o.Jobs.
func (l *Log) addJobs(o Options, f format, at sockets) error {
	l.own = make(map[string][]*sink, len(o.Jobs))
	for _, j := range o.Jobs {
		own := o
		own.File, own.Job, own.Trusted = j.File, j.Job, j.Trusted
		f.job = j.Job
		k, err := l.fileSink(own, f, at)
		if err != nil {
			return err
		}
		k.job, k.lazy = j.Job, true
		l.add(k)
		k.inherit(j.Losses)
		l.own[j.Job] = []*sink{k}
		for _, k := range l.common {
			if k.isEcho() {
				l.own[j.Job] = append(l.own[j.Job], k)
			}
		}
	}
	return nil
}

// distribute gives each sink the unwritten lines for it. Those of a job that has no log of its own now
// go to File. Lines for a file go to Echo if there is no file now, and lines for Echo go to the file if
// there is no Echo. Lines that had both sinks are in the file already.
func (l *Log) distribute(all []Unwritten) {
	var moved []Unwritten
	for _, u := range all {
		if i := slices.IndexFunc(l.sinks, func(k *sink) bool { return k.isEcho() == u.Echo && k.job == u.Job }); i >= 0 {
			l.sinks[i].takeUnwritten(u)
		} else if !u.Echo || len(all) == 1 {
			moved = append(moved, u)
		}
	}
	for _, u := range moved {
		l.sinks[0].takeUnwritten(u)
	}
}

// Check returns the error that Open would return, except for errors of opening the file.
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

// FileAt returns the file that gets the lines at that time, in its zone. Check must accept file.
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
	k.done, k.asleep, k.idle = noGoroutine, true, true
	l.sinks = append(l.sinks, k)
}

// noGoroutine is the done of a sink whose goroutine has not been started.
var noGoroutine = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Logger returns the logger for gophd's own lines. It never blocks: see the package comment for the
// lines that it drops. The Log adds the time; the logger needs no Timestamp.
func (l *Log) Logger() zerolog.Logger { return l.Job("").Logger() }

// FileLogger is Logger without Echo.
func (l *Log) FileLogger() zerolog.Logger { return l.Job("").FileLogger() }

// EchoLogger returns a logger that writes to Echo only. It is for lines about the log itself.
func (l *Log) EchoLogger() zerolog.Logger { return l.Job("").EchoLogger() }

// Stream returns a writer for the named stream of the command with the given PID. It splits the
// data into lines.
func (l *Log) Stream(name string, pid int) *Stream { return l.Job("").stream(name, pid) }

// Path returns the current file, or the service with its colon, or "" if there is neither.
func (l *Log) Path() string { return l.Job("").Path() }

// Reopen opens the files again, because they may have been moved. It does not wait for the sinks: an
// active write still goes to the old file. After an error the old file stays in use.
func (l *Log) Reopen() error {
	var first error
	more := 0
	for _, k := range l.sinks {
		t := k.file()
		if t == nil {
			continue
		}
		switch err := k.reopen(t); {
		case err == nil:
		case first == nil:
			first = err
		default:
			more++
		}
	}
	if more > 0 {
		return fmt.Errorf("%w; and %d more", first, more)
	}
	return first
}

// CrashOutput makes the runtime write the trace of a fatal error to the file too, until Close. It
// follows a change of the file. There is one such file per process.
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

// Stats reports what happened to the lines so far.
type Stats struct {
	Lines   uint64 // written
	Dropped uint64 // lost for any reason; includes lines whose loss was reported in the log

	Pending int           // bytes taken and not yet passed to the sink
	Stalled time.Duration // time since the active write made progress; 0 between writes
	Err     error         // error of the last write, or nil

	Lost error // reason of the last loss
	// Misplaced is why the log is not in the file that it should be in now, or why work on its
	// archives failed. It is nil if neither is the case, and becomes nil again when another file is
	// opened without such an error.
	Misplaced error
}

// Trouble returns a channel that gets a value when Dropped or Misplaced in Stats changes, those of a
// job's own log too. Several changes can share one value.
func (l *Log) Trouble() <-chan struct{} { return l.trouble }

// Losses returns the losses for the next Log. Call it after Close.
func (l *Log) Losses() Losses { return l.Job("").Losses() }

// Losses is Log.Losses for the job's log.
func (j Job) Losses() Losses {
	if len(j.sinks) == 0 {
		return Losses{}
	}
	j.log.mu.Lock()
	defer j.log.mu.Unlock()
	k := j.sinks[0]
	lost := Losses{Lines: k.stats.Dropped, Unreported: k.stats.Dropped - min(k.reported, k.stats.Dropped)}
	if k.stats.Lost != nil {
		lost.Why = k.stats.Lost.Error()
	}
	return lost
}

// Stats returns the statistics of the file, or of Echo if there is no file.
func (l *Log) Stats() Stats { return l.Job("").Stats() }

// Stats is Log.Stats for the job's log.
func (j Job) Stats() Stats {
	j.log.mu.Lock()
	defer j.log.mu.Unlock()
	if len(j.sinks) == 0 {
		return Stats{}
	}
	k := j.sinks[0]
	s := k.stats
	s.Pending = len(k.buf)
	if !k.since.IsZero() {
		s.Stalled = time.Since(k.since)
	}
	return s
}

// wakeAll makes all waiting goroutines check their condition again. The caller holds mu.
func (l *Log) wakeAll() {
	l.space.Broadcast()
	for _, k := range l.sinks {
		k.wake.Signal()
	}
}

// own receives gophd's own lines from zerolog, as JSON.
type own struct {
	job   string // that they are about, of several; "" is none
	sinks []*sink
	echo  bool // write to Echo only
	file  bool // do not write to Echo
}

var _ zerolog.LevelWriter = own{}

func (o own) Write(p []byte) (int, error) { return o.WriteLevel(zerolog.NoLevel, p) }

func (o own) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	now := time.Now()
	for _, k := range o.sinks {
		if level >= k.level && (k.isEcho() || !o.echo) && !(k.isEcho() && o.file) {
			k.offer(k.format.own(nil, now, level, k.label(o.job), p, k.color), 1)
		}
	}
	return len(p), nil
}

// newFormat returns the format. It checks the options.
func newFormat(o Options) (format, error) {
	f := format{name: o.Format, pid: strconv.Itoa(o.PID), job: o.Job}
	for _, c := range []struct {
		name, value string
		values      []string
	}{
		{"log format", o.Format, []string{simple, inJSON, console}},
		{"log sync policy", cmp.Or(o.Sync, syncNever), []string{syncNever, syncSecond, syncAlways}},
		{"full-log policy", cmp.Or(o.OnFull, onFullDrop), []string{onFullDrop, onFullBlock}},
	} {
		if last := len(c.values) - 1; !slices.Contains(c.values, c.value) {
			known := strings.Join(c.values[:last], ", ")
			return f, fmt.Errorf("%s %q is not known: use %s or %s", c.name, c.value, known, c.values[last])
		}
	}
	if o.RotateSize < 0 || o.RotateAge < 0 || o.Keep < 0 || o.KeepBytes < 0 {
		return f, fmt.Errorf("a limit of the log is negative: use 0 for no limit")
	}
	if name, _, err := service(o.File); name != "" || err != nil {
		return f, err
	}
	if o.File != "" && !filepath.IsAbs(o.File) {
		return f, fmt.Errorf("log file %q is not an absolute path: start it with /", o.File)
	}
	return f, nil
}
