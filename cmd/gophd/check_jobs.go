package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"gophd/internal/config"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/preflight"
)

// checkJobs prints a table of the jobs, then the lines of the daemon, and returns why jobs are
// unfit.
func (p *program) checkJobs(ctx context.Context, c *config.Config) error {
	k := preflight.NewChecker(c, p.self.Env)
	noLease, err := preflight.CheckStore(ctx, c)
	wrong := []error{k.Daemon(), err}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "JOB\tSCHEDULE\tNEXT RUN\tCOMMAND\tUSER\tOVERLAP\tLEASE\tFIT")
	now := time.Now()
	for _, spec := range c.Jobs {
		_, err := k.Job(spec)
		err = k.Named(spec, err)
		holder, heldErr := preflight.JobHolder(c, spec)
		fit := "yes"
		if err = errors.Join(err, heldErr, noLease[spec.Name]); err != nil {
			wrong, fit = append(wrong, err), "no"
		}
		fmt.Fprintln(w, strings.Join([]string{spec.Name, spec.Cadence(), nextRun(spec, now),
			short(c.Shown("jobs." + spec.Name + ".command")), or(spec.User, "-"), overlap(spec), leaseOf(c, holder), fit}, "\t"))
	}
	heldFile, heldLock, err := preflight.Holders(c)
	wrong = append(wrong, err)
	if err := w.Flush(); err != nil {
		return err
	}

	fmt.Fprintln(p.stdout)
	line := func(name, text string) { fmt.Fprintf(w, "%s\t%s\n", name, text) }
	if c.Crontab != "" {
		line("crontab", c.Crontab)
	}
	line("config file", or(c.File, "none: flags, environment and defaults"))
	line("daemon", c.Name)
	if c.MaxRunning > 0 {
		line("runs at a time", fmt.Sprintf("at most %d of all jobs", c.MaxRunning))
	}
	switch {
	case c.Heartbeat.URL == "none:":
		line("lease", "none:")
	case c.Heartbeat.Scope == "job":
		line("lease", storeName(c, lease.JobLockPath(c, c.Name+".JOB"))+", one for each job"+held(heldLock))
	default:
		line("lease", storeName(c, lease.LockPath(c))+", one for all jobs"+held(heldLock))
	}
	line("log", or(c.Log.File, "stderr"))
	line("PID file", or(c.PIDFile, "none")+held(heldFile))
	if err := w.Flush(); err != nil {
		return err
	}
	for _, text := range slices.Concat(c.Warnings, preflight.Cautions(c), preflight.MailCautions(c, p.self.Env)) {
		p.warn(text)
	}
	return errors.Join(wrong...)
}

// nextRun returns when a job would run first if it were started now.
func nextRun(spec job.Spec, now time.Time) string {
	if spec.Calendar != nil && !spec.RunAtStart {
		due, ok := spec.Calendar.Next(now)
		if !ok {
			return "-"
		}
		return due.Format(time.RFC3339)
	}
	if spec.RunAtStart || spec.Once || spec.Service || spec.Interval == 0 {
		return "immediately"
	}
	return now.Add(spec.Interval).Format(time.RFC3339)
}

// overlap describes the overlap policy of a job that has ticks during a run.
func overlap(spec job.Spec) string {
	switch {
	case spec.Calendar == nil && (spec.Once || spec.Service || spec.Interval == 0):
		return "-"
	case spec.Overlap == job.OverlapAllow:
		return fmt.Sprintf("allow %d", spec.MaxParallel)
	}
	return string(spec.Overlap)
}

// leaseOf describes the lease of one of many jobs.
func leaseOf(c *config.Config, holder string) string {
	switch {
	case c.Heartbeat.URL == "none:":
		return "-"
	case holder != "":
		return "held by " + holder
	case c.Heartbeat.Scope == "job":
		return "own"
	}
	return "daemon"
}

// short returns at most 40 characters of a text, for a column of a table.
func short(text string) string {
	const most = 40
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return text
}
