package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"gophd/internal/config"
	"gophd/internal/event"
	"gophd/internal/headtail"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/procfs"
)

// openRunner opens what the command needs.
func (s *Supervisor) openRunner() error {
	creds, err := preflight.Credentials(*s.spec)
	if err != nil {
		return err
	}
	if cannot := preflight.MayGivePipes(*s.spec, creds); cannot != nil {
		s.publish(event.Warning(cannot.Error()))
	}
	stdout, stderr, file := outputs(*s.spec, s.log(), s.o.Spawner.Null())
	if file != "" && !preflight.IsFIFO(file) { // fail now and not in each run; a FIFO's reader would take this for its end
		f, err := openOutput(file, creds, s.problem)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	env := func() []string {
		env := preflight.Environment(s.o.Env, creds, *s.spec)
		if file := s.o.Config; file != "" {
			env = append(env, config.RunVariable+"="+file) // for `gophd config get`
		}
		return env
	}
	if err := s.openCgroup(); err != nil {
		return err
	}
	if err := s.adoptNotices(); err != nil {
		return err
	}
	s.runner = &runner{spec: s.spec, spawner: s.o.Spawner, credentials: creds, cgroup: s.cgroup, env: env,
		outputs: targets{stdout: stdout, stderr: stderr, file: file}, keepsTail: s.o.KeepOutput,
		hooks: hooks{problem: s.problem, died: s.recheck, fence: func() uint64 { return s.o.Lease.Fence() }, explain: s.explain,
			starts:  s.runStarts,
			started: s.runStarted, escaped: s.escaped, suspended: s.suspended},
		notices: s.notices, handed: handedRuns{runs: s.o.Handed.Runs, files: s.o.Descriptors},
		slots: make([]slot, s.slots())}
	if s.o.Many {
		s.runner.ofJob = " of " + s.spec.Name
	}
	if at := s.o.Handed.Added; at != 0 {
		s.runner.added = strconv.FormatInt(int64(at), 10) + "."
	}
	if s.spec.MailTo != "" && s.o.Mailer != nil {
		r := s.runner
		r.mailer = s.o.Mailer
		r.outputs.stdout, r.outputs.stderr = r.mailed(stdout, 1), r.mailed(stderr, 2)
	}
	s.mark("none")
	if lock := s.o.Lease.Lock(); lock != nil {
		lock.AddUsers(creds.UIDs()...)
		if lock.Descriptor() != nil { // it was handed off
			s.mark(lease.Mark(lock))
		}
	}
	if s.spec.Output == job.OutputOnFailure {
		s.runner.hooks.failed = s.showFailed
	}
	return nil
}

// log returns the log for lines of this job.
func (s *Supervisor) log() logging.Job {
	if s.o.Many {
		return s.o.Log.Job(s.spec.Name)
	}
	return s.o.Log.Job("")
}

// showFailed shows the output of a run that failed: in the log, or unchanged on stderr if there is
// no log file.
func (s *Supervisor) showFailed(pid int, output *headtail.Buffer) {
	if s.o.Log.Path() == "" {
		var all bytes.Buffer
		_ = output.Dump(&all) // a buffer accepts everything
		s.o.Log.Show(all.Bytes())
		return
	}
	w := s.log().Capture("stdout")(pid)
	_ = output.Dump(w) // the log counts what it cannot write
	_ = w.Close()
}

// slots returns how many runs may be active at the same time, including those of the old process.
func (s *Supervisor) slots() int {
	n := max(s.spec.MaxParallel, 1)
	for _, g := range s.o.Handed.Runs {
		n = max(n, g.Run.Slot+1)
	}
	return n
}

// lockMark returns the start of the GOPHD_RUN_ID of each run of this job, of any gophd: the lock with
// its secret, and the job if the lock is for several.
func (s *Supervisor) lockMark(lock string) string {
	if s.o.Many {
		return lock + "." + s.spec.Name + "."
	}
	return lock + "."
}

// mark sets the start of the GOPHD_RUN_ID of each run of this daemon: lockMark, by which a leftover
// run is found, the PID, and the first start, so that it is unique among daemons.
func (s *Supervisor) mark(lock string) {
	mark := fmt.Sprintf("%s%d.%d.", s.lockMark(lock), os.Getpid(), s.o.Started.UnixNano())
	s.runner.mark.Store(&mark)
}

// openCgroup creates the job's control group if it is needed: for limits, which must not be missing
// silently, and to stop escaped processes, which can also be found without it.
func (s *Supervisor) openCgroup() (err error) {
	l := preflight.Limits(*s.spec)
	if l == (process.Limits{}) && s.spec.Escaped != job.EscapedKill {
		return nil
	}
	SweepCgroups(s.o.ID, exited)
	s.cgroup, err = process.OpenCgroup("", fmt.Sprintf("%s-%d", s.o.ID, os.Getpid()), l)
	if l == (process.Limits{}) {
		return nil
	}
	return err
}

// SweepCgroups removes the control groups that earlier instances of the job could not remove.
func SweepCgroups(name string, over func(pid int) bool) {
	process.SweepCgroups("", func(group string) bool {
		number, ok := strings.CutPrefix(group, name+"-")
		pid, err := strconv.Atoi(number)
		return ok && err == nil && over(pid)
	})
}

func exited(pid int) bool { return !procfs.Alive(pid, 0) }

// explain returns the error as one of this job.
func (s *Supervisor) explain(err error) error {
	if s.o.Many && !s.o.Crontab {
		return config.OfJob(s.spec.Name, err)
	}
	return err
}
