package job_test

import (
	"testing"
	"time"

	"gophd/internal/job"
	"gophd/internal/schedule"
)

func TestHasTicks(t *testing.T) {
	on := func(text string) *schedule.Schedule {
		s, err := schedule.Parse(text, schedule.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return &s
	}
	for _, c := range []struct {
		s    job.Schedule
		want bool
	}{
		{job.Schedule{Interval: time.Second}, true},
		{job.Schedule{}, false},
		{job.Schedule{Interval: time.Second, Service: true}, false},
		{job.Schedule{Interval: time.Second, Once: true}, false},
		{job.Schedule{Calendar: on("17 3 * * *")}, true},
		{job.Schedule{Calendar: on("@every 90s")}, true},
		{job.Schedule{Calendar: on("@manual")}, false},
		{job.Schedule{Calendar: on("@reboot")}, false},
	} {
		if c.s.HasTicks() != c.want {
			t.Errorf("%s: %v", c.s.Cadence(), !c.want)
		}
	}
}
