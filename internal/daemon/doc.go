// Package daemon answers: what does one gophd process do, from its start to its exit or re-exec?
//
// A Daemon opens log, events, PID file and supervisor (open.go), serves signals and timers, and
// decides what to do (the table below, in machine.go). It has the next program checked and hands
// everything off to it (reexec.go), or shuts everything down in the reverse sequence. It knows
// nothing of ticks, runs and stores: those belong to package supervisor. It ends in an Outcome:
// stopped, or to be re-executed with a handoff. Package main carries that out.
//
// The sequence of a start: signals, log, local lock, PID file, lease, loop, and then the report
// that gophd serves. A shutdown is the reverse: loop, lease (released, or kept for the next
// process), PID file, log, signals.
//
// What happens in which state ("-" is nothing; a state after the arrow is entered):
//
//	event             starting      serving     validating       reexecuting  stopping        killing
//	stop              stop →        stop →      stop →           -            force →         kill
//	                  stopping      stopping    stopping                      killing
//	stop at once      as above      as above    as above         -            -               -
//	reload            check →       check →     -                -            -               -
//	                  validating    validating
//	run now           rejected      run now     run now          rejected     rejected        rejected
//	dump              log           log         log              log          log             log
//	reopen            reopen        reopen      reopen           reopen       reopen          reopen
//	served            → serving     -           -                -            -               -
//	job fails         → killing     → killing   → killing        → killing    → killing       -
//	checked: ok       -             -           freeze →         -            -               -
//	                                            reexecuting,
//	                                            or retry
//	retry             -             -           as checked: ok   -            -               -
//	retry, late       -             -           check            -            -               -
//	retry, busy       -             -           log, thaw,       -            -               -
//	                                            retry
//	retry, thawed     -             -           check            -            -               -
//	retry, blocked    -             -           retry            -            -               -
//	blocked too long  -             -           log → serving    -            -               -
//	                                            (or starting)
//	checked: no       -             -           log → serving    -            -               -
//	                                            (or starting)
//	job ended         → stopping    → stopping  → stopping       -            -               -
//	job gave up       → stopping    → stopping  → stopping       -            -               -
//	panic             force, log    force, log  force, log       force, log   force, log      force, log
//	                  → killing     → killing   → killing        → killing    → killing
//
// A stop is at once if it comes within stopRepeat of the stop before it, or within forceRepeat if
// that was the second: it counts as the same stop. stop lets active runs finish; force stops them
// (stop signals, grace, KILL); kill sends KILL.
//
// While a freeze is attempted no run starts. If something still prevents it after validFor, an
// event names it, and runs start again until the check is repeated.
//
// A re-exec is blocked while the log's disk does not answer: execve would wait for the active
// write, and meanwhile no signal would be served and no lease renewed. The log pauses in
// validating, and resumes in every other state.
//
// Every state from reexecuting on ends when the job has ended. The Outcome is a re-exec from
// reexecuting, and from killing or stopping after a panic or a fatal exit code, if the storm guard
// allows it. In every other case gophd exits. reexecuting ends at once, because the job is frozen:
// the next process adopts its runs before it serves any request. Requests that arrive in between
// are handed off too.
package daemon
