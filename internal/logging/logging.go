package logging

import (
	"bytes"
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

// Left is what a Log had taken for one place and not written.
type Left struct {
	Echo    bool `json:",omitempty"` // it was for Echo, and not for the file
	Service bool `json:",omitempty"` // it was for journald or syslog, which understand no other format
	Records []byte
	Lines   uint64
	Midway  bool `json:",omitempty"` // Records goes on in the middle of a line whose beginning is written
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

	maxLine    int // bytes of a command's line that make one record
	trouble    chan struct{}
	hasted     chan struct{} // Hurry was called
	stuckTime  time.Duration // tests set others, as they do with the next three
	fileTime   time.Duration
	readerTime time.Duration
	abort      time.Duration // abortTime
	returns    time.Duration // returnTime

	writers goroutine.Group

	mu      sync.Mutex // guards the fields below and those that sink names
	state   state
	paused  bool       // see Pause
	leaving bool       // see Leave
	hurry   int        // see Hurry
	hurried time.Time  // when it began; the time without progress counts from then on
	room    *sync.Cond // broadcast when a sink has taken its buffer, and at each change of state
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
		stuckTime: stuckTime, fileTime: fileTime, readerTime: readerTime, abort: abortTime, returns: returnTime}
	l.room = sync.NewCond(&l.mu)
	main := &sink{level: zerolog.TraceLevel, command: true, format: f, block: o.OnFull == onFullBlock, policy: o.Sync}
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
		k := &sink{target: echo{o.Echo}, format: f, level: o.EchoLevel, command: o.EchoCommand, color: o.EchoColor}
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

// Capture returns the opener of Streams for one stream ("stdout", "stderr") of a command with the given
// PID.
func (l *Log) Capture(name string) func(pid int) io.WriteCloser {
	return func(pid int) io.WriteCloser { return l.Stream(name, pid, nil) }
}

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

// Close writes what was taken and closes the file. What does not get on is given up, and that is said: a regular file
// after 30 seconds without any progress, all else after 10, and earlier after a Hurry, which may come meanwhile. A
// write(2) that cannot be called back (a hung disk, a stuck pipe of Echo's) keeps its goroutine until it returns; this
// is the one known gap, for a process that ends.
func (l *Log) Close() error {
	if !l.end(draining) {
		return os.ErrClosed
	}
	var err error
	for _, k := range l.sinks {
		err = errors.Join(err, l.await(k))
	}
	return errors.Join(err, l.closed())
}

// CloseFile is Close for the file alone: what Echo is to be told of that can still be said.
func (l *Log) CloseFile() error {
	if len(l.sinks) == 0 {
		return nil
	}
	k := l.sinks[0]
	if k.isEcho() {
		return nil
	}
	l.mu.Lock()
	k.drain = true
	l.hasten(max(l.hurry, 1))
	l.look()
	l.mu.Unlock()
	return l.await(k)
}

// Pause lets no more writes to a regular file begin, or to its archives; to Echo they do, for the log's own word on the
// pause, but for an exact Echo. Lines are taken as ever. It does not block.
func (l *Log) Pause() { l.pause(true) }

// Resume ends a Pause.
func (l *Log) Resume() { l.pause(false) }

func (l *Log) pause(yes bool) {
	if l.file != nil {
		l.file.archives.pause(yes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = yes
	l.look()
}

// Idle returns nil if in a Pause nothing is under way any more that could hang with a disk, and else an error that
// says what is.
func (l *Log) Idle() error {
	if l.file != nil && !l.file.archives.idle() {
		return fmt.Errorf("work on the archives of log file %s has not ended: check its disk", l.Path())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.sinks {
		if k.regular && !k.idle && !k.dead {
			return fmt.Errorf("a write to %s has not returned: check its disk", k.name())
		}
	}
	return nil
}

// Leave is for a program that execs its successor: from now on no write begins, and those that can be called back are.
// A Stream never waits for room any more.
func (l *Log) Leave() {
	l.Pause()
	l.mu.Lock()
	l.leaving = true
	l.look()
	l.mu.Unlock()
	for _, k := range l.sinks {
		k.callBack()
	}
}

// Left closes the Log, after a Leave, and returns what it has not written, for the Options of its successor. It blocks
// for a write that is under way: one to a FIFO or a socket has been called back, and returns; one that cannot be, to an
// Echo that nobody reads, is given up after a second, and what it has is lost.
func (l *Log) Left() ([]Left, error) {
	for _, k := range l.sinks {
		for end := time.Now().Add(k.callBack()); !k.rests() && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	if l.file != nil {
		l.file.unsynced.Store(true)
	}
	l.mu.Lock()
	var left []Left
	for _, k := range l.sinks {
		left = append(left, Left{Echo: k.isEcho(), Service: k.isService(), Records: k.buf, Lines: k.records, Midway: k.midway})
		k.buf, k.records = nil, 0
	}
	l.mu.Unlock()
	if !l.end(closed) {
		return nil, os.ErrClosed
	}
	for _, k := range l.sinks {
		select {
		case <-k.done:
		case <-time.After(k.callBack()):
		}
	}
	return left, l.closed()
}

// end begins the end, once.
func (l *Log) end(to state) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != running {
		return false
	}
	l.hasten(max(l.hurry, 1))
	l.transition(to)
	return true
}

// await waits for a sink that is to end, and gives it up when it does not get on; the error says so.
func (l *Log) await(k *sink) error {
	for {
		l.mu.Lock()
		left := k.endLeft()
		l.mu.Unlock()
		if left <= 0 {
			break
		}
		select {
		case <-k.done:
			return k.err
		case <-time.After(min(left, awaitTick)): // a write that begins meanwhile may have less
		case <-l.hasted:
		}
	}
	l.mu.Lock()
	k.quit = true
	l.look()
	l.mu.Unlock()
	select {
	case <-k.done:
	case <-time.After(k.callBack()):
	}
	return fmt.Errorf("%s took nothing any more: its last lines are lost: free its reader or its disk", k.name())
}

// closed is the end of the Log. What a sink has that has not ended by now is lost.
func (l *Log) closed() error {
	l.mu.Lock()
	l.transition(closed)
	l.mu.Unlock()
	var err error
	if l.file != nil && l.file.crash.Load() {
		err = ignoreCrashes()
	}
	stuck := false
	for _, k := range l.sinks {
		select {
		case <-k.done:
			if k.isEcho() {
				deadline(k.target, time.Time{}) // it is the caller's, and he may want to write to it
			}
		default:
			stuck = true
			k.leave()
		}
	}
	if !stuck {
		l.writers.Wait()
	}
	return err
}

// transition is the only place where the state changes.
func (l *Log) transition(to state) {
	l.state = to
	l.look()
}

// look makes everybody who waits look again. The caller holds mu.
func (l *Log) look() {
	l.room.Broadcast()
	for _, k := range l.sinks {
		k.wake.Signal()
	}
}

// Hurry is for a program that is about to end, and has been told so that many times: 0 takes it back. After the first
// time a sink that does not get on keeps the command and Close waiting for 30 seconds if it is a regular file and for 10
// if not, whatever OnFull says; after the second for 10; after the third not at all. It does not block.
func (l *Log) Hurry(times int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hasten(times)
}

// hasten is Hurry for who has the lock.
func (l *Log) hasten(times int) {
	if l.hurry == 0 && times > 0 {
		l.hurried = time.Now()
	}
	l.hurry = times
	l.room.Broadcast()
	select {
	case l.hasted <- struct{}{}:
	default:
	}
}

// Show writes text to Echo as it is, between two lines, and with a newline after it if it has none. It never
// blocks: text that finds no room is dropped as a whole, and its lines are counted.
func (l *Log) Show(text []byte) {
	for _, k := range l.sinks {
		if k.isEcho() && len(text) > 0 {
			if text[len(text)-1] != '\n' {
				text = append(slices.Clip(text), '\n')
			}
			k.offer(text, uint64(bytes.Count(text, []byte{'\n'})))
		}
	}
}

// takeCommand puts records of the command into the sinks, after having waited for room.
func (l *Log) takeCommand(forms []rendering, records uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.state == running && !l.leaving {
		left, full := l.full()
		if !full {
			break
		}
		l.wake()
		l.waitForRoom(left)
	}
	for _, k := range l.sinks {
		switch {
		case !k.command:
		case l.state != running || k.dead:
			k.drop(records, errClosed)
		case k.full() && !l.leaving:
			k.drop(records, errStuck)
			k.over += records
		default:
			k.buf = append(k.buf, forms[k.form].out...)
			k.records += records
		}
	}
	l.wake()
}

// full says whether there is a sink to be waited for, and for how long at most; 0 is for ever.
func (l *Log) full() (left time.Duration, full bool) {
	for _, k := range l.sinks {
		if !k.full() {
			continue
		}
		switch d := k.patienceLeft(); {
		case d < 0:
			return 0, true
		case d > 0:
			left, full = max(left, d), true
		}
	}
	return left, full
}

// waitForRoom waits for a sink to take its buffer, for so long at most; 0 is for ever.
func (l *Log) waitForRoom(most time.Duration) {
	if most > 0 {
		over := time.AfterFunc(most, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.room.Broadcast()
		})
		defer over.Stop()
	}
	l.room.Wait()
}

// wake sends the writers to work. The caller holds mu.
func (l *Log) wake() {
	for _, k := range l.sinks {
		if len(k.buf) > 0 {
			k.wake.Signal()
		}
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
