package job

// Missed is why a run that was due does not happen, in one word that programs read. Its values are stable.
type Missed string

// The reasons.
const (
	MissedPaused     Missed = "paused"         // the job is paused
	MissedStopped    Missed = "stopped"        // the job is stopped
	MissedSkipped    Missed = "skipped"        // that was requested
	MissedOverlap    Missed = "overlap"        // a run was active
	MissedMaxRunning Missed = "max_running"    // too many runs of all jobs were active
	MissedDeadline   Missed = "start_deadline" // it is too late
	MissedElsewhere  Missed = "held_elsewhere" // another instance held the lease
	MissedLease      Missed = "lease"          // the lease did not allow a run
	MissedNotRunning Missed = "not_running"    // gophd did not run
	MissedLate       Missed = "late"           // gophd was too late: the machine was suspended, or too busy
	MissedClock      Missed = "clock"          // the clock was set
)
