package event

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"gophd/internal/job"
)

// The types of events about a job's runs.
const (
	TypeJobState         Type = "job.state"
	TypeRunStarted       Type = "run.started"
	TypeRunAdopted       Type = "run.adopted"
	TypeRunNotAdopted    Type = "run.not_adopted"
	TypeRunAbandoned     Type = "run.abandoned"
	TypeRunEnded         Type = "run.ended"
	TypeRunsFailed       Type = "run.failures"
	TypeServiceExits     Type = "run.exits"
	TypeRunLeft          Type = "run.left_processes"
	TypeRunLate          Type = "run.late"
	TypeTicksMissed      Type = "run.ticks_missed"
	TypeRunDelayed       Type = "run.delayed"
	TypeRunMessage       Type = "run.message"
	TypeRunStatus        Type = "run.status"
	TypeRunExtended      Type = "run.extended"
	TypeRunNotExtended   Type = "run.not_extended"
	TypeRunNotStoppable  Type = "run.not_stoppable"
	TypeRunSuspended     Type = "run.suspended"
	TypeRunContinued     Type = "run.continued"
	TypeRunWaitedFor     Type = "run.waited_for"
	TypeTickHeld         Type = "tick.held"
	TypeTicksSkipped     Type = "run.ticks_skipped"
	TypeRunMissed        Type = "run.missed"
	TypeMessageIgnored   Type = "run.message_ignored"
	TypeProcessEscaped   Type = "process.escaped"
	TypeProcessesEscaped Type = "process.escaped_more"
	TypeLeftover         Type = "leftover.found"
	TypeLeftoverUnseen   Type = "leftover.unseen"
)

// TickOfRun returns a Tick with only the run and its process.
func TickOfRun(run job.Run, pid int) job.Tick {
	return job.Tick{Result: job.Result{Run: run, PID: pid}}
}

// JobState says that the job's loop is in that state since at. It is not logged.
func JobState(name string, state job.State, run job.Run, at, next time.Time) Event {
	t := TickOfRun(run, 0)
	t.Started = at
	return Event{Type: TypeJobState, Job: name, JobState: state, Tick: t, Next: next}
}

// RunStarted says that the command of a run was started.
func RunStarted(name string, run job.Run, pid int, at time.Time) Event {
	t := TickOfRun(run, pid)
	t.Started = at
	return Event{Type: TypeRunStarted, Level: Debug, Job: name, Tick: t, message: func(e Event) string {
		return fmt.Sprintf("run %d started, pid %d", e.Tick.Number, e.Tick.PID)
	}}
}

// RunAdopted says that a run of the old process continues under this one.
func RunAdopted(name string, run job.Run, pid int, started time.Time) Event {
	e := RunStarted(name, run, pid, started)
	e.Type, e.Level = TypeRunAdopted, Info
	e.message = func(e Event) string { return fmt.Sprintf("adopted run %d, pid %d", e.Tick.Number, e.Tick.PID) }
	return e
}

// RunNotAdopted says that a run of the old process is stopped, because it could not be adopted.
func RunNotAdopted(name string, run job.Run, pid int) Event {
	return Event{Type: TypeRunNotAdopted, Level: Error, Job: name, Tick: TickOfRun(run, pid),
		message: func(e Event) string {
			return fmt.Sprintf("stopping %s: it could not be adopted after re-exec", which(e.Tick))
		}}
}

// RunAbandoned says that a run that could not be adopted has ended.
func RunAbandoned(name string, run job.Run, result job.Result) Event {
	result.Run = run
	return Event{Type: TypeRunAbandoned, Level: Warn, Job: name, Tick: job.Tick{Result: result},
		message: func(e Event) string {
			return fmt.Sprintf("%s ended: %s", which(e.Tick), e.Tick.Result)
		}}
}

// which names a run. A run of a handoff that cannot be read has no number.
func which(t job.Tick) string {
	if t.Number == 0 {
		return fmt.Sprintf("process %d", t.PID)
	}
	return fmt.Sprintf("run %d (pid %d)", t.Number, t.PID)
}

// nearLength returns true if the run took 90 % of its interval or more. A run that is active at a
// tick may be shorter: it started late, because of the run before it.
func nearLength(t job.Tick) bool { return t.Interval > 0 && t.Length() >= t.Interval*9/10 }

// ServiceEnded says that the run of a service has ended, as RunEnded does. Its level is at least
// info.
func ServiceEnded(name string, t job.Tick) Event {
	e := RunEnded(name, t)
	if e.Level == Debug {
		e.Level, e.Repeat = Info, "ended"
	}
	return e
}

// ServiceExitsOften says that a service exits by itself again and again, each time with a success code
// and long enough after its start to be restarted at once. The event has the last run.
func ServiceExitsOften(name string, t job.Tick, times uint64, in time.Duration) Event {
	return Event{Type: TypeServiceExits, Level: Warn, Job: name, Tick: t, Count: times, Duration: in.Round(time.Second),
		message: func(e Event) string {
			return fmt.Sprintf("the service exited %d times in %s, the last time with %s, and was restarted each time; "+
				"the command of a service should not exit", e.Count, job.FormatDuration(e.Duration), e.Tick.Result)
		}}
}

// RunLeft says that gophd has killed processes which a command left in its process group when it
// exited with a success code. The message names the usual cause: the command goes to the background
// by itself.
//
// service is as in ProcessEscaped.
func RunLeft(name string, t job.Tick, service string) Event {
	return Event{Type: TypeRunLeft, Level: Warn, Job: name, Tick: t, Text: foregroundAdvice(service),
		message: func(e Event) string {
			return fmt.Sprintf("run %d left processes in its process group, and they were killed%s", e.Tick.Number, e.Text)
		}}
}

// foregroundAdvice is what helps if a command goes to the background by itself.
func foregroundAdvice(service string) string {
	if service == "" {
		return "; the command of a service must stay in the foreground"
	}
	return "; if the command goes to the background by itself, run it in the foreground, with " + service
}

// RunEnded says that a run has ended. Its level depends on the outcome, and on missed ticks: a run
// that took its interval and made the job miss ticks is an error, even if it succeeded.
func RunEnded(name string, t job.Tick) Event {
	e := Event{Type: TypeRunEnded, Level: Debug, Job: name, Tick: t, message: runEnded}
	switch {
	case errors.Is(t.Cause, job.ErrStopped):
		e.Level = Info
	case t.Cause != nil && !errors.Is(t.Cause, job.ErrReplaced):
		e.Level = Warn
	case t.Late() && nearLength(t):
		e.Level, e.Repeat = Error, "late"
	case t.Late():
		e.Level, e.Repeat = Warn, "late"
	case t.Failed():
		e.Level, e.Repeat = Warn, "failure"
	case nearLength(t):
		e.Level, e.Repeat = Warn, "late"
	}
	return e
}

func runEnded(e Event) string {
	t, took := e.Tick, e.Tick.Length().Round(time.Microsecond)
	switch {
	case errors.Is(t.Cause, job.ErrStopped):
		return fmt.Sprintf("run %d stopped after %s: %s", t.Number, took, t.Result)
	case t.Cause != nil:
		return fmt.Sprintf("run %d stopped after %s because %s: %s", t.Number, took, t.Cause, t.Result)
	case t.Late():
		return fmt.Sprintf("run %d took %s (interval %s); ticks missed: %d; %s",
			t.Number, took, job.FormatDuration(t.Interval), t.Missed, t.Result)
	case t.Verdict == job.TooEarly:
		return fmt.Sprintf("run %d ended after %s, too early for a service: %s; the command must stay in the foreground",
			t.Number, took, t.Result)
	case t.Failed():
		return fmt.Sprintf("run %d failed after %s: %s", t.Number, took, t.Result)
	case nearLength(t):
		return fmt.Sprintf("run %d took %s, over 90 %% of its interval of %s", t.Number, took, job.FormatDuration(t.Interval))
	}
	return fmt.Sprintf("run %d succeeded after %s: %s", t.Number, took, t.Result)
}

// RunsFailed says that these runs failed, and the log has suppressed their own events.
func RunsFailed(name, numbers string) Event {
	return Event{Type: TypeRunsFailed, Level: Warn, Job: name, Text: numbers, message: func(e Event) string {
		return "more failed runs: " + e.Text
	}}
}

// RunLate says that a run has taken at least 90 % of its interval, or ticks were missed because of
// it.
func RunLate(name string, run job.Run, length, interval time.Duration, missed uint64) Event {
	t := TickOfRun(run, 0)
	t.Interval, t.Missed = interval, missed
	e := Event{Type: TypeRunLate, Level: Error, Repeat: "late",
		Job: name, Tick: t, Duration: length.Round(time.Millisecond)}
	if missed == 0 || length < interval*9/10 { // a run that started late is soon at the next tick
		e.Level = Warn
	}
	e.message = func(e Event) string {
		if e.Tick.Missed == 0 {
			return fmt.Sprintf("run %d has been active for %s, over 90 %% of its interval of %s",
				e.Tick.Number, job.FormatDuration(e.Duration), job.FormatDuration(e.Tick.Interval))
		}
		return fmt.Sprintf("run %d is still active after %s (interval %s); ticks missed so far: %d",
			e.Tick.Number, job.FormatDuration(e.Duration), job.FormatDuration(e.Tick.Interval), e.Tick.Missed)
	}
	return e
}

// TicksMissed says how many ticks a run has cost so far. It is not logged; RunLate is.
func TicksMissed(name string, run job.Run, missed uint64) Event {
	t := TickOfRun(run, 0)
	t.Missed = missed
	return Event{Type: TypeTicksMissed, Job: name, Tick: t}
}

// RunNotStarted says that the start of a run has failed so far, because the system does not allow
// another process. gophd retries the start.
func RunNotStarted(name string, run job.Run, since time.Duration, missed uint64) Event {
	t := TickOfRun(run, 0)
	t.Missed = missed
	return Event{Type: TypeRunLate, Level: Warn, Repeat: "starting",
		Job: name, Tick: t, Duration: since.Round(time.Millisecond),
		message: func(e Event) string {
			return fmt.Sprintf("run %d could not be started for %s; ticks missed so far: %d",
				e.Tick.Number, e.Duration, e.Tick.Missed)
		}}
}

// RunDelayed says that the next run waits: it is a retry, or the service exited soon after its
// start, or the last run failed.
func RunDelayed(name string, run job.Run, delay time.Duration, retries int, service bool) Event {
	e := Event{Type: TypeRunDelayed, Level: Debug,
		Job: name, Tick: TickOfRun(run, 0), Duration: delay.Round(time.Millisecond)}
	switch {
	case run.Attempt > 0:
		e.Level, e.Repeat, e.Count = Info, "retry", uint64(retries)
		e.message = func(e Event) string {
			return fmt.Sprintf("retry %d of %d in %s", e.Tick.Attempt, e.Count, e.Duration)
		}
	case service:
		e.Level, e.Repeat = Info, "slowed"
		e.message = func(e Event) string {
			return fmt.Sprintf("restarting the service in %s", e.Duration)
		}
	default:
		e.message = func(e Event) string {
			return fmt.Sprintf("the last run failed; the next starts in %s at the earliest", e.Duration)
		}
	}
	return e
}

// TickHeld says that a tick is due, and its run waits until the lease allows a run.
func TickHeld(name string, due time.Time) Event {
	return Event{Type: TypeTickHeld, Level: Warn, Job: name, Tick: job.Tick{Result: job.Result{Run: job.Run{Due: due}}},
		message: func(e Event) string {
			return fmt.Sprintf("the tick of %s waits: the lease does not allow a run now",
				e.Tick.Due.Format(time.TimeOnly))
		}}
}

// TickQueued says that a tick is due, and its run waits for the end of a run of another job.
func TickQueued(name string, due time.Time) Event {
	return Event{Type: TypeTickHeld, Level: Debug, Job: name, Tick: job.Tick{Result: job.Result{Run: job.Run{Due: due}}},
		message: func(e Event) string {
			return fmt.Sprintf("the tick of %s waits: as many runs as config.max_running allows are active",
				e.Tick.Due.Format(time.TimeOnly))
		}}
}

// TicksSkipped counts ticks that were due before or during a run and were skipped. It is not logged; RunMissed
// is.
func TicksSkipped(name string, run job.Run, ticks uint64) Event {
	t := TickOfRun(run, 0)
	t.Missed = ticks
	return Event{Type: TypeTicksSkipped, Job: name, Tick: t}
}

// RunMissed says that runs that were due do not happen. The field reason is one word: paused, stopped, overlap (a
// run was active), max_running, start_deadline, held_elsewhere (another instance held the lease), lease (it did not
// allow a run), not_running (gophd did not run), late (the machine was suspended, or busy) or clock (it was
// set). One event stands for many runs with the same reason: after the first, they are counted.
func RunMissed(name string, due time.Time, runs uint64, reason job.Missed, why string) Event {
	e := Event{Type: TypeRunMissed, Level: Info, Job: name, Count: runs, Missed: reason, Text: why,
		Tick: job.Tick{Result: job.Result{Run: job.Run{Due: due}}}, message: func(e Event) string {
			what := "a due run does not happen"
			if e.Count != 1 {
				what = fmt.Sprintf("%d due runs do not happen", e.Count)
			}
			return what + ": " + e.Text
		}}
	switch reason {
	case job.MissedPaused, job.MissedStopped, job.MissedOverlap: // that is logged otherwise
		e.Level = Debug
	}
	return e
}

// RunSkipped says that a scheduled run does not happen, because that was requested. The message has how
// many more are skipped.
func RunSkipped(name string, run job.Run, ticks uint64, more int) Event {
	t := TickOfRun(run, 0)
	t.Missed = ticks
	return Event{Type: TypeRunMissed, Level: Info, Repeat: "skipped", Job: name, Tick: t, Missed: job.MissedSkipped, Count: uint64(more),
		message: func(e Event) string {
			if e.Count == 0 {
				return "the scheduled run is skipped, as requested"
			}
			return fmt.Sprintf("the scheduled run is skipped, as requested; %d more will be", e.Count)
		}}
}

// RunMessage says that a run has sent a message to its notify socket.
func RunMessage(name string, run job.Run, pid int, words []string) Event {
	return Event{Type: TypeRunMessage, Level: Debug, Job: name, Tick: TickOfRun(run, 0), Process: Process{PID: pid},
		Text: strings.Join(words, "; "), message: func(e Event) string {
			return fmt.Sprintf("run %d, pid %d, reports: %s", e.Tick.Number, e.Process.PID, e.Text)
		}}
}

// RunStatus is the status that a run sent. It is not logged; RunMessage is.
func RunStatus(name string, run job.Run, status string) Event {
	return Event{Type: TypeRunStatus, Job: name, Tick: TickOfRun(run, 0), Text: status}
}

// RunExtended says that a run asked for more time, and gophd extended its timeout.
func RunExtended(name string, run job.Run, asked, more time.Duration) Event {
	return Event{Type: TypeRunExtended, Level: Info, Repeat: "extended",
		Job: name, Tick: TickOfRun(run, 0), Duration: asked,
		Text: more.Round(time.Millisecond).String(), message: func(e Event) string {
			return fmt.Sprintf("run %d asked for %s from now: its timeout is extended by %s",
				e.Tick.Number, job.FormatDuration(e.Duration), e.Text)
		}}
}

// RunNotExtended says that a run asked for more time when it was already being stopped.
func RunNotExtended(name string, run job.Run) Event {
	return Event{Type: TypeRunNotExtended, Level: Info, Repeat: "too late", Job: name, Tick: TickOfRun(run, 0),
		message: func(e Event) string {
			return fmt.Sprintf("run %d asked for more time too late: it is already being stopped", e.Tick.Number)
		}}
}

// MessageOfUnknown says that a process that belongs to no run wrote to the notify socket. It is no
// warning: a run may have exited before its last message is read, and any user could fill the log.
func MessageOfUnknown(name string, pid, uid int) Event {
	return Event{Type: TypeMessageIgnored, Level: Debug, Job: name, Process: Process{PID: pid}, Count: uint64(uid),
		message: func(e Event) string {
			return fmt.Sprintf("ignoring a message from pid %d, uid %d, to the notify socket: it belongs to no run",
				e.Process.PID, e.Count)
		}}
}

// MessageNotUnderstood says that a run sent an invalid message to the notify socket.
func MessageNotUnderstood(name string, run job.Run, pid int, err error) Event {
	return Event{Type: TypeMessageIgnored, Level: Warn, Repeat: "bad message",
		Job: name, Tick: TickOfRun(run, 0), Process: Process{PID: pid}, Err: err,
		message: func(e Event) string {
			return fmt.Sprintf("ignoring a message from run %d, pid %d, to the notify socket: %v",
				e.Tick.Number, e.Process.PID, e.Err)
		}}
}

// NotPermitted is why gophd cannot stop a process.
const NotPermitted = "it runs as another user, and gophd may not signal it; " +
	"stop it by hand, and give gophd the capability CAP_KILL"

// RunNotStoppable says that gophd may not signal the process of a run, so gophd cannot stop it:
// neither at its timeout nor at a forced stop.
func RunNotStoppable(name string, run job.Run, pid int) Event {
	return Event{Type: TypeRunNotStoppable, Level: Warn, Repeat: "unstoppable", Job: name, Tick: TickOfRun(run, pid),
		message: func(e Event) string {
			return fmt.Sprintf("run %d, pid %d, cannot be stopped, at its timeout or otherwise: %s",
				e.Tick.Number, e.Tick.PID, NotPermitted)
		}}
}

// RunSuspended says that a signal of job control (STOP, TSTP, TTIN or TTOU) has suspended the
// command of a run, or another process of it. The message says what helps. The
// signal of a process that is no child of gophd is not always known.
func RunSuspended(name string, run job.Run, pid int, other Process, by syscall.Signal, group int) Event {
	t := TickOfRun(run, pid)
	t.Signal = by
	return Event{Type: TypeRunSuspended, Level: Warn, Repeat: "suspended", Job: name, Tick: t, Process: other,
		Text: suspensionAdvice(by, group), message: func(e Event) string {
			return fmt.Sprintf("%s is suspended: stopped by %s%s", whichProcess(e), StopSignal(e.Tick.Signal), e.Text)
		}}
}

// whichProcess names the command of a run, or another process of it.
func whichProcess(e Event) string {
	if e.Process.PID == 0 {
		return which(e.Tick)
	}
	return fmt.Sprintf("run %d: process %d (%s)", e.Tick.Number, e.Process.PID, e.Process.Name)
}

// StopSignal names the signal that has suspended a process; 0 is not known.
func StopSignal(by syscall.Signal) string {
	if by == 0 {
		return "a signal such as TTIN or STOP"
	}
	return "signal " + job.SignalName(by)
}

func suspensionAdvice(by syscall.Signal, group int) string {
	const askNothing = "make the command ask nothing, as with ssh -o BatchMode=yes or sudo -n"
	switch by {
	case syscall.SIGTTIN:
		return ", because it reads from the terminal (a question, a password); " + askNothing
	case syscall.SIGTTOU:
		return ", because it changes the settings of the terminal, as for a password, or writes to it; " + askNothing +
			"; otherwise redirect its output, or detach it from the terminal with setsid"
	}
	advice := fmt.Sprintf("continue it with kill -CONT -%d", group)
	if by == 0 {
		return "; if it asks something on the terminal, " + askNothing + "; otherwise " + advice
	}
	return "; " + advice
}

// RunContinued says that the command of a run, or another process of it, is no longer suspended: it
// runs again, or has exited.
func RunContinued(name string, run job.Run, pid int, other Process) Event {
	return Event{Type: TypeRunContinued, Level: Info, Repeat: "continued", Job: name, Tick: TickOfRun(run, pid),
		Process: other, message: func(e Event) string { return whichProcess(e) + " is no longer suspended" }}
}

// RunWaitedFor says that a shutdown or a re-exec waits for a run. The message says how to stop the
// run now.
func RunWaitedFor(name, state string, run job.Run, pid int, length time.Duration, hint string) Event {
	return Event{Type: TypeRunWaitedFor, Level: Warn,
		Job: name, Tick: TickOfRun(run, pid), Duration: length.Round(time.Second),
		State: state, Text: hint, message: func(e Event) string {
			if e.Tick.PID == 0 {
				return fmt.Sprintf("%s: waiting for run %d, which is being started", e.State, e.Tick.Number)
			}
			return fmt.Sprintf("%s: waiting for run %d, pid %d, active for %s; %s",
				e.State, e.Tick.Number, e.Tick.PID, job.FormatDuration(e.Duration), e.Text)
		}}
}

// ProcessEscaped says that a process left the process group of its run and outlived it. If it keeps
// running, or the run is that of a service, the message names the usual cause: the command goes to the
// background by itself. A run without a number is not known: the process has cleared its environment.
// service is the setting that makes the job a service; "" if it is one.
func ProcessEscaped(name string, run job.Run, pid int, process string, alive bool, service string) Event {
	advice := ""
	if service == "" || alive {
		advice = foregroundAdvice(service)
	}
	return Event{Type: TypeProcessEscaped, Level: Warn, Repeat: "escaped", Job: name, Tick: TickOfRun(run, 0),
		Process: Process{pid, process}, KeepsRunning: alive, Text: advice, message: func(e Event) string {
			fate := "stopping it"
			if e.KeepsRunning {
				fate = "it keeps running"
			}
			process := fmt.Sprintf("process %d (%s)", e.Process.PID, e.Process.Name)
			if e.Tick.Number == 0 {
				return process + " escaped the process group of an unknown run (its environment has no GOPHD_RUN_ID); " +
					fate + e.Text
			}
			return fmt.Sprintf("run %d: %s escaped the process group; %s%s", e.Tick.Number, process, fate, e.Text)
		}}
}

// ProcessesEscaped says that more processes escaped, and the log has suppressed their own events.
func ProcessesEscaped(name string, run job.Run, count int, names string, alive bool) Event {
	return Event{Type: TypeProcessesEscaped, Level: Warn, Repeat: "escaped, listed", Job: name, Tick: TickOfRun(run, 0),
		Count: uint64(count), Text: names, KeepsRunning: alive, message: func(e Event) string {
			processes, pronoun, keep := "processes", "them", "they keep"
			if e.Count == 1 {
				processes, pronoun, keep = "process", "it", "it keeps"
			}
			fate := "stopping " + pronoun
			if e.KeepsRunning {
				fate = keep + " running"
			}
			return fmt.Sprintf("run %d: %d more %s escaped the process group; %s: %s",
				e.Tick.Number, e.Count, processes, fate, e.Text)
		}}
}

// Leftover says that a run of a gophd that was killed is still active.
func Leftover(name, processes, what string) Event {
	return Event{Type: TypeLeftover, Level: Warn, Job: name, Text: processes + ": " + what,
		message: func(e Event) string {
			return "a previous gophd was killed and its run is still active: " + e.Text
		}}
}

// LeftoverUnseen says that a leftover run may be active in another container, where this gophd
// cannot see it. Runs start all the same.
func LeftoverUnseen(name string) Event {
	return Event{Type: TypeLeftoverUnseen, Level: Info, Job: name,
		Text: "a gophd of this job was killed in another PID namespace (a container); " +
			"its run may still be active there, where this gophd cannot see it; " +
			"look for it in that container, or from the host"}
}
