package event

import (
	"fmt"
	"time"
)

// The types of events about the lease.
const (
	TypeLeaseAcquired    Type = "lease.acquired"
	TypeLeaseStandby     Type = "lease.standby"
	TypeLeaseProving     Type = "lease.proving"
	TypeLeaseUnreachable Type = "lease.unreachable"
	TypeLeaseReachable   Type = "lease.reachable"
	TypeLeaseIgnored     Type = "lease.ignored"
	TypeLeaseDoubtful    Type = "lease.doubtful"
	TypeLeaseEnding      Type = "lease.ending"
	TypeLeaseExpired     Type = "lease.expired"
	TypeLeaseLost        Type = "lease.lost"
	TypeLeaseHeld        Type = "lease.held_elsewhere"
	TypeLeaseReleased    Type = "lease.released"
)

// LeaseAcquired says that this instance holds the lease. After an outage it is a warning, like the
// outage itself.
func LeaseAcquired(name, store string, fence uint64, after bool) Event {
	e := Event{Type: TypeLeaseAcquired, Level: Info, Job: name, Lease: Lease{Store: store, Fence: fence},
		message: func(e Event) string {
			return fmt.Sprintf("lease acquired from %s, fencing token %d", e.Lease.Store, e.Lease.Fence)
		}}
	if after {
		e.Level = Warn
	}
	return e
}

// LeaseStandby says that another instance holds the lease, and this one waits for it.
func LeaseStandby(name, store, holder string) Event {
	return Event{Type: TypeLeaseStandby, Level: Warn, Job: name, Lease: Lease{Store: store, Holder: holder},
		message: func(e Event) string {
			return fmt.Sprintf("on standby: lease %s in %s is held by %s", e.Job, e.Lease.Store, e.Lease.Holder)
		}}
}

// LeaseProving says that the store has no record that the last holder released the lease. This
// instance waits until no other instance can run the job.
func LeaseProving(name, store string, rest time.Duration) Event {
	return Event{Type: TypeLeaseProving, Level: Warn, Job: name, Lease: Lease{Store: store}, Duration: rest,
		message: func(e Event) string {
			return fmt.Sprintf("lease %s has no record of a clean release; "+
				"waiting %s in case another instance still runs", e.Lease.Store, e.Duration)
		}}
}

// LeaseProvingStill says that the wait for the lease continues. The message has the rest of the
// wait.
func LeaseProvingStill(name, store string, rest time.Duration) Event {
	return Event{Type: TypeLeaseProving, Level: Info, Job: name, Lease: Lease{Store: store}, Duration: rest,
		message: func(e Event) string {
			return fmt.Sprintf("lease %s: waiting %s more", e.Lease.Store, e.Duration)
		}}
}

// LeaseUnreachable says that the store does not answer, and gophd retries.
func LeaseUnreachable(name, store, repeat string, err error) Event {
	return Event{Type: TypeLeaseUnreachable, Level: Warn, Repeat: repeat,
		Job: name, Lease: Lease{Store: store}, Err: err,
		message: func(e Event) string {
			return fmt.Sprintf("lease %s: store unreachable, retrying: %v", e.Lease.Store, e.Err)
		}}
}

// LeaseReachable says that the store is reachable again.
func LeaseReachable(name, store string) Event {
	return Event{Type: TypeLeaseReachable, Level: Warn, Repeat: "reachable", Job: name, Lease: Lease{Store: store},
		message: func(e Event) string {
			return fmt.Sprintf("lease %s: store reachable again", e.Lease.Store)
		}}
}

// LeaseIgnored says that the store does not answer, and runs start without a lease, because of
// heartbeat.on_unreachable: continue.
func LeaseIgnored(name, store string, err error) Event {
	return Event{Type: TypeLeaseIgnored, Level: Error, Job: name, Lease: Lease{Store: store}, Err: err,
		message: func(e Event) string {
			return fmt.Sprintf("lease %s: store unreachable, running without a lease "+
				"(heartbeat.on_unreachable: continue): %v",
				e.Lease.Store, e.Err)
		}}
}

// LeaseDoubtful says that too little of the lease is left to start a run.
func LeaseDoubtful(name, store string, err error) Event {
	return Event{Type: TypeLeaseDoubtful, Level: Warn, Job: name, Lease: Lease{Store: store}, Err: err,
		message: func(e Event) string {
			return fmt.Sprintf("lease %s not renewed%s; no run starts until it is renewed",
				e.Lease.Store, because(e.Err))
		}}
}

// LeaseEnding says that the command is stopped, because the lease cannot be renewed before it
// expires.
func LeaseEnding(name, store string, err error) Event {
	return Event{Type: TypeLeaseEnding, Level: Error, Job: name, Lease: Lease{Store: store}, Err: err,
		message: func(e Event) string {
			return fmt.Sprintf("lease %s not renewed in time%s; stopping the command",
				e.Lease.Store, because(e.Err))
		}}
}

// LeaseExpired says that the lease was not renewed in time, and gophd tries to acquire it again.
func LeaseExpired(name, store string) Event {
	return Event{Type: TypeLeaseExpired, Level: Error, Job: name, Lease: Lease{Store: store},
		message: func(e Event) string {
			return fmt.Sprintf("lease %s expired; acquiring it again", e.Lease.Store)
		}}
}

// LeaseLost says that another instance took the lease, or that its file was removed if the holder is
// "".
func LeaseLost(name, store, holder string) Event {
	if holder == "" {
		return Event{Type: TypeLeaseLost, Level: Error, Job: name, Lease: Lease{Store: store}, message: func(e Event) string {
			return fmt.Sprintf("lease %s lost: %s was removed or replaced", e.Job, e.Lease.Store)
		}}
	}
	return Event{Type: TypeLeaseLost, Level: Error, Job: name, Lease: Lease{Store: store, Holder: holder},
		message: func(e Event) string {
			return fmt.Sprintf("lease %s in %s lost to %s", e.Job, e.Lease.Store, e.Lease.Holder)
		}}
}

// LeaseHeldElsewhere says that this instance does not start, because another holds the lease.
func LeaseHeldElsewhere(err error) Event {
	return Event{Type: TypeLeaseHeld, Level: Info, Err: err, message: func(e Event) string {
		return fmt.Sprintf("not starting: %v", e.Err)
	}}
}

// LeaseReleased says that the lease is released, because no command is active any more.
func LeaseReleased(name string) Event {
	return Event{Type: TypeLeaseReleased, Level: Debug, Job: name, Text: "lease released: no command is active"}
}
