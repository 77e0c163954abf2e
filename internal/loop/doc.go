// Package loop answers: when is the next run, and may it start?
//
// A Loop serves the ticks of one job: start to start on a fixed grid, tick k due at anchor + k ×
// interval on the monotonic clock. So no delay adds up over the ticks, and neither a step of the
// wall clock nor a suspend makes a burst. The loop knows nothing of processes, PID files,
// heartbeats or restarts: a Runner runs the command, a Gate decides when a run must wait, and a
// Recorder receives what happened. The loop does not log. While it waits it costs one Timer, and no
// goroutine.
//
// Or the ticks are the due times of a calendar, by the wall clock. The next one is the first after the
// last that was passed. A step back of the wall clock repeats none of them, except that a calendar with
// wildcards, or @every, follows the clock if it was set back by more than a minute. A step forward makes
// those that it skips due at once, which one run serves; with wildcards and @every only if it is at most
// five minutes. A step of more than three hours corrects the clock, and the due times from then on count:
// cron(8). The Timer of such a Loop also expires when the clock is set.
//
// A due time of a calendar that is over when the Loop starts, because gophd did not run, is like one that
// was due during a run: the last one is served, or each of them if the job catches up with all. A due time
// for which Spec.StartDeadline has passed is dropped.
//
// An interval of 0 is back to back: the next run starts when the last has ended, at full rate while
// they succeed. Failures in a row are slowed by a back-off that grows to a ceiling and is reset by
// the first success.
//
// A service has no ticks: its run is expected to stay up, and is restarted when it ends. It is
// restarted at once if it was up for its interval and at least a second, otherwise after the same
// back-off. The back-off is reset when the service was up for ten seconds, and as long as its last
// wait. A service would never end by itself, so a stop stops its run.
//
// If runs may overlap, a tick that is due starts a run beside the active ones, each in a slot of
// its own, and is dropped if no slot is free. Every tick that was due is served by a run, or
// counted as missed, or both: the last tick that was due during a run is counted as missed, and the
// next run, which starts late, may serve it.
//
// A retry follows a failed run after a delay, and only if it is due before the next tick. It is a
// run for the same tick, with a number of its own. The loop waits for it in the state waiting, or
// in the state running if other runs are active. It is canceled if another run starts before it: a
// requested run, or that of the next tick if the gate has held the retry.
//
// The loop gives up and ends by itself when a run ended with a fatal code, or when as many runs in
// a row failed, with all their retries, as the start limit allows within its time. The count starts
// anew in the next process.
//
// What happens in which state ("-" is nothing; a state after the arrow is entered):
//
//	event      waiting           held              running             draining      done
//	timer      start → running   as opened         report late         report late   -
//	           or → held                           (replace: stop it)
//	tick       as timer          -                 start beside,       -             -
//	                                               hold or drop it
//	opened     -                 start → running   start beside        -             -
//	                             or → held
//	ended      -                 -                 report → waiting,   report        -
//	                                               running or done     → done
//	one ended  -                 -                 report              report        -
//	to retry   -                 -                 report → waiting    report        -
//	                                               or running          → done
//	give up    -                 -                 report → draining   report        -
//	                                               or done             → done
//	stop       → done            → done            → draining          -             -
//	                                               (service: stop it)
//	run now    start → running   -                 start beside, or    -             -
//	           or → held                           remember once
//	request    start → running   remember          start beside,       -             -
//	           or → held                           remember or reject
//	count      -                 -                 report missed       report missed -
//	canceled   → done            → done            stop the runs       stop the runs -
//	                                               → draining
//	hand off   → done if         → done if         → done if           → done if     -
//	           detached          detached          detached            detached
//
// timer is the one timer of the loop. In waiting it expires for the next tick, in running for the
// next report of lateness. The rows tick and one ended apply only if runs may overlap: tick means
// that the timer expires for a tick while runs are active, and one ended means that a run has ended
// while others are active.
//
// While the job is paused, or the next ticks are skipped, a start that nobody has requested is only
// reported: the loop waits for the next tick, in waiting, or in running if other runs are active. A job
// without ticks waits until it is resumed. request is run now for a run that the caller looks for, with
// arguments of its own: it follows the overlap policy, and is not served by another run.
//
// A start while the gate is shut leads to held. The tick stays due and runs when the gate opens, so
// that an hourly job does not lose a run to a store that was unreachable for a second. If other
// runs are active, the loop stays in running, and the tick is held there. canceled stops the runs:
// the context of the Runner ends, and the loop waits for their Results in draining.
// hand off is for the next process, whose loop starts where this one stopped: in running if runs
// are active. If it was draining, the next process stops it again.
package loop
