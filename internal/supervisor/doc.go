// Package supervisor answers: in what order does it all begin, and how does it end?
//
// A Supervisor builds the rooms from the config (build.go), starts them in order, reads their reports and
// the requests, decides (the table below, in machine.go), and ends them in the reverse order. What it
// does is published as events (package event). It knows nothing of intervals and ticks, which are the
// loop's, nor how a command is killed or a lease is renewed. It ends in an Outcome: stopped, or to be
// restarted with a handoff; package main carries that out.
//
// The beginning: signals, log, local lock, PID file, heartbeat, loop, and then the word that we serve.
// The end is the reverse: loop, heartbeat (released, or kept for the next image), PID file, log,
// signals.
//
// What happens in which state ("-" is nothing; a state after the arrow is entered):
//
//	event          claiming        serving             checking            restarting          stopping        killing
//	stop           → stopping      loop stop →         loop stop →         -                   stop the run    kill the run
//	                               stopping            stopping                                → killing
//	stop at once   as above        as above            as above            -                   -               -
//	restart        check →         check →             -                   -                   -               -
//	               checking        checking
//	wake           refused         loop wake           loop wake           refused             refused         refused
//	dump           say             say                 say                 say                 say             say
//	reopen         reopen          reopen              reopen              reopen              reopen          reopen
//	claimed        loop → serving  -                   loop → serving      -                   -               -
//	lease ending   -               end the run         end the run         end the run         end the run     end the run
//	lease gone     → killing       end the run         end the run         end the run         end the run     end the run
//	                               → killing           → killing           → killing           → killing
//	checked: ok    -               -                   leave loop →        -                   -               -
//	                                                   restarting, or
//	                                                   again
//	again          -               -                   as checked: ok      -                   -               -
//	again, late    -               -                   check               -                   -               -
//	again, hangs   -               -                   again               -                   -               -
//	hangs too long -               -                   say → serving       -                   -               -
//	                                                   (or claiming)
//	checked: no    -               -                   say → serving       -                   -               -
//	                                                   (or claiming)
//	loop ended     -               → stopping          → stopping          -                   -               -
//	loop gave up   -               say → stopping      say → stopping      -                   -               -
//	room fell      stop the run    stop the run        stop the run        stop the run        stop the run    -
//	               → killing       → killing           → killing           → killing           → killing
//
// A stop comes at once when it is within stopAgain of the stop before it, or within insistAgain when that was
// the second: it is the same one.
//
// A restart hangs while the log's disk does not answer, for an exec would wait for the write that is under way, and
// nobody would serve a signal or the lease meanwhile. The log pauses in checking, and goes on in every other state.
//
// Every state from restarting on has its end when the loop has ended: the Outcome is a restart from
// restarting, and from killing or stopping when a room fell, or the command left with a fatal exit code, and
// the storm guard allows it; in every other case it
// is the end. restarting ends at once, for the loop was left: with its run, if one is under way, which
// the next image takes up before it serves any order. Orders that come in between are handed over
// too. Asking (stop) lets a run finish; insisting stops it: TERM, CONT, its grace, KILL to its group. A
// lease that ends takes precedence over every grace: the command is dead by its deadline.
package supervisor
