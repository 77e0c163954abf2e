package supervisor

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/logging"
	"gophd/internal/loop"
	"gophd/internal/order"
	"gophd/internal/process"
	"gophd/internal/sdnotify"
	"gophd/internal/status"
)

// speaker writes every log line of gophd's own. Levels: error for what went wrong, warn for what may or
// for what somebody waits for, info for the life of the daemon, debug for each run. Its methods never
// block (the log drops rather than waits) and may be called from any goroutine.
type speaker struct {
	log    zerolog.Logger
	echo   zerolog.Logger // of the log, where it goes astray
	fields bool           // a dump is one line with fields, not a block to read
	often  throttle

	mu      sync.Mutex
	unnamed map[fate][]string // strays that often kept back, until their run has ended
	untold  []span            // failed runs whose log lines were suppressed
}

// span is the numbers from first to last.
type span struct{ first, last uint64 }

func (n span) String() string {
	if n.first == n.last {
		return fmt.Sprint(n.first)
	}
	return fmt.Sprintf("%d-%d", n.first, n.last)
}

// fate is what becomes of strays of one run.
type fate struct {
	run    uint64
	killed bool
}

func (f fate) String() string {
	if f.killed {
		return "stopped"
	}
	return "spared"
}

func (s *speaker) turned(from, to state) {
	s.log.Debug().Msgf("%s, was %s", to, from)
}

func (s *speaker) ordered(o order.Order, in state) {
	s.log.Info().Msgf("%s while %s", o, in)
}

func (s *speaker) refused(o order.Order, why string) {
	// Not a warning: those who stop a process often send CONT after TERM, in case it is stopped.
	s.log.Info().Msgf("%s refused: %s", o, why)
}

func (s *speaker) hangs(why error) {
	s.log.Warn().Msgf("restart delayed, %s at most: %v", hangsFor, why)
}

func (s *speaker) checkFailed(err error) {
	s.log.Error().Msgf("no restart, going on as it is: %v", err)
}

func (s *speaker) gone(err error) {
	var held *heartbeat.HeldError
	if errors.As(err, &held) {
		s.log.Info().Msgf("another heartbeat is heard: %v", err)
		return
	}
	s.log.Error().Msgf("%v", err)
}

func (s *speaker) fell(err error) {
	e := s.log.Error()
	var p *goroutine.Panic
	if errors.As(err, &p) {
		e = e.Str("stack", string(p.Stack))
	}
	e.Msgf("fatal error: %v", err)
}

func (s *speaker) begins(version string, pid int, again bool) {
	if again {
		s.log.Info().Msgf("gophd %s goes on as a new image, pid %d", version, pid)
		return
	}
	s.log.Info().Msgf("gophd %s begins, pid %d", version, pid)
}

func (s *speaker) serves(spec job.Spec) {
	s.log.Info().Msgf("%s runs %s", spec.Name, cadence(spec))
}

// cadence is a job's schedule in words.
func cadence(spec job.Spec) string {
	switch {
	case spec.Once:
		return "once"
	case spec.Keep:
		return "all the time"
	case spec.Interval == 0:
		return "back to back"
	}
	return "every " + spec.Interval.String()
}

func (s *speaker) started(run job.Run, p *process.Process) {
	s.log.Debug().Msgf("run %d started, pid %d", run.Number, p.PID())
}

func (s *speaker) adopted(run job.Run, p *process.Process) {
	s.log.Info().Msgf("run %d goes on, pid %d", run.Number, p.PID())
}

func (s *speaker) cannotGoOn(why error) {
	s.log.Error().Msgf("cannot resume after re-exec: %v", why)
}

func (s *speaker) stopped(g activeRun) {
	s.log.Error().Msgf("stopping %s: it could not be adopted after re-exec", g)
}

func (s *speaker) abandoned(g activeRun, result job.Result) {
	s.log.Warn().Msgf("%s ended: %s", g, result)
}

func (s *speaker) stray(run job.Run, pid int, name string, killed bool) {
	what := "lives on"
	if killed {
		what = "is stopped"
	}
	if !s.rare("stray", zerolog.WarnLevel, "run %d has left pid %d (%s) behind, which is not of its process group: it %s", run.Number, pid, name, what) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.unnamed == nil {
			s.unnamed = map[fate][]string{}
		}
		f := fate{run.Number, killed}
		s.unnamed[f] = append(s.unnamed[f], fmt.Sprintf("pid %d (%s)", pid, name))
	}
}

// straysNamed names in one line those strays of a run that had none of their own. A loop that leaves some at each
// run is kept back in this too.
func (s *speaker) straysNamed(run uint64) {
	for _, f := range []fate{{run, true}, {run, false}} {
		s.mu.Lock()
		names := s.unnamed[f]
		delete(s.unnamed, f)
		s.mu.Unlock()
		n := len(names)
		if n == 0 {
			continue
		}
		text := strings.Join(names[:min(n, straysMax)], ", ")
		if n > straysMax {
			text += fmt.Sprintf(" and %d more", n-straysMax)
		}
		if s.rare("strays", zerolog.WarnLevel, "run %d has left %d more behind, which are %s: %s", run, n, f, text) {
			s.often.settle("stray", n)
		}
	}
}

func (s *speaker) told(run job.Run, m sdnotify.Message) {
	if e := s.log.Debug(); e.Enabled() {
		var words []string
		for _, w := range []struct {
			said bool
			word string
		}{{m.Ready, "it is ready"}, {m.Watchdog, "it is alive"}, {m.Stopping, "it stops"}} {
			if w.said {
				words = append(words, w.word)
			}
		}
		if m.Status != nil {
			words = append(words, "status: "+*m.Status)
		}
		if m.ExtendTimeout > 0 {
			words = append(words, "it wants "+m.ExtendTimeout.String())
		}
		if words != nil {
			e.Msgf("run %d tells by pid %d: %s", run.Number, m.PID, strings.Join(words, "; "))
		}
	}
}

func (s *speaker) extended(run job.Run, asked, more time.Duration) {
	s.rare("extended", zerolog.InfoLevel, "run %d asked for %s from now on: its timeout comes %s later", run.Number, asked, more.Round(time.Millisecond))
}

func (s *speaker) tooLate(run job.Run) {
	s.rare("too late", zerolog.InfoLevel, "run %d asked for more time too late: it is being stopped", run.Number)
}

// stranger is no warning: a run may tell that it stops, and be gone before that is read; and any user of the host
// could fill the log.
func (s *speaker) stranger(m sdnotify.Message) {
	s.log.Debug().Msgf("a message of pid %d, uid %d, to the notify socket is ignored: it is of no run of ours", m.PID, m.UID)
}

func (s *speaker) misheard(run job.Run, m sdnotify.Message, err error) {
	s.rare("misheard", zerolog.WarnLevel, "a message of run %d, pid %d, to the notify socket is ignored: %v", run.Number, m.PID, err)
}

func (s *speaker) ended(t job.Tick) {
	s.straysNamed(t.Number)
	took := t.Length().Round(time.Microsecond)
	switch {
	case errors.Is(t.Cause, job.ErrStopped):
		s.log.Info().Msgf("run %d was stopped after %s: %s", t.Number, took, t.Result)
	case t.Cause != nil && !errors.Is(t.Cause, job.ErrOverrun):
		s.log.Warn().Msgf("run %d was ended after %s because %s: %s", t.Number, took, t.Cause, t.Result)
	case t.Overran():
		said := s.rare("overrun", zerolog.ErrorLevel, "run %d took %s, longer than the interval of %s: %d missed: %s",
			t.Number, took, t.Interval, t.Missed, t.Result)
		s.failed(t, said)
	case t.Failed():
		s.failed(t, s.rare("failure", zerolog.WarnLevel, "run %d failed after %s: %s", t.Number, took, t.Result))
	case t.Interval > 0 && t.Length() >= t.Interval*9/10:
		s.rare("late", zerolog.WarnLevel, "run %d took %s, over 90 %% of the interval of %s", t.Number, took, t.Interval)
	default:
		s.log.Debug().Msgf("run %d ended after %s: %s", t.Number, took, t.Result)
	}
}

// failed makes sure that every failed run is in the log with its number. Suppressed ones are
// listed after the next line that is written, when there are many, and before the daemon exits.
func (s *speaker) failed(t job.Tick, said bool) {
	s.mu.Lock()
	if !said && t.Failed() {
		if n := len(s.untold); n > 0 && t.Number-s.untold[n-1].last <= 1 { // the next one, or one more try
			s.untold[n-1].last = t.Number
		} else {
			s.untold = append(s.untold, span{t.Number, t.Number})
		}
	}
	many := len(s.untold) >= untoldMax
	s.mu.Unlock()
	if said || many {
		s.nameFailed()
	}
}

// nameFailed lists the failed runs whose own lines were suppressed.
func (s *speaker) nameFailed() {
	s.mu.Lock()
	untold := s.untold
	s.untold = nil
	s.mu.Unlock()
	if len(untold) == 0 {
		return
	}
	var names []string
	for _, n := range untold {
		names = append(names, n.String())
	}
	s.log.Warn().Msgf("more failed runs: %s", strings.Join(names, ", "))
}

// late says that a run takes long, or its start does, which is tried again where the system has no room for it.
func (s *speaker) late(r loop.Report, interval time.Duration, starting bool) {
	length := r.Length.Round(time.Millisecond)
	if starting {
		s.rare("starting", zerolog.WarnLevel, "run %d could not be started yet, for %s: %d missed so far", r.Run.Number, length, r.Missed)
		return
	}
	if r.Missed == 0 {
		s.rare("late", zerolog.WarnLevel, "run %d has been going for %s, over 90 %% of the interval of %s", r.Run.Number, length, interval)
		return
	}
	s.rare("overrun", zerolog.ErrorLevel, "run %d is still going after %s, longer than the interval of %s: %d missed so far",
		r.Run.Number, length, interval, r.Missed)
}

func (s *speaker) slowed(d time.Duration, run job.Run, spec job.Spec) {
	d = d.Round(time.Millisecond)
	switch {
	case run.Try > 0:
		s.rare("retry", zerolog.InfoLevel, "try %d of %d more follows in %s", run.Try, spec.Retries, d)
	case spec.Keep:
		s.rare("slowed", zerolog.WarnLevel, "the service did not stay, it is started again in %s", d)
	default:
		s.log.Debug().Msgf("the next run waits %s because the last one failed", d)
	}
}

func (s *speaker) held(due time.Time) {
	s.log.Warn().Msgf("the tick of %s waits: the lease does not allow a run now", due.Format(time.TimeOnly))
}

// waits says who is waited for, so that no wait for a run's end is silent.
func (s *speaker) waits(in state, g status.Going, now time.Time, service bool) {
	if g.PID == 0 {
		s.log.Warn().Msgf("%s: waiting for run %d, which is still being started", in, g.Run.Number)
		return
	}
	hint := "ask again to stop it now"
	if in == killing || service {
		hint = "it was told to stop; ask again to kill it"
	}
	if untouchable(-g.PID) {
		hint = notPermitted
	}
	s.log.Warn().Msgf("%s: waiting for run %d, pid %d, going for %s; %s",
		in, g.Run.Number, g.PID, now.Sub(g.Since).Round(time.Second), hint)
}

// untouchable says that none of a process, or of the group of a negative pid, may be signalled.
func untouchable(pid int) bool { return syscall.Kill(pid, 0) == syscall.EPERM }

const notPermitted = "it runs as another user, and gophd may not signal it: end it by hand, and give gophd the capability CAP_KILL"

// unstoppable is said at the start, for later nothing shows why a timeout does not come.
func (s *speaker) unstoppable(run job.Run, p *process.Process) {
	s.rare("unstoppable", zerolog.WarnLevel, "run %d, pid %d, cannot be stopped, nor can its timeout come: %s", run.Number, p.PID(), notPermitted)
}

func (s *speaker) lease(store string, was, l heartbeat.Lease) {
	switch l.State {
	case heartbeat.Held:
		switch {
		case l.Unproven && l.Err != nil:
			s.log.Error().Msgf("heartbeat %s cannot be reached, going on without it as configured: %v", store, l.Err)
		case l.Err != nil && was.Err == nil:
			s.rare("outage", zerolog.WarnLevel, "heartbeat %s cannot be reached, trying on: %v", store, l.Err)
		case was.State == heartbeat.Out, was.Unproven && was.Fence != l.Fence: // whoever was told of the end of it is told of this too
			s.log.Warn().Msgf("heartbeat %s is ours, fence %d", store, l.Fence)
		case was.State == heartbeat.Doubtful, was.State == heartbeat.Ending,
			was.State == heartbeat.Held && was.Fence == l.Fence && (was.Err != nil || was.Unproven):
			s.rare("reachable", zerolog.WarnLevel, "heartbeat %s answers again", store)
		case was.State != heartbeat.Held || was.Fence != l.Fence:
			s.log.Info().Msgf("heartbeat %s is ours, fence %d", store, l.Fence)
		}
	case heartbeat.Standby:
		s.log.Warn().Msgf("standing by: heartbeat %s is held by %s", store, l.Holder)
	case heartbeat.Proving:
		// After a clean release it is a moment only, and no word is due.
		if rest := time.Until(l.Until).Round(100 * time.Millisecond); was.State != heartbeat.Proving && rest >= time.Second {
			s.log.Warn().Msgf("heartbeat %s shows no clean release of a last holder: making sure for %s that nobody else runs", store, rest)
		}
	case heartbeat.Doubtful:
		s.log.Warn().Msgf("heartbeat %s cannot be renewed, no run starts until it is%s", store, because(l.Err))
	case heartbeat.Ending:
		if was.State == heartbeat.Ending {
			return // only whether the store answers has changed
		}
		s.log.Error().Msgf("heartbeat %s cannot be renewed in time, the command is stopped%s", store, because(l.Err))
	case heartbeat.Out:
		if was.State == heartbeat.Out {
			return // only whether the store answers has changed
		}
		s.log.Error().Msgf("heartbeat %s has run out, claiming it anew", store)
	case heartbeat.Lost:
		s.log.Error().Msgf("heartbeat %s was taken by %s", store, l.Holder)
	case heartbeat.Seeking:
		if l.Err != nil && !errors.Is(l.Err, heartbeat.ErrUnfit) { // which is what gophd ends with
			s.rare(unreachable, zerolog.WarnLevel, "heartbeat %s cannot be reached, trying on: %v", store, l.Err)
		}
	}
}

// because is the reason behind a sentence, where one is known: a lease that was handed over may be short before its
// store was asked at all.
func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func (s *speaker) proving(store string, l heartbeat.Lease) {
	if rest := time.Until(l.Until).Round(time.Second); rest > 0 {
		s.log.Info().Msgf("heartbeat %s: %s to go", store, rest)
	}
}

func (s *speaker) unseen() {
	s.log.Info().Msg("a gophd of this job was killed in another PID namespace (a container): whether its run has ended cannot be seen from here")
}

func (s *speaker) released() {
	s.log.Debug().Msg("no command is active, the lease is released")
}

func (s *speaker) reopened(err error) {
	if err != nil {
		s.log.Error().Msgf("log files not reopened: %v", err)
		return
	}
	s.log.Info().Msg("log files reopened")
}

// lost speaks to whom the log cannot reach: it is stderr that may still work when a disk is full.
func (s *speaker) lost(log logging.Stats) {
	s.echo.Error().Msgf("the log cannot be written, %d lines are lost so far: %v", log.Dropped, log.Lost)
}

// astray is for whom the log cannot reach, too.
func (s *speaker) astray(why error) {
	s.echo.Error().Msgf("the log is not where it should be: %v", why)
}

func (s *speaker) trouble(err error)   { s.log.Error().Msgf("%v", err) }
func (s *speaker) caution(text string) { s.log.Warn().Msg(text) }

// dump is asked for, so no level hides it.
func (s *speaker) dump(snap status.Snapshot) {
	vs := snap.Variables()
	if s.fields {
		e := s.log.Log()
		for _, v := range vs {
			e = e.Str(v.Name, v.Text)
		}
		e.Msg("dump")
		return
	}
	s.log.Log().Msg("dump of gophd:")
	for _, v := range vs {
		s.log.Log().Msgf("  %-18s %s", v.Name, v.Text)
	}
}

// ends first writes the counts of suppressed lines, which would be lost otherwise.
func (s *speaker) ends(why string) {
	s.nameFailed()
	if kept := s.often.rest(); kept != "" {
		s.log.Info().Msgf("suppressed log lines: %s", kept)
	}
	s.log.Info().Msgf("gophd ends: %s", why)
}

func (s *speaker) orphaned(left []int, rule job.OnOrphan) {
	what := "no run starts before it has ended"
	if rule == job.OrphanKill {
		what = "it is stopped"
	}
	if rule == job.OrphanKill && slices.ContainsFunc(left, untouchable) {
		what = notPermitted + "; no run starts before it has ended"
	}
	s.log.Warn().Msgf("a gophd that was killed has left a run behind: %s: %s", pids(left), what)
}

// rare writes a line of a kind that a fast loop could repeat many times a second, or says that it did not.
func (s *speaker) rare(kind string, level zerolog.Level, format string, args ...any) bool {
	burst := float64(oftenBurst)
	if kind == unreachable {
		burst = 1 // it is one outage, however often it is noticed
	}
	skipped, ok := s.often.allow(kind, burst, time.Now())
	if !ok {
		return false
	}
	text := fmt.Sprintf(format, args...)
	if skipped > 0 {
		text += fmt.Sprintf(" (and %d more like this since the last such line)", skipped)
	}
	s.log.WithLevel(level).Msg(text)
	return true
}

// throttle lets through a burst of each kind and then one per period, counting what it keeps back.
type throttle struct {
	mu    sync.Mutex
	kinds map[string]*allowance
}

type allowance struct {
	left    float64 // a bucket that fills by one each period
	at      time.Time
	skipped int
}

const (
	unreachable = "unreachable"

	oftenBurst  = 10
	oftenPeriod = 10 * time.Second

	straysMax = 1000 // names in one line
	untoldMax = 200  // spans in one line
)

func (t *throttle) allow(kind string, burst float64, now time.Time) (skipped int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.kinds[kind]
	if a == nil {
		if t.kinds == nil {
			t.kinds = map[string]*allowance{}
		}
		a = &allowance{left: burst, at: now}
		t.kinds[kind] = a
	}
	a.left = min(a.left+float64(now.Sub(a.at))/float64(oftenPeriod), burst)
	a.at = now
	if a.left < 1 {
		a.skipped++
		return 0, false
	}
	a.left--
	skipped, a.skipped = a.skipped, 0
	return skipped, true
}

// rest returns the counts of suppressed lines by kind and resets them.
func (t *throttle) rest() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(t.kinds)) {
		if a := t.kinds[kind]; a.skipped > 0 {
			all = append(all, fmt.Sprintf("%d %s", a.skipped, kind))
			a.skipped = 0
		}
	}
	return strings.Join(all, ", ")
}

// settle takes back that n of a kind were kept back: they have been said in another line.
func (t *throttle) settle(kind string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.kinds[kind]; a != nil {
		a.skipped -= min(n, a.skipped)
	}
}
