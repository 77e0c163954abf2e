package supervisor

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/job"
)

// timed runs f beside a limit of a minute, and returns when the limit has ended the run.
func timed(t *testing.T, moved time.Duration, f func(*limit)) (after time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	began := time.Now()
	at := time.Time{}
	if moved > 0 {
		at = began.Add(moved)
	}
	l := newLimit(began.Add(time.Minute), at, false, cancel)
	f(l)
	<-ctx.Done()
	if context.Cause(ctx) != job.ErrTimeout {
		t.Errorf("ended because %v", context.Cause(ctx))
	}
	synctest.Wait()
	if more, tooLate := l.extend(time.Now().Add(time.Hour)); more != 0 || !tooLate {
		t.Errorf("after its end it got %s more, too late: %v", more, tooLate)
	}
	return time.Since(began)
}

func TestLimitMovesOnlyLater(t *testing.T) {
	type wish struct{ at, want, more time.Duration }
	for _, c := range []struct {
		name   string
		moved  time.Duration
		wishes []wish
		ends   time.Duration
	}{
		{"no wish", 0, nil, time.Minute},
		{"more", 0, []wish{{30 * time.Second, time.Minute, 30 * time.Second}}, 90 * time.Second},
		{"again and again", 0, []wish{{30 * time.Second, time.Minute, 30 * time.Second},
			{80 * time.Second, time.Minute, 50 * time.Second}}, 140 * time.Second},
		{"less", 0, []wish{{10 * time.Second, time.Second, 0}}, time.Minute},
		{"as it is", 0, []wish{{10 * time.Second, 50 * time.Second, 0}}, time.Minute},
		{"less than the last", 0, []wish{{0, time.Hour, 59 * time.Minute}, {time.Minute, 2 * time.Minute, 0}}, time.Hour},
		{"of an earlier image", 2 * time.Minute, nil, 2 * time.Minute},
		{"of an earlier image, and less than the config says now", time.Second, nil, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ends := timed(t, c.moved, func(l *limit) {
					began := time.Now()
					for _, w := range c.wishes {
						time.Sleep(time.Until(began.Add(w.at)))
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

// TestLimitHandsOverWhatTheRunMoved: and nothing else, so that a new config's timeout counts for a run that has not.
func TestLimitHandsOverWhatTheRunMoved(t *testing.T) {
	var none *limit
	none.stop()
	if moved, told := none.handOver(); moved != 0 || told != "" {
		t.Errorf("no limit hands over %v, %q", moved, told)
	}
	l := newLimit(time.Now().Add(time.Hour), time.Time{}, false, func(error) {})
	l.say("half")
	if moved, told := l.handOver(); moved != 0 || told != "half" {
		t.Errorf("a limit that was not moved hands over %v, %q", moved, told)
	}
	to := time.Now().Add(2 * time.Hour)
	l.stop() // a run that was left may seem ended to the old image, and is heard until its messages wait for the next
	l.extend(to)
	if moved, _ := l.handOver(); moved.Time().Sub(to).Abs() > time.Second {
		t.Errorf("moved to %s, handed over as %s", to, moved.Time())
	}
	if more, _ := l.extend(time.Now().Add(math.MaxInt64 / 2)); more <= 0 {
		t.Error("the greatest wish is none")
	}
}
