package preflight

import (
	"fmt"

	"golang.org/x/sys/unix"

	"gophd/internal/config"
	"gophd/internal/job"
)

// How many descriptors gophd needs. Measured: an idle daemon with a log file and memcached has 16, and
// a run that is started needs 6 for a moment (bench: BenchmarkIdleJobs, BenchmarkServices).
const (
	ownDescriptors = 24 // of the daemon, with those of a run that is being started
	runDescriptors = 4  // of an active run: two pipes, its pidfd, and its notify socket
)

// descriptors returns how many descriptors gophd needs while no run is active, and how many more with
// all runs that may be active at the same time.
func descriptors(c *config.Config) (idle, active int) {
	idle = ownDescriptors
	for _, spec := range c.Jobs {
		if c.OwnLeases() {
			idle++ // the lock of the job
		}
		parallel := 1
		if spec.Overlap == job.OverlapAllow {
			parallel = max(spec.MaxParallel, 1)
		}
		active += parallel
		if OwnLog(c, spec) {
			idle++ // open while it is written, for a minute after the last line
		}
	}
	if c.MaxRunning > 0 {
		active = min(active, c.MaxRunning)
	}
	return idle, active * runDescriptors
}

// checkDescriptors returns an error if the limit of this process is too low for the config while one
// run is active.
func checkDescriptors(c *config.Config) error {
	idle, _ := descriptors(c)
	limit := openFilesLimit()
	if need := idle + runDescriptors; need > limit {
		return fmt.Errorf("gophd needs %d open files, and its limit is %d: raise it (ulimit -n %d, or LimitNOFILE=%d in systemd)",
			need, limit, 2*need, 2*need)
	}
	return nil
}

// descriptorCaution returns a Caution if runs fail when all that may be active are; "" if there is none.
func descriptorCaution(c *config.Config) string {
	idle, active := descriptors(c)
	limit := openFilesLimit()
	if idle+active <= limit {
		return ""
	}
	return fmt.Sprintf("gophd needs %d open files if all runs are active at the same time, and its limit is %d, so some would "+
		"wait or fail: raise it (ulimit -n %d, or LimitNOFILE=%d in systemd), or set config.max_running to %d at most",
		idle+active, limit, 2*(idle+active), 2*(idle+active), max((limit-idle)/runDescriptors, 1))
}

// openFilesLimit returns how many descriptors this process may have, which Go has raised to the hard
// limit (os: adjustFileLimit). A command gets the limit that gophd was started with.
func openFilesLimit() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 1 << 30
	}
	return int(min(uint64(l.Cur), 1<<30))
}
