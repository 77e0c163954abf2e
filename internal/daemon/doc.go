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
//	event             starting      serving     validating       reexecuting  draining        stopping
//	stop              stop →        stop →      stop →           -            force →         kill
//	                  draining      draining    draining                      stopping
//	duplicate stop    stop →        stop →      stop →           -            -               -
//	                  draining      draining    draining
//	reload            check →       check →     -                -            -               -
//	                  validating    validating
//	run now           rejected      run now     run now          rejected     rejected        rejected
//	dump              log           log         log              log          log             log
//	reopen            reopen        reopen      reopen           reopen       reopen          reopen
//	served            → serving     -           -                -            -               -
//	job fails         → stopping    → stopping  → stopping       → stopping   → stopping      -
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
//	job ended         → draining    → draining  → draining       -            -               -
//	job gave up       → draining    → draining  → draining       -            -               -
//	panic             force, log    force, log  force, log       force, log   force, log      force, log
//	                  → stopping    → stopping  → stopping       → stopping   → stopping
//
// The socket (api.go, steer.go) requests stop and reload too; a reload that would do nothing is rejected.
// Its requests for one job are no events of this table: they are carried out up to validating, by the
// job's supervisor, and rejected after that.
//
// A stop is a duplicate if it comes within stopRepeat of the first one, or within forceRepeat of
// the second: it counts as the same stop. stop lets active runs finish; force stops them (stop
// signals, grace, KILL); kill sends KILL.
//
// While a freeze is attempted no run starts. An attempt that failed is repeated by the event retry.
// What happens then depends on why it failed, and for how long:
//   - retry: the program was checked less than validFor ago. The freeze is attempted again.
//   - late: the check is older than that, so it is repeated.
//   - busy: the check is older, and a run still prevents the freeze. An event names it, and runs
//     start again.
//   - thawed: after busy, runs could start for thawedFor. The check is repeated.
//   - blocked: a disk does not answer (see below). The attempt is repeated, for blockedLimit at
//     most.
//
// A re-exec is blocked while the log's disk does not answer: execve would wait for the active
// write, and meanwhile no signal would be served and no lease renewed. The log pauses in
// validating, and resumes in every other state.
//
// reexecuting, draining and stopping end when the job has ended. The Outcome is a re-exec from
// reexecuting, and from stopping or draining after a panic or a fatal exit code, if the restart
// guard (restart.Guard) allows it. In every other case gophd exits. A panic in one of several jobs
// is a reload in this table, requested as soon as the guard allows it (recover.go). reexecuting
// ends immediately, because the job is frozen: the next process adopts its runs before it serves
// any request. Requests that arrive before Exec closes the signals are handed off too, except for a
// reload, which the re-exec itself serves.
package daemon
