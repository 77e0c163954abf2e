package config

import "gophd/internal/job"

// Setting is a setting that differs between two configs, with its values as config show has them: secrets
// are hidden. Both are the same if only that or the content of a file differs.
type Setting struct{ Name, Before, After string }

// PlannedJob is a job that a reload would change.
type PlannedJob struct {
	Name     string
	Spec     job.Spec  // of the later config; if it is removed, of the earlier one
	Settings []Setting // if it is changed
	Added    bool
	Removed  bool
}

// Plan is what a reload would change.
type Plan struct {
	Settings  []Setting // of the daemon; with one job, of that too
	Jobs      []PlannedJob
	Unchanged int // jobs
}

// PlanOf returns the differences between two encoded configs as a reload reports them, with values. ok is
// false if one of them is of a version that this program cannot read.
func PlanOf(before, after []byte) (p Plan, ok bool) {
	was, is := Jobs(before), Jobs(after)
	if len(was.Names) == 0 || len(is.Names) == 0 {
		return p, false
	}
	if !was.many && !is.many {
		p.Settings = baseSettings(Changed(before, after), was, is)
		if len(p.Settings) == 0 {
			p.Unchanged = 1
		}
		return p, true
	}
	c := Compare(before, after)
	p.Settings, p.Unchanged = baseSettings(c.Settings, was, is), c.Unchanged
	for _, changed := range c.Changed {
		j := PlannedJob{Name: changed.Name}
		j.Spec, _ = is.Spec(changed.Name)
		earlier, later := values(was.entry(changed.Name)), values(is.entry(changed.Name))
		for _, key := range changed.Settings {
			j.Settings = append(j.Settings, settingOf(key, effective(earlier, was.base, key), effective(later, is.base, key)))
		}
		p.Jobs = append(p.Jobs, j)
	}
	for _, name := range c.Added {
		j := PlannedJob{Name: name, Added: true}
		j.Spec, _ = is.Spec(name)
		p.Jobs = append(p.Jobs, j)
	}
	for _, name := range c.Removed {
		j := PlannedJob{Name: name, Removed: true}
		j.Spec, _ = was.Spec(name)
		p.Jobs = append(p.Jobs, j)
	}
	return p, true
}

// baseSettings returns settings outside the entries of jobs.
func baseSettings(keys []string, was, is EncodedJobs) (all []Setting) {
	for _, key := range keys {
		all = append(all, settingOf(key, effective(nil, was.base, key), effective(nil, is.base, key)))
	}
	return all
}

func settingOf(key, before, after string) (s Setting) {
	s.Name, s.Before = shownValue(key, before)
	_, s.After = shownValue(key, after)
	return s
}
