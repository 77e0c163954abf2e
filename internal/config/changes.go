package config

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"gophd/internal/job"
)

// Changes are the differences between two configs of a daemon.
type Changes struct {
	// Settings are the names of the settings that differ, in the order of the later config. With
	// jobs: these are those of the daemon, and the user's.
	Settings []string

	// Added, Changed and Removed are jobs, in the order of the config that has them. A job is known
	// by its name.
	Added     []string
	Changed   []ChangedJob
	Removed   []string
	Unchanged int
}

// ChangedJob is a job whose Spec differs. The settings have the names of job: and of the user's
// sections; job.env_file stands for the content of its files.
type ChangedJob struct {
	Name     string
	Settings []string
}

// Compare returns the differences between two encoded configs. The earlier one may be of another
// version of gophd. Then all settings and jobs that it does not understand count as new. What the
// jobs share is in Settings only: the name of the daemon, the log, the lease.
func Compare(before, after json.RawMessage) Changes {
	was, is := partsOf(before), partsOf(after)
	var c Changes
	base := difference(was.Values, is.Values)
	c.Settings = slices.DeleteFunc(slices.Clone(base), func(key string) bool {
		return (was.Config.Many || is.Config.Many) && ofJob(key)
	})
	c.Settings = shownKeys(c.Settings)
	earlier := was.byName()
	for i, spec := range is.Config.Jobs {
		at, found := earlier[spec.Name]
		switch {
		case !found:
			c.Added = append(c.Added, spec.Name)
		case reflect.DeepEqual(was.Config.Jobs[at], spec):
			c.Unchanged++
		default:
			c.Changed = append(c.Changed, ChangedJob{spec.Name, changedSettings(base, was, is, at, i)})
		}
	}
	later := is.byName()
	for _, spec := range was.Config.Jobs {
		if _, found := later[spec.Name]; !found {
			c.Removed = append(c.Removed, spec.Name)
		}
	}
	return c
}

// Changed returns the settings that differ, of a daemon with one job. The content of the files of
// job.env_file counts as a setting.
func Changed(before, after json.RawMessage) []string {
	c := Compare(before, after)
	if len(c.Settings) == 0 && len(c.Changed) == 1 {
		return c.Changed[0].Settings
	}
	return c.Settings
}

// changedSettings returns the settings that differ between a job and its earlier version, which are
// the jobs at and i. base are the settings that differ outside the entries.
func changedSettings(base []string, was, is parts, at, i int) []string {
	before, after := values(was.entry(at)), values(is.entry(i))
	all := slices.Clone(base)
	for _, v := range slices.Concat(is.entry(i), was.entry(at)) {
		all = append(all, v.Key)
	}
	effective := func(own map[string]string, p parts, key string) string {
		if text, ok := own[key]; ok {
			return text
		}
		text, _ := textOf(p.Values, key)
		return text
	}
	var changed []string
	for _, key := range all {
		section, _, _ := strings.Cut(key, ".")
		reaches := ofJob(key) || !slices.Contains(sections(), section)
		if reaches && effective(before, was, key) != effective(after, is, key) {
			changed = append(changed, key)
		}
	}
	if len(changed) == 0 {
		return []string{"job.env_file"}
	}
	return shownKeys(changed)
}

func ofJob(key string) bool { return strings.HasPrefix(key, jobSection+".") }

// difference returns the keys that have different texts, in the order of the later values. ""
// equals no value, because an empty mapping has that text.
func difference(was, is []Value) []string {
	before, after := values(was), values(is)
	var changed []string
	for _, v := range slices.Concat(is, was) {
		if before[v.Key] != after[v.Key] && !slices.Contains(changed, v.Key) {
			changed = append(changed, v.Key)
		}
	}
	return changed
}

func values(all []Value) map[string]string {
	texts := make(map[string]string, len(all))
	for _, v := range all {
		texts[v.Key] = v.Text
	}
	return texts
}

// shownKeys returns keys that are safe to show, each once.
func shownKeys(keys []string) (shown []string) {
	for _, key := range keys {
		if key = shownKey(key); !slices.Contains(shown, key) {
			shown = append(shown, key)
		}
	}
	return shown
}

// parts is an encoded config of any version, partly decoded.
type parts struct {
	Config struct {
		Many bool
		Jobs []job.Spec
	}
	Values  []Value
	Entries [][]Value
}

func partsOf(text json.RawMessage) (p parts) {
	_ = json.Unmarshal(text, &p) // fails for another version: then all settings count as new
	return p
}

// byName returns the index of each job.
func (p parts) byName() map[string]int {
	all := make(map[string]int, len(p.Config.Jobs))
	for i, spec := range p.Config.Jobs {
		all[spec.Name] = i
	}
	return all
}

// entry returns the settings of one entry of jobs:; none with one job.
func (p parts) entry(i int) []Value {
	if i >= len(p.Entries) {
		return nil
	}
	return p.Entries[i]
}
