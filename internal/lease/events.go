package lease

import (
	"errors"
	"time"

	"gophd/internal/event"
	"gophd/internal/heartbeat"
)

// eventOf returns the event for a change of a claim from was to now; false if there is none. The
// start and the end of an outage are both at least warnings.
func eventOf(job, store string, was, now heartbeat.Lease) (e event.Event, ok bool) {
	switch now.State {
	case heartbeat.Held:
		return held(job, store, was, now)
	case heartbeat.Standby:
		return event.LeaseStandby(job, store, now.Holder.String()), true
	case heartbeat.Proving: // no event for the short wait after a clean release
		rest := time.Until(now.Until).Round(100 * time.Millisecond)
		return event.LeaseProving(job, store, rest), was.State != heartbeat.Proving && rest >= time.Second
	case heartbeat.Doubtful:
		return event.LeaseDoubtful(job, store, now.Err), true
	case heartbeat.Ending:
		return event.LeaseEnding(job, store, now.Err), was.State != heartbeat.Ending
	case heartbeat.Out:
		return event.LeaseExpired(job, store), was.State != heartbeat.Out
	case heartbeat.Lost:
		holder := ""
		if now.Holder.PID > 0 {
			holder = now.Holder.String()
		}
		return event.LeaseLost(job, store, holder), true
	case heartbeat.Seeking: // gophd exits after ErrUnfit, with an event of its own
		return event.LeaseUnreachable(job, store, "unreachable", now.Err),
			now.Err != nil && !errors.Is(now.Err, heartbeat.ErrUnfit)
	}
	return e, false
}

func held(job, store string, was, now heartbeat.Lease) (e event.Event, ok bool) {
	switch {
	case now.Unproven && now.Err != nil:
		return event.LeaseIgnored(job, store, now.Err), true
	case now.Err != nil && was.Err == nil:
		return event.LeaseUnreachable(job, store, "outage", now.Err), true
	case was.State == heartbeat.Out, was.Unproven && was.Fence != now.Fence:
		return event.LeaseAcquired(job, store, now.Fence, true), true
	case was.State == heartbeat.Doubtful, was.State == heartbeat.Ending,
		was.State == heartbeat.Held && was.Fence == now.Fence && now.Err == nil && (was.Err != nil || was.Unproven):
		return event.LeaseReachable(job, store), true
	}
	return event.LeaseAcquired(job, store, now.Fence, false), was.State != heartbeat.Held || was.Fence != now.Fence
}
