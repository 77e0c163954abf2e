// Package supervisor answers: when do the runs of one job start, and how do they end?
//
// A Supervisor serves the loop (loop.go) while it has a lease, starts and stops runs
// (runner.go), watches leftover runs (leftover.go), and hands all of that off to the next process
// or adopts it from the old one (handoff.go, adopt.go). It keeps the record of the job: what was
// requested for it, and the last due time of its calendar (record.go). It reports the runs that were due and do not
// happen (missed.go). It receives requests, publishes events, and reports its state in a Report. It knows
// nothing of the process: signals, log files and re-exec belong to package daemon. The loop decides when a run starts, and package process how a command
// is killed.
//
// What happens in which state ("-" is nothing; a state after the arrow is entered):
//
//	event         standby               active                draining              failing         frozen
//	stop          stop loop → draining  stop loop → draining  -                     -               -
//	force         as stop, stop the     as stop, stop the     stop the runs         stop the runs   -
//	              runs                  runs
//	run now       rejected              wake loop             rejected              rejected        rejected
//	lease held    start loop → active   -                     -                     -               -
//	lease ending  stop the runs         stop the runs         stop the runs         stop the runs   -
//	lease failed  stop the runs         stop the runs         stop the runs         stop the runs   → failing
//	              → failing             → failing             → failing
//	cannot start  as lease failed, log  as lease failed, log  as lease failed, log  log             log → failing
//	freeze        hand off → frozen     hand off → frozen     hand off → frozen     rejected        -
//	loop ended    → draining            → draining            -                     -               -
//	loop gave up  log → draining        log → draining        -                     -               -
//	panic         stop the runs, log    stop the runs, log    stop the runs, log    stop the runs,  log → failing
//	              → failing             → failing             → failing             log
//
// standby is the state before the lease is held, at a first start too. No run starts in it. After a
// re-exec the loop has the runs of the old process, until this process holds the lease, or until
// the lease under which they were started ends. A freeze is rejected while a run is being
// started, while its last output is being written, or while it is being stopped because the lease
// ends. After that no run starts until a freeze succeeds or Thaw opens the gate again. Any other
// run that is being stopped is handed off with its stop plan. A lease that failed or a
// panic after a forced stop does not change the state, and is not the reason why the job ends.
//
// draining, failing and frozen end when the loop has ended. frozen ends immediately, because the
// loop was handed off with its runs. The end of the lease takes precedence over every grace: the
// command is dead by the deadline.
package supervisor
