package supervisor

import (
	"slices"
	"sync"
)

// Running limits how many runs of several jobs are active at the same time. Ticks that find no place
// wait for one, in the sequence in which they were due. Any goroutine may use it; no method blocks. A
// nil Running has no limit.
type Running struct {
	max int

	mu      sync.Mutex
	active  int
	waiting []*place // the first one is the next to start
}

// place is what one job has to do with a Running: its loop holds at most one tick at a time.
type place struct {
	running *Running
	opened  chan struct{} // closed when it is worth asking again; nil while the job does not wait
	taken   int           // by runs of the job
}

// NewRunning returns a Running for at most max runs; nil for 0, which is no limit.
func NewRunning(max int) *Running {
	if max == 0 {
		return nil
	}
	return &Running{max: max}
}

// ask returns nil if there is a place for a run that starts now; or it returns a channel that is closed when
// it is worth asking again.
func (p *place) ask() <-chan struct{} { return p.look(false) }

// take is ask, and takes the place.
func (p *place) take() <-chan struct{} { return p.look(true) }

func (p *place) look(take bool) <-chan struct{} {
	r := p.running
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch free := r.active < r.max && (len(r.waiting) == 0 || r.waiting[0] == p); {
	case free && take:
		r.active++
		p.taken++
		r.drop(p)
		return nil
	case free:
		return nil
	}
	if !slices.Contains(r.waiting, p) {
		r.waiting = append(r.waiting, p)
	}
	p.opened = make(chan struct{})
	return p.opened
}

// adopt takes places for the runs of the old process, whether there is room or not.
func (p *place) adopt(runs int) {
	if r := p.running; r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.active += runs
		p.taken += runs
	}
}

// leave gives back the place of a run that has ended.
func (p *place) leave() {
	if r := p.running; r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.active--
		p.taken--
		r.wakeFirst()
	}
}

// end ends the wait of a job that has failed, and gives back all its places: after a panic it may not
// have left them.
func (p *place) end() {
	if r := p.running; r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.active -= p.taken
		p.taken = 0
		r.drop(p)
		r.wakeFirst()
	}
}

// forget ends the wait of a job whose loop starts no more runs.
func (p *place) forget() {
	if r := p.running; r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.drop(p)
	}
}

// drop removes a job from those that wait.
func (r *Running) drop(p *place) {
	p.opened = nil
	if i := slices.Index(r.waiting, p); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
		r.wakeFirst()
	}
}

// wakeFirst makes the first job that waits ask again, if there is room.
func (r *Running) wakeFirst() {
	if r.active >= r.max || len(r.waiting) == 0 {
		return
	}
	if first := r.waiting[0]; first.opened != nil {
		close(first.opened)
		first.opened = nil
	}
}
