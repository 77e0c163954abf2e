// Package loop answers: when is the next run, and may it start?
//
// A Loop serves the ticks of one job: start to start on a fixed grid, tick k due at anchor +
// k × interval on the monotonic clock, so that nothing adds up over the ticks and neither a step of
// the wall clock nor a suspend makes a burst. It knows nothing of processes, PID files, heartbeats or
// restarts: whoever is behind Runner runs the command, whoever is behind Gate says that it must wait,
// whoever is behind Recorder hears what happened. It does not log.
//
// An interval of 0 is back to back: the next run starts when the last has ended, at full rate while
// they succeed; failures in a row are slowed by a back-off that grows to a ceiling and falls back with
// the first success.
//
// A service has no ticks: its run is expected to stay, and when it ends it is started again, at once if it lived
// for its interval and a second, else slowed by the same back-off, which falls back after a life of
// ten seconds, or as long as its last wait. It would never end by itself, so a stop ends it.
//
// Where runs may overlap, a tick that is due starts a run beside those that go on, each in a place of its
// own, and is dropped when every place is taken. Every tick that fell due is either served or counted as
// missed, and one that is counted may be the late run's own.
//
// A run that is to be retried has another after a delay, as long as its tick lasts: that is a run with a number of
// its own for the same tick. It is waited for in waiting, or in running beside others, and whatever starts
// sooner takes its place: the next tick, or a wake.
//
// It is enough, and the loop ends by itself, when a run ended with a code that is fatal, or when as many runs
// failed in a row, with all their tries, as the start limit allows within its time. The count begins anew in the next image.
//
// What happens in which state ("-" is nothing; a state after the arrow is entered):
//
//	event      waiting           held              running             draining      done
//	rang       start → running   as opened         report late         report late   -
//	           or → held                           (kill: stop it)
//	tick       as rang           -                 start beside,       -             -
//	                                               hold or drop it
//	opened     -                 start → running   start beside        -             -
//	                             or → held
//	ended      -                 -                 report → waiting,   report        -
//	                                               running or done     → done
//	one ended  -                 -                 report              report        -
//	to retry   -                 -                 report → waiting    report        -
//	                                               or running          → done
//	enough     -                 -                 report → draining   report        -
//	                                               or done             → done
//	stop       → done            → done            → draining          -             -
//	                                               (service: stop it)
//	wake       start → running   -                 start beside, or    -             -
//	           or → held                           remember once
//	cancelled  → done            → done            → draining          -             -
//	leave      → done            → done            → done if let       -             -
//
// rang is the one alarm of the loop: the tick in waiting, the next moment to speak of lateness in
// running. tick is the alarm, and one ended the end of a run beside others, where runs overlap. A start is
// refused into held while the gate is shut; the tick stays due and runs when the
// gate opens, so an hourly job is not lost to a store that was away for a second: beside other runs it waits
// in running. cancelled insists: the
// Runner's own context ends with it, and its Results are awaited in draining. leave is for the sake of the next
// image, whose loop begins where this one stood: in running if runs were left under way.
package loop
