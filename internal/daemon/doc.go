// Package daemon answers: what does one gophd process do, from its start to its exit or re-exec?
//
// A Daemon opens log, events, PID file and supervisor (open.go), serves signals and timers, decides (the
// table below, in machine.go), has the next program checked and hands everything off to it (reexec.go),
// or ends it all in the reverse order. It knows nothing of ticks, runs and stores: those are the
// supervisor's. It ends in an Outcome: stopped, or to be re-executed with a handoff; package main
// carries that out.
//
// The order of a start: signals, log, local lock, PID file, lease, loop, and then the word that gophd
// serves. The end is the reverse: loop, lease (released, or kept for the next process), PID file, log,
// signals.
//
// What happens in which state ("-" is nothing; a state after the arrow is entered):
//
//	event           starting      serving     validating       reexecuting  stopping        killing
//	stop            stop →        stop →      stop →           -            force →         kill
//	                stopping      stopping    stopping                      killing
//	stop at once    as above      as above    as above         -            -               -
//	restart         check →       check →     -                -            -               -
//	                validating    validating
//	wake            refused       run now     run now          refused      refused         refused
//	dump            say           say         say              say          say             say
//	reopen          reopen        reopen      reopen           reopen       reopen          reopen
//	served          → serving     -           -                -            -               -
//	job fails       → killing     → killing   → killing        → killing    → killing       -
//	checked: ok     -             -           freeze →         -            -               -
//	                                          reexecuting,
//	                                          or again
//	again           -             -           as checked: ok   -            -               -
//	again, late     -             -           check            -            -               -
//	again, busy     -             -           say, thaw,       -            -               -
//	                                          again
//	again, thawed   -             -           check            -            -               -
//	again, hangs    -             -           again            -            -               -
//	hangs too long  -             -           say → serving    -            -               -
//	                                          (or starting)
//	checked: no     -             -           say → serving    -            -               -
//	                                          (or starting)
//	job ended       → stopping    → stopping  → stopping       -            -               -
//	job gave up     → stopping    → stopping  → stopping       -            -               -
//	panic           force, say    force, say  force, say       force, say   force, say      force, say
//	                → killing     → killing   → killing        → killing    → killing
//
// A stop comes at once when it is within stopAgain of the stop before it, or within forceAgain when that
// was the second: it is the same one. stop lets active runs finish; force stops them (stop signals,
// grace, KILL); kill sends KILL.
//
// While a freeze is tried no run starts. What is still in the way after soundFor is named, and runs start again
// until the check is repeated.
//
// A re-exec hangs while the log's disk does not answer, for an exec would wait for the write that is
// under way, and nobody would serve a signal or the lease meanwhile. The log pauses in validating, and
// resumes in every other state.
//
// Every state from reexecuting on ends when the job has ended: the Outcome is a re-exec from
// reexecuting, and from killing or stopping after a panic or a fatal exit code, if the storm guard
// allows it. In every other case it is the end. reexecuting ends at once, for the job is frozen: the
// next process adopts its runs before it serves any request. Requests that come in between are handed
// off too.
package daemon
