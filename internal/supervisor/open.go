package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"gophd/internal/config"
	"gophd/internal/job"
	"gophd/internal/keep"
	"gophd/internal/preflight"
	"gophd/internal/process"
	"gophd/internal/procfs"
	"gophd/internal/world"
)

// openRunner opens what the command needs.
func (s *Supervisor) openRunner() error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	s.null = null
	surroundings, err := preflight.World(s.spec)
	if err != nil {
		return err
	}
	stdout, stderr, file := outputs(s.spec, s.o.Log, null)
	if file != "" && !isFIFO(file) { // refuse now what every run would fail for; the reader of a FIFO would take this for the end
		f, err := openOutput(file, surroundings)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	var user *world.User
	if surroundings != nil {
		user = surroundings.User
	}
	env := commandEnvironment(config.Private(s.o.Env), user, s.spec)
	if file := s.o.Config.File; file != "" {
		env = append(env, config.RunVariable+"="+file) // for `gophd config get`
	}
	if err := s.openCgroup(); err != nil {
		return err
	}
	if err := s.openNotify(); err != nil {
		return err
	}
	s.runner = &runner{spec: s.spec, spawner: s.o.Spawner, world: surroundings, cgroup: s.cgroup, env: env,
		outputs: targets{stdout: stdout, stderr: stderr, file: file},
		hooks: hooks{trouble: s.problem, fence: func() uint64 { return s.lease.Fence() },
			started: s.runStarted, escaped: s.escaped},
		notices: s.notices, handed: handedRuns{runs: s.o.Handed.Runs, files: s.o.Files},
		deaths: make(chan struct{}, 1), places: make([]place, s.slots())}
	s.mark("none")
	if s.spec.Output == job.OutputOnFailure {
		s.runner.hooks.failed = s.showFailed
	}
	return nil
}

// showFailed shows the output of a run that failed: in the log, or else on stderr as it is.
func (s *Supervisor) showFailed(pid int, output *keep.Keeper) {
	if s.o.Log.Path() == "" {
		var all bytes.Buffer
		_ = output.Dump(&all) // a buffer takes everything
		s.o.Log.Show(all.Bytes())
		return
	}
	w := s.o.Log.Capture("stdout")(pid)
	_ = output.Dump(w) // what cannot be shown is counted by the log
	_ = w.Close()
}

// slots returns how many runs may be active at the same time, those of the old process included.
func (s *Supervisor) slots() int {
	n := max(s.spec.MaxParallel, 1)
	for _, g := range s.o.Handed.Runs {
		n = max(n, g.Run.Place+1)
	}
	return n
}

// mark sets the beginning of the GOPHD_RUN_ID of each run of this daemon: the lock with its secret, by which a
// leftover run is found, the PID, and the first start, so that no other daemon has it.
func (s *Supervisor) mark(lock string) {
	mark := fmt.Sprintf("%s.%d.%d.", lock, os.Getpid(), s.o.Started.UnixNano())
	s.runner.mark.Store(&mark)
}

// openCgroup creates the job's control group if it is needed: for limits, which must not be missing silently,
// and to stop escaped processes, which can be found without it too.
func (s *Supervisor) openCgroup() (err error) {
	l := preflight.Limits(s.spec)
	if l == (process.Limits{}) && s.spec.Strays != job.StraysKill {
		return nil
	}
	SweepCgroups(s.spec.Name, gone)
	if s.cgroup, err = process.OpenCgroup("", fmt.Sprintf("%s-%d", s.spec.Name, os.Getpid()), l); l == (process.Limits{}) {
		return nil
	}
	return err
}

// SweepCgroups removes the control groups that the job's earlier instances could not remove.
func SweepCgroups(name string, over func(pid int) bool) {
	process.SweepCgroups("", func(group string) bool {
		number, ok := strings.CutPrefix(group, name+"-")
		pid, err := strconv.Atoi(number)
		return ok && err == nil && over(pid)
	})
}

func gone(pid int) bool { return !procfs.Alive(pid, 0) }
