package logging

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"gophd/internal/safefile"
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
		fix := "run gophd as root"
		if os.Geteuid() == 0 {
			fix = "give gophd the capability CAP_CHOWN"
		}
		return fmt.Errorf("cannot give it to user %d and group %d: %w: %s, or leave log.owner out",
			o.Owner.UID, o.Owner.GID, cause(err), fix)
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
