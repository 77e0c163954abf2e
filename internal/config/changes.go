package config

import (
	"reflect"
	"slices"
	"strings"
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
// sections; job.env_file and job.exclude stand for the content of their files too.
type ChangedJob struct {
	Name     string
	Settings []string
}

// Compare returns the differences between two encoded configs. The earlier one may be of another
// version of gophd. Then all settings and jobs that it does not understand count as new. What the
// jobs share is in Settings only: the name of the daemon, the log, the lease.
func Compare(before, after []byte) Changes {
	was, is := Jobs(before), Jobs(after)
	var c Changes
	base := difference(was.base, is.base)
	c.Settings = slices.DeleteFunc(slices.Clone(base), func(key string) bool {
		return (was.many || is.many) && ofJob(key)
	})
	c.Settings = shownKeys(c.Settings)
	for _, name := range is.Names {
		_, found := was.at[name]
		switch {
		case !found:
			c.Added = append(c.Added, name)
		case sameSpec(name, was, is):
			c.Unchanged++
		default:
			c.Changed = append(c.Changed, ChangedJob{name, changedSettings(base, name, was, is)})
		}
	}
	for _, name := range was.Names {
		if _, found := is.at[name]; !found {
			c.Removed = append(c.Removed, name)
		}
	}
	return c
}

// sameSpec returns true if a job is the same in both. Another version may write the same Spec in
// another form.
func sameSpec(name string, was, is EncodedJobs) bool {
	if was.same(name, is) {
		return true
	}
	before, known := was.Spec(name)
	after, ok := is.Spec(name)
	return known && ok && reflect.DeepEqual(before, after)
}

// Changed returns the settings that differ, of a daemon with one job. The content of the files of
// job.env_file counts as a setting.
func Changed(before, after []byte) []string {
	c := Compare(before, after)
	if len(c.Settings) == 0 && len(c.Changed) == 1 {
		return c.Changed[0].Settings
	}
	return c.Settings
}

// changedSettings returns the settings that differ between a job and its earlier version. base are the
// settings that differ outside the entries.
func changedSettings(base []string, name string, was, is EncodedJobs) []string {
	earlier, later := was.entry(name), is.entry(name)
	before, after := values(earlier), values(later)
	all := slices.Clone(base)
	for _, v := range slices.Concat(later, earlier) {
		all = append(all, v.Key)
	}
	var changed []string
	for _, key := range all {
		section, _, _ := strings.Cut(key, ".")
		reaches := ofJob(key) || !slices.Contains(sections(), section)
		if reaches && effective(before, was.base, key) != effective(after, is.base, key) {
			changed = append(changed, key)
		}
	}
	if len(changed) == 0 {
		return []string{changedFile(name, was, is)}
	}
	return shownKeys(changed)
}

// effective returns the text of a setting in the entry of a job, or else outside of it.
func effective(own map[string]string, base []Value, key string) string {
	if text, ok := own[key]; ok {
		return text
	}
	text, _ := textOf(base, key)
	return text
}

// changedFile returns the setting with the file whose content differs between a job and its earlier version.
func changedFile(name string, was, is EncodedJobs) string {
	before, _ := was.Spec(name)
	after, _ := is.Spec(name)
	if !before.Calendar.Equal(after.Calendar) {
		return "job.exclude"
	}
	return "job.env_file"
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
