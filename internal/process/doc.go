// Package process answers: how does a command live and die?
//
// A Spawner starts commands; a Process is one of them from its start to its end. The command is
// executed as given, argument by argument, in a process group of its own, with the descriptors 0
// (/dev/null, unless another file is given), 1 and 2 and no others, with default signal dispositions, an empty signal mask and
// the resource limits that gophd itself was started with. What it writes goes straight to a file,
// or through a pipe to a writer, in raw chunks and complete.
//
// A command with a World (user, umask, niceness, limits) is started by way of a shim: the program
// itself, executed with the hidden command ShimCommand. It sets niceness and umask, then groups, gid and
// uid in that order, looks whether it is now that user, enters the folder and the control group, sets the
// limits and becomes the command by execve(2). What goes wrong comes back through a socket that is closed on exec, in words and with its
// errno, so each failure is told apart as without a World, and the command runs in its world or not at all.
// It is the most boring way: none of this can be set for a child alone from the parent (but for the user, and
// there one errno for seven steps is all that comes back), and to change gophd itself for the moment of a fork
// would let other starts see it. A command without a World is started as ever, at no cost.
//
// When Wait returns, nothing of the group is left. The exit of the leader (the command itself) is
// observed first and collected last: a process group id stays reserved while its leader is a
// zombie, so no signal can reach a stranger that was given the same number. In between, members of
// the group that are still there may end by themselves for a courtesy of 100 ms (the tee of a shell
// that redirected its output reads the last words then), or for the rest of the grace when the run
// is being stopped; after that they get KILL.
//
// The life of a Process is one state and the events that change it, taken by Wait, by Stop and by the
// timers of the next signal and the KILL, one at a time:
//
//	             stop asked     next due        kill due       leader ended       group gone       delivered    left          escapees found  swept
//	running      ask: stopping  -               kill: killing  courtesy: leaving  -                -            give: handed  -               -
//	stopping     -              next: stopping  kill: killing  leaving            -                -            give: handed  -               -
//	killing      -              -               -              kill: purging      -                -            give: handed  -               -
//	leaving      ask: leaving   next: leaving   kill: purging  -                  drain: draining  -            give: handed  -               -
//	purging      -              -               -              -                  drain: draining  -            give: handed  -               -
//	draining     -              -               -              -                  -                reap: ended  -             sweeping        -
//	sweeping     -              -               -              -                  -                -            give: handed  -               draining
//	ended        -              -               -              -                  -                -            -             -               -
//	handed       -              -               -              -                  -                -            -             -               -
//
// A cell names what is done and the state that follows; "-" is nothing and no change. Beside the
// table, each stop may bring the KILL forward and never puts it off, and the first one's signals count.
//
// On Linux gophd becomes a child subreaper (prctl(2)), so that the orphans of a group become
// gophd's own children: one call then tells whether any of them lives. A member whose parent left
// the group while it stayed is nobody's orphan; it is looked for in /proc when a pipe is still open,
// and otherwise gets the final KILL without the courtesy. Elsewhere kill(2) with signal 0 tells
// exactly. What orphans leave behind as zombies is collected here: at once while a command runs, as the
// end of any child wakes its Wait, and otherwise by the next Wait or by Close; by process 1, to whom all orphans
// of its namespace come, within a second also between runs. They are told from the children of other rooms by
// session and group: other rooms may start children as they like, in gophd's group or as leaders of their own,
// except with setsid.
//
// A stray is a descendant that left the group: by setsid(2), or by a shell's job control. When the group has
// ended, those that came home are told by the environment that the run gave them (Strays.Mark), reported once
// each, and spared or ended with all that comes home when they die. One that nobody can attribute, and that is no
// older than the run, is reported and spared. All of it costs nothing when the group was all that there was, and that is known from the
// call that looks for the group.
//
// With a Cgroup each run has a control group of its own, with the limits, below that of its job. Who is in
// it is a stray when the process group has ended, whatever it has done to hide, and cgroup.kill ends all of it.
//
// Between runs nothing fires: there is no goroutine but for the pipes of strays, and in process 1 the one that
// hears of ends, and no timer. During a run there is a timer when a KILL is due, one when a signal follows another, and when a zombie is seen that
// is not ours to collect. A run whose output is files is started, observed and collected by the goroutine that calls Start and Wait: any
// other would be woken on another processor, and that is dear beside a short command.
//
// A command outlives the gophd process that started it: Leave and HandOver give it up, Adopt takes it over in
// the next process, whose child it still is. In between nobody reads its pipes, which hold what it writes, and
// nobody collects it, so its end, too, waits for the next process. A stop that is under way is handed over as a
// StopPlan, so that the next signal and the KILL come when they are due; what comes due in between comes
// late by that much. Where the next process does not begin, Forget ends what in this one still waits for the
// command, before it is adopted again.
//
// The package does not decide when a command starts or why it is stopped, does not frame lines,
// does not log, and does not watch strays that were spared: one may keep its pipe, and what it writes
// still reaches the writer.
//
// Known gaps. Without a Cgroup, a stray that hides its environment (env -i, setproctitle) or became another
// user is spared, and one that does so and leads a group in gophd's session is not even seen. Where there is no subreaper, strays
// go to init. A command that cannot be killed (uninterruptible sleep in the kernel) keeps Wait
// waiting; Stop and all else stay responsive. On Linux MaxRSS is never below gophd's own peak, since
// the child begins as a copy of it. A start waits for execve(2), which a dead network file system can
// hold up, and Go stops the whole program for that. Outside Linux the signal mask is inherited as it is.
package process
