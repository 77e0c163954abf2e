package config

import (
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"gophd/internal/job"
)

// Request is the input of Load, apart from the config file itself.
type Request struct {
	Flags   *pflag.FlagSet // parsed; only flags of AddFlags are read; may be nil
	Command []string       // the command and its arguments from the command line; may be empty
	Env     []string       // KEY=VALUE; the last value of a key counts, as in os/exec
	Dir     string         // absolute; base of relative paths, and default directory of the command
	Home    string         // the user's home directory; may be empty
	UID     int            // 0 selects the system directories

	SystemDir string // directory of the system's config files; "" is /etc/gophd

	// NeedCommand rejects a config without a command, and reads the files of job.env_file.
	NeedCommand bool
}

// Config is the validated configuration of one daemon. It does not change after Load.
type Config struct {
	File string // absolute path of the config file; "" when there is none
	Name string // of the daemon; with one job that of the job
	Many bool   // there is a jobs: map, however many jobs it has

	Jobs []job.Spec // exactly one; its Command may be nil if Request.NeedCommand is false

	Daemon      bool
	Verbose     bool          // never together with Daemon or Quiet
	Quiet       bool          // only what event.Event.Failure selects is printed
	PIDFile     string        // absolute; "" is none
	AutoRestart time.Duration // 0 is never
	RestartWhen string        // "daemon", "always" or "never"
	Heartbeat   Heartbeat
	Log         Log

	// Directories of gophd, absolute. The package that writes there creates them.
	RuntimeDir, StateDir, LogDir string

	// Warnings are for the terminal or the log, one line each, without secrets.
	Warnings []string

	values []Value // secrets included
}

// FileName returns the name of the files of a job: history and output, and with the scope "job" the
// lock and the key of its lease. It is the job's own name, or with Many DAEMON.JOB.
func (c *Config) FileName(s job.Spec) string {
	if c.Many {
		return c.Name + "." + s.Name
	}
	return s.Name
}

// Heartbeat is the section of that name.
type Heartbeat struct {
	URL            string // file:, none:, memcached://host[:port] or memcached:///socket
	PasswordFile   string // absolute; "" is none; only for memcached
	TTL            time.Duration
	Renew          time.Duration
	StopGrace      time.Duration
	Timeout        time.Duration // of one phase of a store operation: connecting, answering
	AcquireTimeout time.Duration
	OnUnreachable  string // "pause" or "continue"
	Standby        bool
	HeldExitCode   int // 0 to 255
}

// Shared returns true if other hosts can see the lease in the store.
func (h Heartbeat) Shared() bool {
	return !strings.HasPrefix(h.URL, "file:") && !strings.HasPrefix(h.URL, "none:")
}

// Log is the section of that name.
type Log struct {
	// File is an absolute path, which may contain strftime patterns, or journald:[TAG] or
	// syslog:[TAG]. "" is no file; with Daemon it is never empty.
	File   string
	Format string // "simple", "json" or "console"
	Level  string // "debug", "info", "warn" or "error"

	// For a file. A size or number of 0 is no limit.
	RotateSize int64         // bytes
	RotateAge  time.Duration // of the first line; 0 is never
	Keep       int           // number of rotated files
	KeepSize   int64         // total bytes of the rotated files
	Compress   bool
	Mode       fs.FileMode // of a new file, regardless of the umask; 0 is 0640 less the umask
	Owner      string      // USER or USER:GROUP, names or numbers; "" is gophd's own
	Sync       string      // "never", "second" or "always"
	OnFull     string      // "drop" or "block"
}

// Value is one effective setting, to be shown.
type Value struct {
	Key  string // section.key
	Text string // as the user wrote it, paths made absolute, secrets hidden

	// Source is "flag --interval", "environment GOPHD_JOB_INTERVAL", "FILE:LINE", "command line" or
	// "default".
	Source string
}

// Error is one problem with a setting. It prints as one line with the source of the setting, its
// value and the fix.
type Error struct {
	Source  string // the flag, the variable, or file, line and key
	Value   string // with secrets hidden; "" when there is none to show
	Problem string // what is wrong, and the fix
	err     error  // behind it; nil if that is of no use to the caller
}

func (e *Error) Unwrap() error { return e.err }

func (e *Error) Error() string {
	if e.Value == "" {
		return e.Source + ": " + e.Problem
	}
	return e.Source + " " + e.Value + ": " + e.Problem
}

// UnfitError is the error of Load for a config that can be understood, and that names a file which
// is missing here or cannot be read. It prints as one line for each file.
type UnfitError struct{ error }

func (e *UnfitError) Unwrap() error { return e.error }

// Values returns every effective setting with secrets hidden: gophd's own in the order of the
// reference, then the user's in the order of the file.
func (c *Config) Values() []Value {
	shown := slices.Clone(c.values)
	for i, v := range shown {
		shown[i].Text = redact(v.Text)
		own := slices.ContainsFunc(keys(), func(k key) bool { return k.name == v.Key }) // none is a secret itself
		if !own && looksSecret(v.Key) {
			shown[i].Key, shown[i].Text = shownKey(v.Key), hidden
		}
	}
	return shown
}

// Shown returns the text of one of gophd's own settings, with secrets hidden.
func (c *Config) Shown(key string) string {
	i := slices.IndexFunc(c.values, func(v Value) bool { return v.Key == key })
	if i < 0 {
		return ""
	}
	return redact(c.values[i].Text)
}

// Get returns the text of one setting, gophd's or the user's, by its section.key. Secrets are not
// hidden, because the caller asks for one setting by name.
func (c *Config) Get(key string) (string, bool) {
	i := slices.IndexFunc(c.values, func(v Value) bool { return v.Key == key })
	if i < 0 {
		return "", false
	}
	return c.values[i].Text, true
}

// Nearest returns the setting of which key is most likely a misspelling, or "".
func (c *Config) Nearest(key string) string {
	var all []string
	for _, v := range c.values {
		all = append(all, v.Key)
	}
	return nearest(key, all)
}

// Private returns env without the variables that configure gophd. A command that is a gophd, or
// starts one, must not inherit the settings of its parent.
func Private(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == configVariable || hasOwnPrefix(name, sections())
	})
}

// hasOwnPrefix reports whether a variable belongs to one of the sections.
func hasOwnPrefix(variableName string, sections []string) bool {
	return slices.ContainsFunc(sections, func(s string) bool {
		return strings.HasPrefix(variableName, variable(s)+"_")
	})
}
