package preflight

import (
	"fmt"
	"slices"
	"time"

	"gophd/internal/config"
	"gophd/internal/history"
	"gophd/internal/job"
)

// How many of the last runs say how long a run takes.
const (
	fewestLengths = 20
	mostLengths   = 200
)

// lengthCaution returns a text if the history of a job says that more than one in a hundred of its runs takes
// longer than the job has for it; "" if not, or if the history is short or cannot be read.
func lengthCaution(c *config.Config, spec job.Spec, now time.Time) string {
	period := shortestPeriod(spec, now)
	if period == 0 || c.History.Size == 0 {
		return ""
	}
	runs, err := history.Read(history.Path(c.StateDir, c.FileName(spec)), history.Query{Last: mostLengths})
	if err != nil {
		return ""
	}
	var lengths []float64
	for _, r := range runs.Runs {
		if r.Duration != nil {
			lengths = append(lengths, *r.Duration)
		}
	}
	if len(lengths) < fewestLengths {
		return ""
	}
	slices.Sort(lengths)
	p99 := time.Duration(lengths[(99*len(lengths)+99)/100-1] * float64(time.Second))
	if p99 <= period*time.Duration(spec.MaxParallel) {
		return ""
	}
	return fmt.Sprintf("p99 of its last %d runs is %s, and it is due every %s, so that runs are late or missed: "+
		"make it due less often, or see job.overlap", len(lengths), p99.Round(time.Millisecond), period)
}

// shortestPeriod returns the shortest time between two due times of the near future; 0 for a job without ticks.
func shortestPeriod(spec job.Spec, now time.Time) (period time.Duration) {
	switch {
	case !spec.HasTicks():
		return 0
	case spec.Calendar == nil:
		return spec.Interval
	}
	last, ok := spec.Calendar.Next(now)
	for range fewestLengths {
		due, more := spec.Calendar.Next(last)
		if !ok || !more {
			break
		}
		if gap := due.Sub(last); period == 0 || gap < period {
			period = gap
		}
		last = due
	}
	return period
}
