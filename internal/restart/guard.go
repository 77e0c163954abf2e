package restart

import (
	"fmt"
	"slices"
	"time"
)

// The limits of the restart guard.
const (
	MinAge = 10 * time.Second // of a process, before it may re-exec after a fatal error

	maxRecoveries  = 5
	recoveryWindow = 10 * time.Minute
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
	if age := now - started; age < MinAge {
		return fmt.Errorf("the fatal error came after %v, before %v: exiting instead of restarting again and again",
			age.Round(time.Millisecond), MinAge)
	}
	// A reading from the future is not from this boot. It must not prevent recoveries indefinitely.
	recent := slices.DeleteFunc(slices.Clone(g.Recoveries), func(at time.Duration) bool {
		return at > now || now-at >= recoveryWindow
	})
	if len(recent) >= maxRecoveries {
		return fmt.Errorf("this is fatal error number %d within %v: exiting instead of restarting again and again",
			len(recent)+1, recoveryWindow)
	}
	g.Recoveries = append(recent, now)
	return nil
}
