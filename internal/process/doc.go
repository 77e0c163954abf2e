// Package process answers: how is a command started, stopped and waited for?
//
// A Spawner starts commands; a Process is one of them, from its start to its exit. The command is
// executed as given, argument by argument, in a process group of its own. It has the descriptors 0
// (/dev/null, unless another file is given), 1 and 2 and no others, default signal dispositions, an
// empty signal mask and the resource limits that gophd itself was started with. Its output goes
// directly to a file, or through a pipe to a writer, in raw chunks and complete.
//
// # Credentials
//
// A command with Credentials (user, umask, niceness, limits) is started through a shim: gophd's own
// program, executed with the hidden command ShimCommand. The shim sets niceness and umask, then
// groups, gid and uid in that order, and verifies that it now is that user. It then enters the
// directory and the control group, sets the limits and executes the command by execve(2). An error
// is returned through a socket that is closed on exec, as text and errno. So each failure is
// reported as precisely as without Credentials, and a command runs in its exec environment or not
// at all. Check uses the same shim, which then looks at the files and executes nothing.
//
// The parent could set only the user for a child alone. If that failed, it would get one errno, and
// not which of seven steps failed. Changing gophd itself for the moment of a fork would affect
// other starts. A command without Credentials is started directly, at no extra cost.
//
// The pipes of the output belong to the user of the command, so that it can open /dev/stdout,
// /dev/stderr and /proc/self/fd/1: the kernel checks the owner of the pipe then. A file keeps its
// owner: it is the caller's, and so is gophd's own stdout.
//
// # Process groups
//
// When Wait returns, no process of the group exists. The leader (the command itself) is reaped
// last, after all other members. A process group id stays reserved while its leader is a zombie, so
// no signal can reach an unrelated process with the same number. When the leader has exited, the
// other members have a grace to exit by themselves: 100 ms, or the rest of the stop grace when the
// run is being stopped. A tee that still reads the leader's last lines needs that. After the grace
// they get KILL.
//
// A Process is a state machine. Wait, Stop and the timers of the next signal and of the KILL feed
// it events, one at a time:
//
//	             stopRequested         nextDue              killDue            leaderExited           groupGone        delivered     detach                  escapedFound  swept
//	running      sendFirst: stopping   -                    kill: killing      grantGrace: lingering  -                -             cancelTimers: detached  -             -
//	stopping     -                     sendNext: stopping   kill: killing      lingering              -                -             cancelTimers: detached  -             -
//	killing      -                     -                    -                  kill: killingRest      -                -             cancelTimers: detached  -             -
//	lingering    sendFirst: lingering  sendNext: lingering  kill: killingRest  -                      drain: draining  -             cancelTimers: detached  -             -
//	killingRest  -                     -                    -                  -                      drain: draining  -             cancelTimers: detached  -             -
//	draining     -                     -                    -                  -                      -                reap: exited  -                       sweeping      -
//	sweeping     -                     -                    -                  -                      -                -             cancelTimers: detached  -             draining
//	exited       -                     -                    -                  -                      -                -             -                       -             -
//	detached     -                     -                    -                  -                      -                -             -                       -             -
//
// A cell names the action and the next state; "-" is no action and no change. Outside the table,
// each stop request may bring the KILL forward and never delays it, and the signals of the first
// request count.
//
// # Orphans
//
// On Linux gophd is a child subreaper (prctl(2)), so the orphans of a group become gophd's own
// children, and one system call tells whether any of them is alive. A member of the group whose
// parent left the group and is still alive is not an orphan. It is searched for in /proc if a pipe
// is still open, and otherwise gets the final KILL without the grace. On other systems kill(2) with
// signal 0 answers exactly.
//
// Zombies that orphans leave are reaped here. While a command runs for longer than a moment, SIGCHLD
// is handled, and a zombie is reaped within a second of its exit. Otherwise the next Wait or Close
// reaps it. If gophd is process 1, all orphans of its PID namespace become its children, and their
// zombies are reaped within a second between runs too. The Spawner knows its commands. Session and
// group distinguish orphans from children that other packages start. So another package may start a
// child in gophd's group or as the leader of a new group, but not in a new session.
//
// # Escaped processes
//
// An escaped process is a descendant that left the group by setsid(2) or by a shell's job control.
// When the group is gone, those that became children of gophd are identified by the environment of
// the run (EscapeRules.Mark). Each is reported once, and then stopped or left running. If it is
// stopped, its own children are too: they become gophd's when it exits. A process that cannot be
// attributed to a run, and is not older than the run, is reported and left running. If gophd has no
// other child, this costs nothing: the system call that checks the group shows that too. Otherwise
// the search reads the list of the children, and of each that is not a command its entry in /proc.
//
// With a Cgroup each run has a control group of its own, with the limits, below that of its job. A
// process that is in it when the process group is gone is an escaped process, however it hides, and
// cgroup.kill kills all of them.
//
// # Waiting
//
// Wait observes the exit of its command by a pidfd. At most blockingWaits Waits block a thread, each
// for blockTime: a blocked thread is the fastest way to see the exit of a short command, and a run
// that ends in that time needs nothing else. Any other Wait puts its pidfd into the runtime's poller,
// where it costs a descriptor and a goroutine and no thread, however many commands run. The leader is
// reaped only after waitid(2) has confirmed its exit: a process that traces it sees the exit first.
//
// Where there is no pidfd (before Linux 5.3, with a filter of system calls, or when no descriptor is
// free), a Wait blocks a thread until its command exits.
//
// # Idle cost
//
// Between runs there is no timer, and no goroutine except those that read the pipes of escaped
// processes and, in process 1, the one that receives SIGCHLD. During a run there is a timer when a
// KILL is due, one when a signal follows another, and one after the exit of a child. A run whose
// output goes to files is started, observed and reaped by the goroutine that calls Start and Wait:
// any other would be woken on another processor, which is expensive compared with a short command.
//
// # Handoff
//
// A command outlives the gophd process that started it: Detach and HandOff give it up, and Adopt
// takes it over in the new process, whose child it still is. In between nobody reads its pipes,
// which hold what it writes, and nobody reaps it, so its exit also waits for the new process. A
// stop in progress is handed off as a StopPlan, so the next signal and the KILL are sent when they
// are due, or late by the duration of the handoff. If the new process does not start, Forget ends
// what still waits for the command in the old one, before the old one adopts it again.
//
// # Scope
//
// The package does not decide when a command starts or why it is stopped. It does not split output
// into lines and does not log. It does not watch escaped processes that it left running: such a
// process may keep its pipe, and what it writes still reaches the writer.
//
// # Known gaps
//
//   - Without a Cgroup, an escaped process that hides its environment (env -i, setproctitle) or
//     changed its user is left running. One that does so and leads a group in gophd's session is
//     not even detected.
//   - Where there is no subreaper, escaped processes become children of init.
//   - A command that cannot be killed (uninterruptible sleep in the kernel) blocks Wait. Stop and
//     everything else stay responsive.
//   - On Linux MaxRSS is never below gophd's own peak, because the child starts as a copy of gophd.
//   - A start waits for execve(2), which an unresponsive network file system can block, and Go
//     stops the whole program for that.
//   - Where gophd may not trace a process, Check accepts a binary file that is no program for this
//     machine, and a script that the user may execute and not read.
//   - Outside Linux the signal mask is inherited unchanged.
package process
