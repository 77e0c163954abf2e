package logging

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"gophd/internal/goroutine"
	"gophd/internal/line"
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
