// Package supervisor answers: when do the runs of one job start, and how do they end?
//
// A Supervisor acquires the lease (acquire.go), serves the loop (turning.go), starts and stops runs
// (runner.go), watches leftover runs (leftover.go), and hands all of that off to the next process or
// adopts it from the old one (handoff.go, adopt.go). It receives requests, publishes events, and tells
// in a Report where it stands. It knows nothing of the process: signals, log files and re-exec are the
// daemon's. When the loop starts a run is the loop's to say, and how a command is killed is process's.
//
// What happens in which state ("-" is nothing; a state after the arrow is entered):
//
//	event         standby               active                draining              failing         frozen
//	stop          stop loop → draining  stop loop → draining  -                     -               -
//	force         as stop, stop the     as stop, stop the     stop the runs         stop the runs   -
//	              runs                  runs
//	run now       refused               wake loop             refused               refused         refused
//	lease held    start loop → active   -                     -                     -               -
//	lease ending  stop the runs         stop the runs         stop the runs         stop the runs   -
//	lease lost    stop the runs, say    stop the runs, say    stop the runs, say    say             say → failing
//	              → failing             → failing             → failing
//	freeze        leave loop → frozen   leave loop → frozen   refused               refused         -
//	loop ended    → draining            → draining            -                     -               -
//	loop gave up  say → draining        say → draining        -                     -               -
//	panic         stop the runs, say    stop the runs, say    stop the runs, say    stop the runs,  say → failing
//	              → failing             → failing             → failing             say
//
// In standby the loop runs only with the runs of the old process, until the lease is held again or the
// one under which they were started ends. A freeze is refused while a run is being started, or its last
// output written, or while it is stopped before the lease ends: no run starts then until a freeze
// succeeds or Thaw opens the gate again. A run that is being stopped is left like any other, with its stop plan.
// After a force by a request nothing becomes an error any more.
//
// draining, failing and frozen end when the loop has ended; frozen ends at once, for the loop was left
// with its runs. A lease that ends takes precedence over every grace: the command is dead by its
// deadline.
package supervisor
