package restart

import (
	"fmt"
	"slices"
	"time"
)

// The limits of the restart guard.
const (
	MinAge = 10 * time.Second // of a process, before it may re-exec after a fatal error

	// RecoveryWindow is the time in which it counts fatal errors.
	RecoveryWindow = 10 * time.Minute

	maxRecoveries = 5 // within RecoveryWindow
)

// Guard limits how often gophd re-execs after a fatal error. Its state is part of the Handoff,
// because it counts over all re-execs of a daemon. The zero value is ready for use. It does not
// count restarts that were requested.
type Guard struct {
	Recoveries []time.Duration // of the re-execs after fatal errors, by the boot clock
}

// Recover decides whether a process that started at started may re-exec now after a fatal error,
// and counts the re-exec if so. Otherwise the error says why it should exit instead. Both times are
// readings of the boot clock, so that neither a step of the wall clock nor a suspend allows more
// re-execs.
func (g *Guard) Recover(started, now time.Duration) error {
	switch age := now - started; {
	case age < MinAge:
		return fmt.Errorf("the fatal error came after %v, before %v: exiting instead of restarting again and again",
			age.Round(time.Millisecond), MinAge)
	case g.Wait(started, now) > 0:
		return fmt.Errorf("this is fatal error number %d within %v: exiting instead of restarting again and again",
			len(g.recent(now))+1, RecoveryWindow)
	}
	g.Count(now)
	return nil
}

// Wait returns how long a process that can go on must wait before it may re-exec; 0 if it may now.
func (g *Guard) Wait(started, now time.Duration) time.Duration {
	wait := started + MinAge - now
	if recent := g.recent(now); len(recent) >= maxRecoveries {
		wait = max(wait, recent[len(recent)-maxRecoveries]+RecoveryWindow-now)
	}
	return max(wait, 0)
}

// Count counts a re-exec after a fatal error.
func (g *Guard) Count(now time.Duration) { g.Recoveries = append(g.recent(now), now) }

// recent returns the re-execs that count. A reading from the future is not from this boot. It must
// not prevent recoveries indefinitely.
func (g *Guard) recent(now time.Duration) []time.Duration {
	return slices.DeleteFunc(slices.Clone(g.Recoveries), func(at time.Duration) bool {
		return at > now || now-at >= RecoveryWindow
	})
}
