package timer_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gophd/internal/timer"
)

// timerfds returns how long each timerfd of this process has until it expires; 0 if it is not set
// (proc_pid_fdinfo(5)).
func timerfds(t *testing.T) (left []time.Duration) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range all {
		text, err := os.ReadFile(info)
		if err != nil {
			continue // that of the directory
		}
		for line := range strings.Lines(string(text)) {
			var seconds, nanos int64
			if n, _ := fmt.Sscanf(line, "it_value: (%d, %d)", &seconds, &nanos); n == 2 {
				left = append(left, time.Duration(seconds)*time.Second+time.Duration(nanos))
			}
		}
	}
	return left
}

// The kernel wakes the queue for the first of its timers, and not at all if none is set.
func TestOneTimerfdIsSetForTheFirstTimer(t *testing.T) {
	q := newQueue(t, timer.Monotonic)
	a, b, c := newTimer(q), newTimer(q), newTimer(q)
	for i, step := range []struct {
		do    func()
		hours int // until the timerfd expires
	}{
		{func() {}, 0},
		{func() { a.Set(20 * time.Hour) }, 20},
		{func() { b.Set(10 * time.Hour) }, 10},
		{func() { c.Set(15 * time.Hour) }, 10},
		{func() { c.Set(30 * time.Hour) }, 10},
		{func() { b.Set(25 * time.Hour) }, 20},
		{func() { c.Stop() }, 20},
		{func() { a.Stop() }, 25},
		{func() {
			a.Set(time.Microsecond)
			<-a.expired
			for timerfds(t)[0] == 0 { // until the queue has set it again
			}
		}, 25},
		{func() { b.Stop() }, 0},
	} {
		step.do()
		left := timerfds(t)
		if len(left) != 1 || left[0].Round(time.Hour) != time.Duration(step.hours)*time.Hour {
			t.Errorf("after step %d the timerfds expire in %v, want one in %d hours", i, left, step.hours)
		}
	}
}
