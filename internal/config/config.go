package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"gophd/internal/job"
	"gophd/internal/misspelled"
	"gophd/internal/watch"
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

	// NeedCommand rejects a config without a command, and reads the files of job.env_file. Without it
	// a file of job.exclude that cannot be read is a warning.
	NeedCommand bool
}

// Config is the validated configuration of one daemon. It does not change after Load.
type Config struct {
	File    string       // absolute path of the config file; "" when there is none
	Crontab string       // absolute path of the crontab; "" when there is none
	Name    string       // of the daemon; with one job that of the job
	Many    bool         // there is a jobs: map or a crontab, however many jobs it has
	Watch   bool         // a change of one of Files is a request to reload
	Files   []watch.File // all that were read

	// Jobs are in the order of the files, at least one, and exactly one without Many. Their Command
	// may be nil if Request.NeedCommand is false. They may share memory with each other.
	Jobs       []job.Spec
	MaxRunning int // runs of all jobs at a time; 0 is no limit

	Daemon    bool
	Verbose   bool   // never together with Daemon or Quiet
	Quiet     bool   // only what event.Event.Failure selects is printed
	PIDFile   string // absolute; "" is none
	Heartbeat Heartbeat
	Log       Log
	API       API
	History   History
	Restart
	Directories

	// Warnings are for the terminal or the log, one line each, without secrets.
	Warnings []string

	texts
}

// texts are the effective settings, secrets included.
type texts struct {
	values  []Value
	entries entries

	unfit map[string][]string // by the name of the job; see Unfit
}

// entries are the settings of each entry of jobs:, in the order of Jobs, with the keys of job:.
type entries struct {
	values [][]Value
	lines  [][]byte // instead of values after a handoff: they are read rarely, and should not delay it
}

// of returns those of one entry; none if there are no jobs:.
func (e entries) of(i int) (values []Value) {
	switch {
	case e.values != nil:
		return e.values[i]
	case e.lines != nil:
		_ = json.Unmarshal(e.lines[i], &values) // Encode has read it
	}
	return values
}

// Restart is when gophd re-execs by itself.
type Restart struct {
	AutoRestart time.Duration // 0 is never
	RestartWhen string        // "daemon", "always" or "never"
}

// Directories are those of gophd, absolute. The package that writes there creates them.
type Directories struct {
	RuntimeDir, StateDir, LogDir string

	StateFrom string // the variable that names the state directory of this user; "" is a default
}

// FileName returns the name of the files of a job: history and output, and with the scope "job" the
// lock and the key of its lease. It is the job's own name, or with Many DAEMON.JOB.
func (c *Config) FileName(s job.Spec) string {
	if c.Many {
		return c.Name + "." + s.Name
	}
	return s.Name
}

// Source returns the file that has the jobs: the crontab, otherwise the config file; "" if there is neither.
func (c *Config) Source() string { return cmp.Or(c.Crontab, c.File) }

// Where names a setting of one of many jobs, by its name below job:, in a message; "" is the job itself. It is the
// key below jobs:, or with a crontab the line of the job and the key of job:.
func (c *Config) Where(s job.Spec, key string) string {
	if c.Crontab == "" {
		return jobsSection + "." + s.Name + strings.TrimPrefix(key, jobSection)
	}
	where := c.Crontab
	if i := slices.IndexFunc(c.Jobs, func(other job.Spec) bool { return other.Name == s.Name }); i >= 0 {
		for _, v := range c.entries.of(i) {
			if v.Key == "job.schedule" {
				where = v.Source
			}
		}
	}
	if key == "" {
		return where + ": " + s.Name
	}
	return where + ": " + s.Name + ": " + key
}

// OwnLeases returns true if each of many jobs has a lease of its own.
func (c *Config) OwnLeases() bool { return c.Many && c.Heartbeat.Scope == scopeJob }

// Unfit returns why one of many jobs cannot start here, although its settings can be understood:
// each file of its env_file or exclude that cannot be read. With one job, or for a file in job:, Load returns
// that as an error.
func (c *Config) Unfit(s job.Spec) (all []error) {
	for _, text := range c.unfit[s.Name] {
		all = append(all, errors.New(text))
	}
	return all
}

// jobPattern stands for the name of a job in the name of a file.
const jobPattern = "%{job}"

// LogFile returns log.file for the lines of the job with that name, or for those of the daemon with
// its own: see Log.File. They differ only if the setting has %{job} in it.
func (c *Config) LogFile(name string) string {
	if !strings.Contains(c.Log.File, jobPattern) {
		return c.Log.File
	}
	return strings.NewReplacer("%%", "%%", jobPattern, strings.ReplaceAll(name, "%", "%%")).Replace(c.Log.File)
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
	Scope          string // "daemon": one lease for all jobs; or "job": one for each, also for the only job
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
	// syslog:[TAG]. "" is no file; with Daemon it is never empty. With Many a path may contain
	// %{job}: see Config.LogFile.
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

// API is the section of that name.
type API struct {
	Socket bool   // with one job that runs once there is none all the same: see Config.Listens
	Group  string // whose members may use the socket, a name or a number; "" is none
}

// Listens returns true if the daemon listens on a socket.
func (c *Config) Listens() bool { return c.API.Socket && (c.Many || !c.Jobs[0].Once) }

// History is the section of that name.
type History struct {
	Size int64 // of the two files of a job, in bytes; 0 is no history
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
// reference, then the user's in the order of the files, then those of each entry of jobs:. Of an
// entry it has those that differ from the defaults in job:, and always the command.
func (c *Config) Values() []Value {
	shown := slices.Clone(c.values)
	for i := range c.Jobs {
		shown = append(shown, c.entries.of(i)...)
	}
	for i, v := range shown {
		shown[i].Key, shown[i].Text = shownValue(v.Key, v.Text)
	}
	at := len(c.values)
	for i := range c.Jobs {
		for range c.entries.of(i) {
			shown[at].Key = c.entryKey(i, shown[at].Key)
			at++
		}
	}
	return shown
}

// shownValue returns a setting as it is safe to show.
func shownValue(name, text string) (shownName, shownText string) {
	own := slices.ContainsFunc(keys(), func(k key) bool { return k.name == name }) // none is a secret itself
	if !own && looksSecret(name) {
		return shownKey(name), hidden
	}
	return name, redact(text)
}

// entryKey returns the name below jobs: of a key of job:.
func (c *Config) entryKey(i int, key string) string {
	return jobsSection + "." + c.Jobs[i].Name + strings.TrimPrefix(key, jobSection)
}

// Shown returns the text of one of gophd's own settings, with secrets hidden.
func (c *Config) Shown(key string) string {
	text, _ := c.Get(key)
	return redact(text)
}

// Get returns the text of one setting, gophd's or the user's, by its section.key. That of a job,
// jobs.NAME.key, may come from job:. Secrets are not hidden, because the caller asks for one
// setting by name.
func (c *Config) Get(key string) (string, bool) {
	values := c.values
	if rest, ok := strings.CutPrefix(key, jobsSection+"."); ok && c.Many {
		name, below, _ := strings.Cut(rest, ".")
		i := slices.IndexFunc(c.Jobs, func(s job.Spec) bool { return s.Name == name })
		if i < 0 {
			return "", false
		}
		if key = jobSection + "." + below; below == "name" {
			return name, true
		}
		values = slices.Concat(c.entries.of(i), values)
	}
	return textOf(values, key)
}

func textOf(values []Value, key string) (string, bool) {
	i := slices.IndexFunc(values, func(v Value) bool { return v.Key == key })
	if i < 0 {
		return "", false
	}
	return values[i].Text, true
}

// Nearest returns the setting of which key is most likely a misspelling, or "".
func (c *Config) Nearest(key string) string {
	var all []string
	for _, v := range c.values {
		all = append(all, v.Key)
	}
	for i := range c.Jobs {
		for _, v := range slices.Concat(c.entries.of(i), c.values) {
			if c.Many && strings.HasPrefix(v.Key, jobSection+".") {
				all = append(all, c.entryKey(i, v.Key))
			}
		}
	}
	return misspelled.Nearest(key, all)
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
	return strings.HasPrefix(variableName, "GOPHD_") && slices.ContainsFunc(sections, func(s string) bool {
		return strings.HasPrefix(variableName, variable(s)+"_")
	})
}
