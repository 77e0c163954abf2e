// Package preflight answers: can this config start on this host?
//
// Package config and Valid reject an invalid config, which cannot be understood. Check rejects an
// unfit one: something that it names is missing here, or may not be used. Check is the same for
// gophd check, a start, and a running gophd before it re-execs (CheckNext). A start uses the
// functions in options.go and directories.go too. The package leaves everything as it is, except for
// directories that CreateDirectories creates.
package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"gophd/internal/config"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/heartbeat/memcached"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/pidfile"
	"gophd/internal/process"
	"gophd/internal/safefile"
	"gophd/internal/schedule"
)

// Valid returns what cannot be understood in a loaded config, but only another package can tell. It
// reads the file of heartbeat.password_file, and looks at nothing else on this host.
func Valid(c *config.Config) error {
	err := logging.Check(logging.Options{File: c.LogFile(c.Name), Format: c.Log.Format})
	if bad := checkPassword(c.Heartbeat); errors.Is(bad, memcached.ErrContent) {
		err = errors.Join(err, bad)
	}
	return err
}

func checkPassword(h config.Heartbeat) error {
	if !h.Shared() || h.PasswordFile == "" {
		return nil
	}
	return memcached.CheckPasswordFile(h.PasswordFile)
}

// Check returns the file that each run of the only job would execute, or why a start would fail
// here and now, with the permissions of this process: an error with a line for each problem.
// job.StartCode returns the exit code of such a start. Of many jobs it checks all, and the error
// names each job. See Checker.
func Check(c *config.Config, env []string, leaving ...int) (program string, err error) {
	return NewChecker(c, env, leaving...).all(func(job.Spec) bool { return false })
}

// all checks the daemon and each job, except those for which skip returns true.
func (k *Checker) all(skip func(job.Spec) bool) (program string, err error) {
	c := k.config
	wrong := []error{k.Daemon()}
	for _, spec := range c.Jobs {
		if skip(spec) {
			continue
		}
		program, err = k.Job(spec)
		wrong = append(wrong, k.Named(spec, err))
	}
	if c.Many {
		program = ""
	}
	return program, errors.Join(wrong...)
}

// Checker checks a loaded config: what concerns the daemon, and each job by itself, so that an
// unfit job need not concern the others. It calls the checks of the packages that will use the
// config, and checks each path that a start will open.
//
// It leaves everything as it is: a file that it creates to find out whether a start could is gone
// when it returns. It contacts no server and ignores locks of other processes. It blocks for as long
// as the file systems do, and while a process of gophd's own looks as a job's user.
type Checker struct {
	config  *config.Config
	env     []string
	leaving []int
	paths   paths
	files   files
	wrong   []error // directories that cannot be used
	// programs are the results for the commands of all jobs, by job; nil before the first is needed.
	programs map[string]process.Checked
}

// NewChecker returns a Checker of a loaded config. env is gophd's own environment. The processes in
// leaving are no obstacle to limits: they leave this control group, or belong to gophd.
func NewChecker(c *config.Config, env []string, leaving ...int) *Checker {
	k := &Checker{config: c, env: env, leaving: leaving, paths: pathsOf(c), files: filesOf(c, streamsOf("self"))}
	for i, dir := range k.paths.made {
		if err := dir.check(); err != nil {
			k.paths.made[i].unfit = true
			k.wrong = append(k.wrong, job.SetupError(err))
		}
	}
	return k
}

// problems collects the errors of a check. All but those of the command are job.ErrSetup.
type problems []error

func (p *problems) add(err error) {
	if err != nil {
		*p = append(*p, job.SetupError(err))
	}
}

// Daemon returns why no job could start: an error with a line for each problem.
func (k *Checker) Daemon() error {
	var wrong problems
	c := k.config
	wrong.add(k.files.daemon(c))
	wrong = append(wrong, k.wrong...)
	l, err := LogOptions(c)
	wrong.add(err)
	if err == nil {
		wrong.add(k.paths.log(l, time.Now()))
	}
	if err := k.paths.pidFile(c.PIDFile); !errors.As(err, new(*pidfile.HeldError)) {
		wrong.add(err)
	}
	if path := lease.LockPath(c); path != "" {
		wrong.add(stateError(c, k.paths.lock(path)))
	}
	wrong.add(checkPassword(c.Heartbeat))
	wrong.add(checkDescriptors(c))
	_, err = APIGroup(c)
	wrong.add(err)
	return errors.Join(wrong...)
}

// Job returns the file that each run of a job would execute, or why the job could not start: an
// error with a line for each problem.
func (k *Checker) Job(spec job.Spec) (program string, err error) {
	var wrong problems
	c := k.config
	wrong.add(k.files.job(c, spec))
	for _, err := range c.Unfit(spec) {
		wrong.add(err)
	}
	w, err := Credentials(spec)
	wrong.add(err)
	if err == nil {
		program, err = k.program(spec)
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	wrong.add(k.paths.output(string(spec.Output), w))
	wrong.add(k.paths.input(spec.Stdin, w))
	if l := Limits(spec); l != (process.Limits{}) {
		wrong.add(process.CheckCgroup("", l, k.leaving...))
	}
	if OwnLog(c, spec) {
		l, err := JobLogOptions(c, spec)
		if err == nil { // else Daemon returns the error
			wrong.add(k.paths.log(l, time.Now()))
		}
	}
	if c.OwnLeases() {
		if path := jobLock(c, spec).path; path != "" {
			wrong.add(stateError(c, k.paths.lock(path)))
		}
	}
	if c.Many && c.Crontab == "" {
		for i := range wrong {
			wrong[i] = config.OfJob(spec.Name, wrong[i])
		}
	}
	return program, errors.Join(wrong...)
}

// program returns the result of process.Check for the command of a job. The first call checks the
// commands of all jobs, because those with the same user and limits share a process then.
func (k *Checker) program(spec job.Spec) (string, error) {
	if k.programs == nil {
		var names []string
		var commands []process.Command
		for _, spec := range k.config.Jobs {
			w, err := Credentials(spec)
			if err != nil { // Job returns it
				continue
			}
			c := process.Command{Argv: spec.Command, Dir: spec.Dir, Credentials: w, Env: Environment(k.env, w, spec)}
			names, commands = append(names, spec.Name), append(commands, c)
			if c.Argv = plainLine(spec.Command, c.Env); c.Argv != nil {
				names, commands = append(names, spec.Name), append(commands, c)
			}
		}
		k.programs = map[string]process.Checked{}
		for i, checked := range process.CheckAll(commands) {
			shell, line := k.programs[names[i]]
			switch {
			case !line:
				k.programs[names[i]] = checked
			case shell.Err == nil && !(errors.Is(checked.Err, syscall.ENOEXEC) && readByShell(commands[i])):
				shell.Err = checked.Err
				k.programs[names[i]] = shell
			}
		}
	}
	p := k.programs[spec.Name]
	return p.Path, p.Err
}

// readByShell reports whether the shell reads the program of a command itself.
func readByShell(c process.Command) bool {
	path, err := process.LookPath(c.Argv[0], c.Dir, c.Env)
	return err == nil && process.ReadByShell(path)
}

// plainLine returns the words of a line for the shell, if the shell does nothing but execute the
// program that the first of them names, by its path or in the PATH of env; otherwise nil.
func plainLine(command, env []string) []string {
	if len(command) != 3 || command[0] != shell || command[1] != "-c" {
		return nil
	}
	words := strings.Fields(command[2])
	if len(words) == 0 || strings.ContainsAny(command[2], "\"'\\$`|&;<>*?()[]{}~#!=\n") ||
		!strings.Contains(words[0], "/") && (process.ShellHas(words[0]) || !searches(words[0], env)) {
		return nil
	}
	return words
}

const shell = "/bin/sh"

// searches reports whether the shell searches a name in the PATH of env: not if it may have a function
// of that name from there, nor if it is one that has many programs in itself (busybox, toybox).
func searches(name string, env []string) bool {
	has := func(key string) bool {
		return slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, key) })
	}
	is, err := filepath.EvalSymlinks(shell)
	return err == nil && !strings.HasSuffix(is, "box") && has("PATH=") && !has("BASH_FUNC_"+name)
}

// Named returns an error of Job with the name of the job before each problem, if there are many jobs.
func (k *Checker) Named(spec job.Spec, err error) error {
	all, ok := err.(interface{ Unwrap() []error })
	if !ok || !k.config.Many {
		return err
	}
	var named []error
	for _, err := range all.Unwrap() {
		named = append(named, fmt.Errorf("%s: %w", k.config.Where(spec, ""), err))
	}
	return errors.Join(named...)
}

// Cautions returns what a start would accept, although output may be lost or each run may fail,
// with the permissions of this process. It changes nothing.
func Cautions(c *config.Config) (texts []string) {
	same := func(key string) string { return key }
	fifo := func(where func(string) string, key, path, otherwise string) {
		// Only an open tells whether a FIFO has a reader, who would take the end of this for its end.
		if _, ok := safefile.Descriptor(path); !ok && filepath.IsAbs(path) && IsFIFO(path) {
			texts = append(texts, fmt.Sprintf("%s %s is a FIFO: start its reader first; without a reader %s", where(key), path, otherwise))
		}
	}
	shared := 0
	for _, spec := range c.Jobs {
		where, of := same, func() string { return "" }
		if c.Many { // finding the line in a crontab takes time
			where = func(key string) string { return c.Where(spec, key) }
			of = func() string { return c.Where(spec, "") + ": " }
		}
		fifo(where, "job.output", string(spec.Output), "each run fails")
		if OwnLog(c, spec) {
			fifo(same, "log.file", logging.FileAt(c.LogFile(spec.Name), time.Now()), "lines are lost")
		} else {
			shared++
		}
		w, err := Credentials(spec)
		if err != nil {
			continue
		}
		if err := cmp.Or(MayGivePipes(spec, w), mayGiveOutput(string(spec.Output), w)); err != nil {
			texts = append(texts, of()+err.Error()+" (as the user of this check)")
		}
	}
	if shared > 1 && c.Log.OnFull == "block" && c.Log.File != "" {
		texts = append(texts, "log.on_full block: the jobs share one log, so a log that cannot be written stops all of them; "+
			"leave it out, or write %{job} in log.file for a log of each")
	}
	texts = append(texts, scheduleCautions(c, time.Now())...)
	for _, text := range []string{LogCaution(c), descriptorCaution(c)} {
		if text != "" {
			texts = append(texts, text)
		}
	}
	fifo(same, "log.file", logging.FileAt(c.LogFile(c.Name), time.Now()), "lines are lost")
	return texts
}

// manyAtOnce is how many jobs in one minute are unusual.
const manyAtOnce = 200

// scheduleCautions returns what the user of a schedule has perhaps not meant.
func scheduleCautions(c *config.Config, now time.Time) (texts []string) {
	var all []*schedule.Schedule // those that nothing spreads
	for _, spec := range c.Jobs {
		key := "job.interval"
		if spec.Calendar != nil {
			key = "job.schedule"
		}
		where := func() string { // finding the line in a crontab takes time
			if c.Many {
				return c.Where(spec, key)
			}
			return key
		}
		if text := lengthCaution(c, spec, now); text != "" {
			texts = append(texts, where()+": "+text)
		}
		if spec.Calendar == nil {
			continue
		}
		for _, text := range spec.Calendar.Cautions(now) {
			texts = append(texts, fmt.Sprintf("%s %q: %s", where(), spec.Calendar, text))
		}
		if spec.Splay == 0 && spec.Jitter == 0 {
			all = append(all, spec.Calendar)
		}
	}
	if n, minute := busiestMinute(all, now); n >= manyAtOnce {
		texts = append(texts, fmt.Sprintf("%d jobs are due in the minute of %s: write ~ in place of the minute to spread them, "+
			"or set config.max_running", n, minute.Format(time.RFC3339)))
	}
	return texts
}

// busiestCandidates is how many minutes busiestMinute counts.
const busiestCandidates = 10

// busiestMinute returns the minute in which the most jobs are due, of those in which many are due next, and how
// many they are.
func busiestMinute(all []*schedule.Schedule, now time.Time) (most int, busiest time.Time) {
	next := map[time.Time]int{}
	for _, c := range all {
		if due, ok := c.Next(now); ok {
			next[due.UTC().Truncate(time.Minute)]++
		}
	}
	minutes := slices.SortedFunc(maps.Keys(next), func(a, b time.Time) int { return cmp.Or(next[b]-next[a], a.Compare(b)) })
	for _, minute := range minutes[:min(len(minutes), busiestCandidates)] {
		n := 0
		for _, c := range all {
			if due, ok := c.Next(minute.Add(-1)); ok && due.Before(minute.Add(time.Minute)) {
				n++
			}
		}
		if n > most {
			most, busiest = n, minute
		}
	}
	return most, busiest
}

// LogCaution returns a Caution that a daemon cannot report, because it is about its log; "" if
// there is none.
func LogCaution(c *config.Config) string {
	if err := logging.CheckService(c.Log.File); err != nil {
		return fmt.Sprintf("log.file %s: %v: start it, or name a file; lines are lost until it can be reached",
			c.Log.File, err)
	}
	return ""
}

// IsFIFO reports whether path leads to a FIFO.
func IsFIFO(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeNamedPipe != 0
}

// Holders returns the current holders of the PID file and the local lock on this host, as text; ""
// means no holder. It contacts no server. It returns an error if a program other than gophd has
// locked the lock file. It blocks for up to twice file.NoteTime to find that out.
func Holders(c *config.Config) (pidFile, lock string, err error) {
	if held := (*pidfile.HeldError)(nil); c.PIDFile != "" && errors.As(pidfile.Check(c.PIDFile), &held) {
		pidFile = fmt.Sprintf("PID %d", held.PID)
	}
	lock, err = holder(lease.LockPath(c), c.Name)
	return pidFile, lock, err
}

// JobHolder is Holders for the lock of a job with its own lease.
func JobHolder(c *config.Config, spec job.Spec) (string, error) {
	if !c.OwnLeases() {
		return "", nil
	}
	l := jobLock(c, spec)
	text, err := holder(l.path, l.name)
	if err != nil {
		err = fmt.Errorf("%s: %w", c.Where(spec, ""), err)
	}
	return text, err
}

func holder(lock, name string) (string, error) {
	if lock == "" {
		return "", nil
	}
	held := (*heartbeat.HeldError)(nil)
	switch err := (Running{}).local(context.Background(), lock, name, 2*file.NoteTime); {
	case errors.As(err, &held):
		return held.Holder.String(), nil
	case errors.Is(err, heartbeat.ErrUnfit):
		return "", err
	}
	return "", nil
}
