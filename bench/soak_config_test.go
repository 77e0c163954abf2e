//go:build soak

package bench_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// soakConfig is a valid config of the soak with many jobs. It is not changed, see edited.
type soakConfig struct {
	dir, program string
	head         string // what no edit changes
	rng          *rand.Rand
	maxRunning   int
	defaults     map[string]string
	jobs         []soakJob
	removed      []soakJob
	named        int // jobs so far
}

// soakJob is one job: values of YAML, and the arguments of its command after the directory.
type soakJob struct {
	name     string
	kind     *soakKind
	settings map[string]string
	args     map[string]string
}

// soakKind makes jobs. Every edit makes the settings and arguments of a job anew.
type soakKind struct {
	name   string
	share  int // of a hundred jobs
	random func(rng *rand.Rand, j *soakJob)
}

func ms(n int) string { return fmt.Sprintf("%dms", n) }

func between(rng *rand.Rand, low, high int) int { return low + rng.IntN(high-low+1) }

func pick[T any](rng *rand.Rand, all ...T) T { return all[rng.IntN(len(all))] }

// takes sets how long the command takes.
func (j *soakJob) takes(low, high int) { j.args["for"] = fmt.Sprintf("%d-%d", low, high) }

// prefix of the jobs that no edit changes.
const steady = "steady"

var soakKinds = []*soakKind{
	{"quick", 28, func(rng *rand.Rand, j *soakJob) {
		j.settings["interval"] = ms(between(rng, 1000, 5000))
		if rng.IntN(8) == 0 {
			j.settings["interval"] = ms(between(rng, 100, 400))
		}
		j.takes(0, 40)
		if rng.IntN(4) == 0 {
			j.args["signal"] = pick(rng, "1", "6", "9", "11", "15")
			j.settings["interval"] = ms(between(rng, 1000, 5000))
		}
	}},
	{"overlap", 16, func(rng *rand.Rand, j *soakJob) {
		j.settings["interval"] = ms(between(rng, 1000, 2000))
		j.settings["overlap"] = pick(rng, "queue", "skip", "replace", "allow")
		j.takes(200, 4000)
		if j.settings["overlap"] == "allow" {
			j.settings["max_parallel"] = fmt.Sprint(between(rng, 2, 4))
			j.args["shared"] = ""
		}
		switch rng.IntN(4) {
		case 0:
			j.args["deaf"] = ""
			j.settings["grace"] = ms(between(rng, 50, 500))
		case 1:
			j.args["trap"] = fmt.Sprint(between(rng, 0, 90))
		}
	}},
	{"crashing service", 8, func(rng *rand.Rand, j *soakJob) {
		j.settings["service"] = "yes"
		j.settings["interval"] = ms(between(rng, 0, 1000))
		j.takes(0, 6000)
		j.args["exit"] = pick(rng, "0", "1", "0,1,2", "78,79,80")
		if rng.IntN(3) == 0 {
			j.args["signal"] = pick(rng, "6", "9", "11")
		}
	}},
	{"service", 7, func(rng *rand.Rand, j *soakJob) {
		j.settings["service"] = "yes"
		j.takes(3000, 40000)
		if rng.IntN(2) == 0 {
			j.args["trap"] = fmt.Sprint(between(rng, 0, 90))
		}
	}},
	{"retries", 8, func(rng *rand.Rand, j *soakJob) {
		j.settings["interval"] = ms(between(rng, 1500, 4000))
		j.settings["retries"] = fmt.Sprint(between(rng, 1, maxRetries))
		j.settings["retry_delay"] = ms(between(rng, 0, 300))
		j.takes(0, 50)
		j.args["exit"] = pick(rng, "75,0", "75,75,0", "1,75", "75", "0,3,0,75")
		switch rng.IntN(3) {
		case 0:
			j.settings["retry_exit_codes"] = "[75]"
		case 1:
			j.settings["success_exit_codes"] = "[0, 3]"
		}
	}},
	{"timeout", 8, func(rng *rand.Rand, j *soakJob) {
		j.settings["interval"] = ms(between(rng, 1200, 3000))
		j.settings["timeout"] = ms(between(rng, 100, 900))
		j.settings["grace"] = ms(between(rng, 50, 400))
		j.settings["stop_signals"] = pick(rng, "[TERM]", "[INT, TERM]", "[HUP, USR1]")
		j.takes(50, 1200)
		switch rng.IntN(3) {
		case 0:
			j.args["deaf"] = ""
		case 1:
			j.args["trap"] = fmt.Sprint(between(rng, 0, 90))
		}
	}},
	{"flood", 6, func(rng *rand.Rand, j *soakJob) {
		j.settings["interval"] = ms(between(rng, 1500, 5000))
		j.args["flood"] = fmt.Sprint(between(rng, 1, 200))
		j.args["exit"] = pick(rng, "0", "0,0,0,0,7")
		j.takes(0, 500)
	}},
	{"escape", 4, func(rng *rand.Rand, j *soakJob) {
		j.settings["interval"] = ms(between(rng, 1500, 5000))
		j.settings["escaped"] = pick(rng, "report", "kill", "ignore")
		j.takes(50, 500)
		j.args[pick(rng, "escape", "unmarked")] = fmt.Sprint(between(rng, 50, 6000))
	}},
	// An escaped process that is stopped must have ended before the next run starts. A reload that
	// changes the policy applies to the active run too, so the policy of these does not change.
	{"stopped escape", 4, func(rng *rand.Rand, j *soakJob) {
		j.settings["interval"] = ms(between(rng, 1500, 5000))
		j.settings["escaped"], j.settings["grace"] = "kill", ms(between(rng, 100, 500))
		j.takes(50, 500)
		j.args["held"] = fmt.Sprint(between(rng, 1000, 8000))
	}},
	{"left in the group", 3, func(rng *rand.Rand, j *soakJob) {
		j.settings["interval"] = ms(between(rng, 1000, 4000))
		j.takes(0, 100)
		j.args["leave"] = fmt.Sprint(between(rng, 50, 6000))
	}},
	{"once", 4, func(rng *rand.Rand, j *soakJob) {
		j.settings["once"] = "yes"
		j.takes(0, 6000)
		j.args["exit"] = fmt.Sprint(between(rng, 0, 90))
	}},
	{"giving up", 3, func(rng *rand.Rand, j *soakJob) {
		j.settings["interval"] = ms(between(rng, 1000, 3000))
		j.takes(0, 200)
		if rng.IntN(2) == 0 {
			j.settings["fatal_exit_codes"] = "[70]"
			j.args["exit"] = "0,0,0,70"
		} else {
			j.settings["start_limit"] = fmt.Sprint(between(rng, 2, 5))
			j.args["exit"] = "1,1,2"
		}
	}},
	{"back to back", 1, func(rng *rand.Rand, j *soakJob) {
		j.settings["interval"] = "0"
		j.takes(60, 200)
		j.args["exit"] = pick(rng, "0", "0,0,0,5")
	}},
}

const maxRetries = 4

func newSoakConfig(a *attack) soakConfig {
	c := soakConfig{dir: a.dir, program: a.k.path("marks"), rng: a.rng, maxRunning: maxRunning,
		head:     soakHead(a, a.path("log")),
		defaults: map[string]string{"on_leftover": "wait", "grace": "2s"}}
	for _, kind := range soakKinds {
		for range kind.share * attackedJobs / 100 {
			c.jobs = append(c.jobs, c.job(kind))
		}
	}
	for i := range c.jobs[:attackedJobs/10] { // quick ones
		j := &c.jobs[i]
		j.name = fmt.Sprintf("%s-%d", steady, i)
		delete(j.args, "signal")
		maps.Copy(j.settings, map[string]string{"interval": ms(between(a.rng, 1000, 3000)), "grace": "5s",
			"output": "log"})
	}
	return c
}

// soakHead is the part of the config that is about the daemon.
func soakHead(a *attack, log string) string {
	return fmt.Sprintf("heartbeat: {url: 'memcached://%s', ttl: %s, renew: 1s, stop_grace: 1s}\n"+
		"log: {file: %q, format: json, level: debug}\n", a.server.Addr(), attackLeaseTTL, log)
}

// newIdleConfig is a config with as many jobs, which are not due for an hour.
func newIdleConfig(a *attack, log, leftover string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "config: {auto_restart_interval: 24h, max_running: %d}\n%s", maxRunning, soakHead(a, log))
	fmt.Fprintf(&text, "job: {interval: 1h, run_at_start: no, on_leftover: %s}\njobs:\n", leftover)
	for i := range attackedJobs {
		fmt.Fprintf(&text, "  idle-%d: {command: [/bin/true]}\n", i)
	}
	return text.String()
}

// job returns a new job.
func (c *soakConfig) job(kind *soakKind) soakJob {
	c.named++
	j := soakJob{name: fmt.Sprintf("%s-%d", strings.ReplaceAll(kind.name, " ", "-"), c.named), kind: kind}
	j.renew(c)
	return j
}

// renew gives a job new settings.
func (j *soakJob) renew(c *soakConfig) {
	j.settings, j.args = map[string]string{}, map[string]string{}
	j.kind.random(c.rng, j)
	file := fmt.Sprintf("'%s/out/%%{job}.out'", c.dir)
	if out := pick(c.rng, "", "log", "on-failure", "discard", file); out != "" {
		j.settings["output"] = out
	}
	c.named++
	j.settings["env"] = fmt.Sprintf("{EDIT: '%d'}", c.named) // no two are the same
}

// line is the job in the config.
func (j soakJob) line(c soakConfig) string {
	args := []string{fmt.Sprintf("%q, %q", c.program, c.dir)}
	for _, name := range slices.Sorted(maps.Keys(j.args)) {
		arg := name
		if value := j.args[name]; value != "" {
			arg += "=" + value
		}
		args = append(args, fmt.Sprintf("%q", arg))
	}
	return fmt.Sprintf("  %s: {command: [%s], %s}\n", j.name, strings.Join(args, ", "), inline(j.settings))
}

func inline(settings map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		all = append(all, name+": "+settings[name])
	}
	return strings.Join(all, ", ")
}

// text is the config file.
func (c soakConfig) text() string {
	var text strings.Builder
	fmt.Fprintf(&text, "config: {auto_restart_interval: 24h, max_running: %d}\n%sjob: {%s}\njobs:\n",
		c.maxRunning, c.head, inline(c.defaults))
	for _, j := range c.jobs {
		text.WriteString(j.line(c))
	}
	return text.String()
}

func (c soakConfig) copy() soakConfig {
	c.defaults, c.jobs, c.removed = maps.Clone(c.defaults), slices.Clone(c.jobs), slices.Clone(c.removed)
	for i := range c.jobs {
		c.jobs[i].settings = maps.Clone(c.jobs[i].settings)
		c.jobs[i].args = maps.Clone(c.jobs[i].args)
	}
	return c
}

// edited returns another valid config.
func (c *soakConfig) edited() soakConfig {
	next := c.copy()
	for range c.rng.IntN(10) { // none is an edit too
		next.edit()
	}
	if c.rng.IntN(25) == 0 {
		next.defaults["grace"] = ms(between(c.rng, 1000, 4000)) // every job that has none of its own is changed
	}
	if c.rng.IntN(5) == 0 {
		next.maxRunning = pick(c.rng, maxRunning*7/10, maxRunning)
	}
	c.named = next.named
	return next
}

// edit changes one job.
func (c *soakConfig) edit() {
	at := attackedJobs/10 + c.rng.IntN(len(c.jobs)-attackedJobs/10) // not the steady ones
	j := &c.jobs[at]
	switch c.rng.IntN(10) {
	case 0: // replaces one by another
		other := c.job(j.kind)
		c.jobs = append(slices.Delete(c.jobs, at, at+1), other)
	case 1: // renames one
		c.named++
		j.name = fmt.Sprintf("%s-%d", strings.ReplaceAll(j.kind.name, " ", "-"), c.named)
	case 2: // adds one
		c.jobs = append(c.jobs, c.job(j.kind))
	case 3: // removes one, which may come back while its run is active
		if len(c.jobs) > attackedJobs*9/10 {
			c.removed = append(c.removed, *j)
			c.jobs = slices.Delete(c.jobs, at, at+1)
		}
	case 5: // adds one again
		if n := len(c.removed); n > 0 {
			back := c.removed[n-1]
			c.removed = c.removed[:n-1]
			if c.rng.IntN(2) == 0 {
				back.renew(c)
			}
			c.jobs = append(c.jobs, back)
		}
	case 4: // moves one, which changes nothing
		moved := *j
		c.jobs = append(slices.Delete(c.jobs, at, at+1), moved)
	default:
		j.renew(c)
	}
}

// broken returns the config with an error, and which error that is.
func (c soakConfig) broken() (text, what string) {
	last := len(c.jobs) - 1
	with := func(settings string) func() string {
		return func() string { return c.text() + "  broken: {" + settings + "}\n" }
	}
	valid := `command: ["true"], `
	errors := []struct {
		what string
		text func() string
	}{
		{"an unknown setting", with(valid + "intervall: 1s")},
		{"an invalid time", with(valid + "interval: soon")},
		{"service and once", with(valid + "service: yes, once: yes")},
		{"a missing command", with(`command: ["/nonexistent/command"]`)},
		{"a missing directory", with(valid + "chdir: /nonexistent")},
		{"a service with retries", with(valid + "service: yes, retries: 3")},
		{"allow back to back", with(valid + "overlap: allow, interval: 0")},
		{"a code in two lists", with(valid + "success_exit_codes: [0, 7], fatal_exit_codes: [7]")},
		{"a misspelled variable", with(valid + "output: '" + c.dir + "/%{jop}'")},
		{"an unknown user", with(valid + "user: no-such-user")},
		{"an output in a missing directory", with(valid + "output: /nonexistent/out")},
		{"two jobs of one name", func() string { return c.text() + c.jobs[last].line(c) }},
		{"an invalid name", func() string { return c.text() + "  a.b: {" + valid + "}\n" }},
		{"half a file", func() string { text := c.text(); return text[:len(text)-len(c.jobs[last].line(c))/2] }},
		{"an empty file", func() string { return "" }},
		{"a ttl that is too short", func() string { return strings.Replace(c.text(), "ttl: 6s", "ttl: 5s", 1) }},
		{"a log in a missing directory", func() string {
			return strings.Replace(c.text(), "log: {file: \"", "log: {file: \"/nonexistent", 1)
		}},
	}
	e := errors[c.rng.IntN(len(errors))]
	return e.text(), e.what
}

// reloaded is what a reload does to the jobs.
type reloaded struct {
	added, removed, changed []string
	unchanged               int
}

func (r reloaded) empty() bool { return len(r.added)+len(r.removed)+len(r.changed) == 0 }

// equal compares the names in any order.
func (r reloaded) equal(s reloaded) bool {
	same := func(a, b []string) bool {
		return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
	}
	return same(r.added, s.added) && same(r.removed, s.removed) && same(r.changed, s.changed) &&
		r.unchanged == s.unchanged
}

// difference returns what a reload from one config to the other does.
func difference(before, after soakConfig) (r reloaded) {
	effective := func(c soakConfig) map[string]string {
		all := map[string]string{}
		for _, j := range c.jobs {
			settings := maps.Clone(c.defaults)
			maps.Copy(settings, j.settings)
			j.settings = settings
			all[j.name] = j.line(c)
		}
		return all
	}
	was, is := effective(before), effective(after)
	for name, line := range is {
		switch old, found := was[name]; {
		case !found:
			r.added = append(r.added, name)
		case old != line:
			r.changed = append(r.changed, name)
		default:
			r.unchanged++
		}
	}
	for name := range was {
		if _, found := is[name]; !found {
			r.removed = append(r.removed, name)
		}
	}
	return r
}

// interval returns the interval of a job.
func (c soakConfig) interval(name string) time.Duration {
	i := slices.IndexFunc(c.jobs, func(j soakJob) bool { return j.name == name })
	d, err := time.ParseDuration(c.jobs[i].settings["interval"])
	if err != nil {
		panic(err)
	}
	return d
}
