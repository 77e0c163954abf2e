package config

import (
	"fmt"
	"os"
	"strings"
	"time"

	"gophd/internal/job"
	"gophd/internal/schedule"
	"gophd/internal/self"
)

// timing are the settings that each decide alone when a job runs.
var timing = []string{"job.interval", "job.service", "job.once", "job.schedule"}

// checkSchedule rejects what contradicts a schedule, and settings that have no effect without one.
func (l *loader) checkSchedule(j *jobSettings, get func(string) given, isSetHere func(string) bool) {
	s := get("job.schedule")
	if s.source == defaultSource {
		for _, name := range []string{"job.seconds", "job.year", "job.timezone", "job.between", "job.exclude", "job.catch_up", "job.catch_up_window",
			"job.start_deadline", "job.splay", "job.jitter"} {
			if isSetHere(name) {
				l.rejectKey(get(name), "there is no schedule; set job.schedule, or leave it out")
			}
		}
		return
	}
	if j.Seconds && j.Year {
		l.rejectKey(get("job.year"), "job.seconds is set too, and each of them allows a sixth field; leave one of them out")
	}
	switch {
	case j.CatchUp != job.CatchUpAll:
	case j.CatchUpWindow == 0:
		l.rejectKey(get("job.catch_up"), "there may be thousands; set job.catch_up_window")
	case j.Overlap != job.OverlapQueue:
		l.rejectKey(get("job.catch_up"), "each due time has its run, so job.overlap must be queue; leave one of them out")
	}
	for _, name := range timing {
		if g := get(name); name != "job.schedule" && g.source != defaultSource && g.value != false {
			l.rejectKey(s, name+" is set too, and each of them says when the job runs; leave one of them out")
		}
	}
}

// completeSchedule parses the schedule of a job: it depends on the zone, on seconds, and for ~ and the splay on
// the host and the name of the job.
func (l *loader) completeSchedule(j *jobSettings, get func(string) given) {
	g := get("job.schedule")
	if g.source == defaultSource {
		j.CatchUp, j.Splay, j.Jitter = "", 0, 0
		return
	}
	zone := get("job.timezone")
	location, err := Zone(j.Timezone)
	switch {
	case err != nil && j.Timezone != "":
		l.reject(zone.subject, visible(zone.text), err.Error())
		return
	case err != nil:
		l.reject(g.subject, visible(g.text), "the zone of TZ: "+err.Error()+"; or set job.timezone")
		return
	}
	host, err := os.Hostname()
	if err != nil {
		l.reject(g.subject, visible(g.text), "the host has no name: "+err.Error())
		return
	}
	seed := host + "/" + j.Name
	o := schedule.Options{Zone: location, Seconds: j.Seconds, Year: j.Year, Seed: seed}
	calendar, err := schedule.Parse(strings.Repeat(" ", g.indent)+g.text, o)
	if err != nil {
		l.reject(g.subject, visible(g.text), strings.Replace(err.Error(), "the option seconds", "job.seconds: true", 1))
		return
	}
	exclude, ok := l.exclusions(j.Exclude, get("job.exclude"), o)
	if !ok {
		return
	}
	between, err := schedule.ParseWindow(j.Between)
	if err == nil || j.Between == "" { // it was checked before
		calendar, err = calendar.Within(between, exclude)
	}
	if err != nil {
		l.reject(g.subject, visible(g.text), err.Error()+"; see job.between and job.exclude")
		return
	}
	j.Calendar, j.Interval = &calendar, 0
	j.Splay = schedule.Spread(seed, j.Splay)
	if get("job.run_at_start").source == defaultSource {
		j.RunAtStart = false
	}
}

// checkBetween accepts a window of the day.
func checkBetween(text string) error {
	_, err := schedule.ParseWindow(text)
	return err
}

// Zone returns the time zone with that name, or that of TZ and of the system for "". It rejects a TZ that
// gophd cannot load.
func Zone(name string) (*time.Location, error) {
	unknown := self.UnknownZone()
	switch {
	case name != "":
		return schedule.LoadZone(name)
	case unknown == "":
		return time.Local, nil
	}
	_, err := schedule.LoadZone(strings.TrimPrefix(unknown, ":"))
	if err == nil {
		err = fmt.Errorf("time zone %q cannot be loaded", unknown)
	}
	return nil, err
}
