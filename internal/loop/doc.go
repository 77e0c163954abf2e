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
// What happens in which state ("-" is nothing; a state after the arrow is entered):
//
//	event      waiting           held              running             draining      done
//	rang       start → running   as opened         report late         report late   -
//	           or → held                           (kill: stop it)
//	opened     -                 start → running   -                   -             -
//	                             or → held
//	ended      -                 -                 report → waiting,   report        -
//	                                               running or done     → done
//	stop       → done            → done            → draining          -             -
//	wake       start → running   -                 remember once       -             -
//	           or → held
//	cancelled  → done            → done            → draining          -             -
//	leave      → done            → done            → done if let       -             -
//
// rang is the one alarm of the loop: the tick in waiting, the next moment to speak of lateness in
// running. A start is refused into held while the gate is shut; the tick stays due and runs when the
// gate opens, so an hourly job is not lost to a store that was away for a second. cancelled insists: the
// Runner's own context ends with it, and its Result is awaited in draining. leave is for the sake of the next
// image, whose loop begins where this one stood: in running if a run was left under way.
package loop
