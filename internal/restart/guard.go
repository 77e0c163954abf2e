package restart

import (
	"fmt"
	"slices"
	"time"
)

// The limits of the storm guard.
const (
	MinAge = 10 * time.Second // of an image, before a fatal error in it is answered by a restart

	maxRecoveries  = 5
	recoveryWindow = 10 * time.Minute
)

// Guard keeps fatal errors from becoming a storm of restarts. Its memory travels in the Handoff, since
// what it counts are images. The zero value is ready for use. Restarts that were asked for are none
// of its business.
type Guard struct {
	Recoveries []time.Duration // readings of the boot clock at which a fatal error was answered by a restart
}

// Recover says whether an image that began at born may answer a fatal error by a restart now, and if
// so counts it; otherwise the error says why it should end instead. Both are readings of the boot
// clock, so that neither a step of the wall clock nor a suspend makes room for a storm.
func (g *Guard) Recover(born, now time.Duration) error {
	if age := now - born; age < MinAge {
		return fmt.Errorf("the fatal error came after %v, before %v: gophd ends, so that it does not restart in a storm",
			age.Round(time.Millisecond), MinAge)
	}
	// A reading from the future is no fact of this boot; it must not bar recoveries for ever.
	recent := slices.DeleteFunc(slices.Clone(g.Recoveries), func(at time.Duration) bool {
		return at > now || now-at >= recoveryWindow
	})
	if len(recent) >= maxRecoveries {
		return fmt.Errorf("this is fatal error number %d within %v: gophd ends, so that it does not restart in a storm",
			len(recent)+1, recoveryWindow)
	}
	g.Recoveries = append(recent, now)
	return nil
}
