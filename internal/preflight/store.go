package preflight

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gophd/internal/config"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
	"gophd/internal/lease"
)

// storeTimeout limits how long a reload or gophd check waits for a store that does not answer.
const storeTimeout = 10 * time.Second

// Contact looks whether leases of a config can be kept in its store. It returns heartbeat.ErrUnfit,
// wrapped, if none can, or a *heartbeat.UnreachableError if the store gave no answer for the time of
// patience. Who holds a lease does not matter. It blocks until it has an answer, or patience is over,
// or ctx ends.
func Contact(ctx context.Context, c *config.Config, store heartbeat.Store, patience time.Duration) error {
	var first error
	for _, name := range leaseNames(c) {
		err := heartbeat.Look(ctx, store, lease.Key(name), patience)
		switch {
		case errors.As(err, new(*heartbeat.UnreachableError)):
			return err
		case !errors.Is(err, heartbeat.ErrUnfit): // one that is may be about the value of this lease
			return nil
		case first == nil:
			first = err
		}
	}
	return first
}

// leaseNames returns the names of the leases that a config needs in a store.
func leaseNames(c *config.Config) (all []string) {
	if !c.OwnLeases() {
		return []string{c.Name}
	}
	for _, spec := range c.Jobs {
		all = append(all, c.FileName(spec))
	}
	return all
}

// unreachableIsFit reports whether err says that the store does not answer, and the runs continue
// without it.
func unreachableIsFit(h config.Heartbeat, err error) bool {
	return h.OnUnreachable == "continue" && errors.As(err, new(*heartbeat.UnreachableError))
}

// CheckStore contacts the heartbeat's server, if there is one, and returns an error if no lease can
// be kept there, or if it does not answer: for as long as a start would try, or storeTimeout. With
// heartbeat.on_unreachable: continue a server that does not answer is no error. jobs has why the own
// lease of a job cannot be kept, by the name of the job. It blocks until it has an answer.
func CheckStore(ctx context.Context, c *config.Config) (jobs map[string]error, err error) {
	h := c.Heartbeat
	if !h.Shared() {
		return nil, nil
	}
	store, err := lease.OpenStore(h)
	if err != nil {
		return nil, err
	}
	patience := min(h.AcquireTimeout, storeTimeout)
	if c.OwnLeases() {
		jobs, err = lookUpJobs(ctx, c, store, patience, func(job.Spec) bool { return false })
	} else if err = heartbeat.Look(ctx, store, lease.Key(c.Name), patience); errors.As(err, new(*heartbeat.HeldError)) {
		err = nil
	}
	if unreachableIsFit(h, err) {
		err = nil
	}
	return jobs, errors.Join(err, store.Close())
}

// lookUpJobs looks up the own lease of each job in a store, except those for which skip returns true.
// jobs has why a lease cannot be kept, by the name of the job. A lease that another instance holds can:
// the job stands by, and the others run. An error of Contact concerns all.
func lookUpJobs(ctx context.Context, c *config.Config, store heartbeat.Store, patience time.Duration,
	skip func(job.Spec) bool) (jobs map[string]error, err error) {
	if err := Contact(ctx, c, store, patience); err != nil {
		return nil, err
	}
	jobs = map[string]error{}
	for _, spec := range c.Jobs {
		if skip(spec) {
			continue
		}
		err := heartbeat.Look(ctx, store, lease.Key(c.FileName(spec)), patience)
		switch {
		case errors.As(err, new(*heartbeat.UnreachableError)):
			return jobs, err
		case err != nil && !errors.As(err, new(*heartbeat.HeldError)):
			jobs[spec.Name] = fmt.Errorf("%s: %w", c.Where(spec, ""), err)
		}
	}
	return jobs, nil
}
