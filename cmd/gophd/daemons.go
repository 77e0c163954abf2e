package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gophd/internal/api"
	"gophd/internal/config"
	"gophd/internal/misspelled"
)

// This file finds the daemons of this host, and what a NAME on the command line names.

// notRunningError says that a daemon or a job is known and not running.
type notRunningError struct{ text string }

func (e *notRunningError) Error() string { return e.text }

// unknownError says that there is no such daemon or job, or that it is not known what it does.
type unknownError struct{ text string }

func (e *unknownError) Error() string { return e.text }

// runtimeDirs returns the directories in which this user may find daemons: GOPHD_RUNTIME_DIR alone if
// that is set.
func (p *program) runtimeDirs() ([]string, error) {
	uid := os.Getuid()
	own, err := p.ownDirectories()
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(p.self.Env, func(kv string) bool {
		value, ok := strings.CutPrefix(kv, "GOPHD_RUNTIME_DIR=")
		return ok && value != ""
	}) {
		return []string{own.RuntimeDir}, nil
	}
	dirs := []string{"/run/gophd", own.RuntimeDir, own.StateDir, fmt.Sprintf("/run/user/%d/gophd", uid)}
	patterns := []string{"/run/gophd/*"}
	if uid == 0 {
		patterns = append(patterns, "/run/user/*/gophd")
	}
	for _, pattern := range patterns {
		some, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, dir := range some {
			if info, err := os.Stat(dir); err == nil && info.IsDir() {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs, nil
}

// daemons returns the daemons that this user may find.
func (p *program) daemons(ctx context.Context) ([]api.Found, error) {
	dirs, err := p.runtimeDirs()
	if err != nil {
		return nil, err
	}
	return api.Find(ctx, dirs), nil
}

// target is what a NAME names.
type target struct {
	daemon api.Found
	job    string // "" for the daemon; with one job of the daemon's name it is that
}

// long returns the name of the target that no other one has, unless two daemons have the same name.
func (t target) long() string { return t.daemon.Name + "/" + t.job }

// target returns what name names: DAEMON, JOB, DAEMON/JOB, or DAEMON/ for the daemon. An empty one is
// the only daemon. The daemon has answered.
func (p *program) target(ctx context.Context, name string) (target, error) {
	all, err := p.daemons(ctx)
	if err != nil {
		return target{}, err
	}
	return chooseTarget(all, name)
}

func chooseTarget(all []api.Found, name string) (target, error) {
	alive := slices.DeleteFunc(slices.Clone(all), func(f api.Found) bool { return f.Err != nil })
	if name == "" {
		return onlyTarget(alive, all)
	}
	matches := matching(alive, name)
	switch {
	case len(matches) == 1:
		return matches[0], nil
	case len(matches) > 1:
		return target{}, &usageError{ambiguous(name, matches)}
	}
	return target{}, missing(all, name)
}

// onlyTarget returns the only daemon, with its job if that is the only one too.
func onlyTarget(alive, all []api.Found) (target, error) {
	switch {
	case len(alive) == 1:
		return targetOf(alive[0]), nil
	case len(alive) > 1:
		var names []string
		for _, f := range alive {
			names = append(names, f.Name)
		}
		return target{}, &usageError{fmt.Errorf("there are %d daemons: name one of %s", len(alive), printable(strings.Join(names, ", ")))}
	case slices.ContainsFunc(all, func(f api.Found) bool { return errors.Is(f.Err, api.ErrPermission) }):
		return target{}, &unknownError{"no permission for any daemon; be root, the user of the daemon, or a member of its api.group"}
	}
	for _, f := range all {
		if !errors.Is(f.Err, api.ErrNotRunning) {
			return target{}, &unknownError{printable(fmt.Sprintf("%s: %v", f.Name, f.Err))}
		}
	}
	return target{}, &notRunningError{"no daemon is running"}
}

// targetOf returns the daemon, or its job if it has only one.
func targetOf(f api.Found) target {
	if len(f.Status.Jobs) == 1 && f.Status.Jobs[0].Name == f.Name {
		return target{f, f.Name}
	}
	return target{f, ""}
}

func matching(alive []api.Found, name string) (all []target) {
	daemon, job, long := strings.Cut(name, "/")
	for _, f := range alive {
		if long && f.Name != daemon {
			continue
		}
		if !long && f.Name == name || long && job == "" {
			all = append(all, targetOf(f))
		}
		for _, j := range f.Status.Jobs {
			t := target{f, j.Name}
			if (long && j.Name == job || !long && j.Name == name) && !slices.ContainsFunc(all, func(o target) bool {
				return o.daemon.Socket == f.Socket && o.job == t.job
			}) {
				all = append(all, t)
			}
		}
	}
	return all
}

// ambiguous returns the error for a name that several things have.
func ambiguous(name string, matches []target) error {
	var forms []string
	for _, t := range matches {
		forms = append(forms, t.long())
	}
	slices.Sort(forms)
	if len(slices.Compact(slices.Clone(forms))) == len(forms) {
		return fmt.Errorf("%s names several things: write one of %s", name, printable(strings.Join(forms, ", ")))
	}
	forms = nil
	for _, t := range matches {
		forms = append(forms, fmt.Sprintf("GOPHD_RUNTIME_DIR=%s (pid %d)", filepath.Dir(t.daemon.Socket), t.daemon.Status.PID))
	}
	return fmt.Errorf("%s names several daemons: set one of %s", name, printable(strings.Join(forms, ", ")))
}

// missing returns the error for a name that no daemon or job has that answers.
func missing(all []api.Found, name string) error {
	daemon, _, long := strings.Cut(name, "/")
	var known []string
	for _, f := range all {
		var jobs []string // of a daemon that does not run
		if f.Err != nil && f.Record != nil {
			for _, j := range f.Record.Jobs {
				jobs = append(jobs, j.Name)
			}
		}
		switch {
		case f.Name != daemon && (long || !slices.Contains(jobs, name)):
		case errors.Is(f.Err, api.ErrNotRunning) && f.Record != nil:
			return &notRunningError{fmt.Sprintf("%s is not running; its pid was %d%s", name, f.Record.PID, logHint(f.Record))}
		case f.Err != nil:
			return &unknownError{fmt.Sprintf("%s: %s", name, printable(f.Err.Error()))}
		}
		known = append(append(known, f.Name), jobs...)
		for _, j := range f.Status.Jobs {
			known = append(known, j.Name)
		}
	}
	hint := "; gophd list shows all"
	if near := misspelled.Nearest(name, known); near != "" {
		hint = "; did you mean " + printable(near) + "?"
	}
	return &unknownError{fmt.Sprintf("there is no daemon or job %s%s", printable(name), hint)}
}

func logHint(r *api.Record) string {
	if r.LogFile == "" {
		return ""
	}
	return "; log: " + printable(r.LogFile)
}

// printable replaces what could control the terminal: a name may come from another user's program.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' {
			return '?'
		}
		return r
	}, text)
}

// ownDirectories returns the directories of a daemon of this user.
func (p *program) ownDirectories() (config.Directories, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // as in load
	}
	own, err := config.OwnDirectories(config.Request{Env: p.self.Env, Dir: p.self.Dir, Home: home, UID: os.Getuid()})
	if err != nil {
		return own, &usageError{err}
	}
	return own, nil
}

// anyTarget is target for a daemon that need not be running, or that does not answer: one that has left its
// record in a runtime directory. Its Status has no more than its PID and the names of its jobs.
func (p *program) anyTarget(ctx context.Context, name string) (target, error) {
	all, err := p.daemons(ctx)
	if err != nil {
		return target{}, err
	}
	t, err := chooseTarget(all, name)
	if err == nil || errors.As(err, new(*usageError)) {
		return t, err
	}
	var gone []api.Found
	for _, f := range all {
		if f.Err != nil && !errors.Is(f.Err, api.ErrPermission) && f.Record != nil {
			for _, j := range f.Record.Jobs {
				f.Status.Jobs = append(f.Status.Jobs, api.Job{Name: j.Name})
			}
			f.Status.PID = f.Record.PID
			gone = append(gone, f)
		}
	}
	matches := matching(gone, name)
	if name == "" && len(gone) == 1 {
		matches = []target{targetOf(gone[0])}
	}
	switch {
	case len(matches) == 1:
		return matches[0], nil
	case len(matches) > 1:
		return target{}, &usageError{ambiguous(name, matches)}
	}
	return target{}, err
}
