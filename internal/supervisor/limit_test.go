package supervisor

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
)

// timeToLimit runs f with a limit of a minute, and returns when the limit has stopped the run.
func timeToLimit(t *testing.T, moved time.Duration, f func(*limit)) (after time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	started := time.Now()
	at := time.Time{}
	if moved > 0 {
		at = started.Add(moved)
	}
	l := newLimit(started.Add(time.Minute), at, false, cancel)
	f(l)
	<-ctx.Done()
	if context.Cause(ctx) != job.ErrTimeout {
		t.Errorf("ended because %v", context.Cause(ctx))
	}
	synctest.Wait()
	if more, tooLate := l.extend(time.Now().Add(time.Hour)); more != 0 || !tooLate {
		t.Errorf("after its end it got %s more, too late: %v", more, tooLate)
	}
	return time.Since(started)
}

func TestLimitMovesOnlyLater(t *testing.T) {
	type extension struct{ at, want, more time.Duration }
	for _, c := range []struct {
		name       string
		moved      time.Duration
		extensions []extension
		ends       time.Duration
	}{
		{"no extension", 0, nil, time.Minute},
		{"more", 0, []extension{{30 * time.Second, time.Minute, 30 * time.Second}}, 90 * time.Second},
		{"again and again", 0, []extension{{30 * time.Second, time.Minute, 30 * time.Second},
			{80 * time.Second, time.Minute, 50 * time.Second}}, 140 * time.Second},
		{"less", 0, []extension{{10 * time.Second, time.Second, 0}}, time.Minute},
		{"as it is", 0, []extension{{10 * time.Second, 50 * time.Second, 0}}, time.Minute},
		{"less than the last", 0, []extension{{0, time.Hour, 59 * time.Minute},
			{time.Minute, 2 * time.Minute, 0}}, time.Hour},
		{"of the old process", 2 * time.Minute, nil, 2 * time.Minute},
		{"of the old process, and less than the config says now", time.Second, nil, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ends := timeToLimit(t, c.moved, func(l *limit) {
					started := time.Now()
					for _, w := range c.extensions {
						time.Sleep(time.Until(started.Add(w.at)))
						if more, tooLate := l.extend(time.Now().Add(w.want)); more != w.more || tooLate {
							t.Errorf("at %s it got %s more, want %s; too late: %v", w.at, more, w.more, tooLate)
						}
					}
				})
				if ends != c.ends {
					t.Errorf("ended after %s, want %s", ends, c.ends)
				}
			})
		})
	}
}

// A new config's timeout applies to a run that has not moved its limit.
func TestLimitHandsOffOnlyWhatTheRunMoved(t *testing.T) {
	var none *limit
	none.stop()
	if moved, status := none.handOff(); moved != 0 || status != "" {
		t.Errorf("no limit hands off %v, %q", moved, status)
	}
	l := newLimit(time.Now().Add(time.Hour), time.Time{}, false, func(error) {})
	l.setStatus("half")
	if moved, status := l.handOff(); moved != 0 || status != "half" {
		t.Errorf("a limit that was not moved hands off %v, %q", moved, status)
	}
	to := time.Now().Add(2 * time.Hour)
	// A run that was handed off may seem ended to the old process. Its messages count until they
	// wait for the next process.
	l.stop()
	l.extend(to)
	if moved, _ := l.handOff(); moved.Time().Sub(to).Abs() > time.Second {
		t.Errorf("moved to %s, handed off as %s", to, moved.Time())
	}
	if more, _ := l.extend(time.Now().Add(math.MaxInt64 / 2)); more <= 0 {
		t.Error("the greatest extension is rejected")
	}
}
