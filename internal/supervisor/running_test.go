package supervisor

import "testing"

// opened reports whether a channel of take is closed.
func opened(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A job in which gophd has panicked holds up no other: neither with the places of its runs, nor as the
// first that waits.
func TestFailedJobGivesItsPlacesBack(t *testing.T) {
	r := NewRunning(2)
	a, b, c := place{running: r}, place{running: r}, place{running: r}
	a.adopt(2)
	b.take()
	waiting := c.take()
	b.end()
	a.end()
	if !opened(waiting) || c.take() != nil || c.take() != nil || c.take() == nil {
		t.Error("there are not two places for the job that is left")
	}
}

// Jobs that find no place start in the sequence in which they asked.
func TestPlacesGoToTheFirstThatWaits(t *testing.T) {
	r := NewRunning(2)
	a, b, c, d := place{running: r}, place{running: r}, place{running: r}, place{running: r}
	if a.take() != nil || b.take() != nil {
		t.Fatal("there is no place for two runs")
	}
	third, fourth := c.take(), d.take()
	if third == nil || fourth == nil {
		t.Fatal("there is a place for more than two runs")
	}
	a.leave()
	if !opened(third) || opened(fourth) {
		t.Error("the first job that waits is not the one that is told")
	}
	if d.take() == nil {
		t.Error("a job that came later has the place")
	}
	if a.take() == nil {
		t.Error("a job that does not wait has the place of one that does")
	}
	if c.take() != nil {
		t.Error("the first job that waits has no place")
	}
	again := d.take()
	b.leave()
	if !opened(again) || d.take() != nil {
		t.Error("the second job that waits has no place")
	}
}

// A job that ends while it waits does not keep the others from starting.
func TestForgottenJobKeepsNoPlace(t *testing.T) {
	r := NewRunning(1)
	a, b, c := place{running: r}, place{running: r}, place{running: r}
	a.adopt(2)
	second, third := b.take(), c.take()
	a.leave()
	if opened(second) || opened(third) {
		t.Error("there is a place although an adopted run is active")
	}
	a.leave()
	b.forget()
	b.forget()
	if !opened(third) || c.take() != nil {
		t.Error("the next job has no place")
	}
	c.leave()
	if r.active != 0 || len(r.waiting) != 0 {
		t.Errorf("%d active, %d waiting", r.active, len(r.waiting))
	}
}

func TestNoLimit(t *testing.T) {
	p := place{running: NewRunning(0)}
	for range 3 {
		if p.take() != nil {
			t.Fatal("there is a limit")
		}
	}
	p.leave()
	p.adopt(1)
	p.forget()
}
