package heartbeat

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The simulation runs the engine as it is, three instances of it, in a bubble of virtual time against a
// model of a memcached, and breaks everything that can break. A command of the simulation is started
// and stopped by the lease only. Not modelled: a suspended machine (TestSuspend is), Options.Continue.

var (
	flagSeeds = flag.Int("seeds", 0, "how many seeds each simulation runs; 0 is the usual number")
	flagSeed  = flag.Uint64("seed", 0, "run the simulation of this seed only")

	flagMutant = flag.String("mutant", "", "which of mutants this program is")
)

const (
	simTTL     = 6 * time.Second
	simRenew   = 1200 * time.Millisecond
	simGrace   = time.Second
	simTimeout = 500 * time.Millisecond
	simFaults  = 200 * time.Second // then all is healed but all instances but one
	simKey     = "job_process_heartbeat"
)

// server is a memcached: a clock of whole seconds that a drifting timer sets, compare-and-swap ids, and
// a memory that can be lost.
type server struct {
	w       *world
	rng     *rand.Rand
	items   map[string]item
	cas     uint64
	clock   int64
	phase   time.Duration
	drift   time.Duration // of the timer, each tick (seen: 0.8 ms; more makes the clock jump more often)
	tick    time.Duration // the next setting of the clock
	paused  chan struct{} // closed at the end of the pause; nil: not paused
	pausing time.Duration // since when
	down    bool
	life    int // counts restarts: what was under way then is lost
}

type item struct {
	value  []byte
	id     string // of the record, for key L
	cas    uint64
	expiry int64 // 0: never
}

// now sets the clock as its timer would have.
func (s *server) now() int64 {
	t := s.w.now()
	if s.paused != nil {
		t = s.pausing
	}
	for ; s.tick <= t; s.tick += time.Second + s.drift {
		s.clock = int64((s.tick + s.phase) / time.Second)
	}
	return s.clock
}

func (s *server) find(key string) (item, bool) {
	it, ok := s.items[key]
	if ok && it.expiry != 0 && it.expiry <= s.now() {
		delete(s.items, key)
		return item{}, false
	}
	return it, ok
}

func (s *server) set(key string, value []byte, ttl time.Duration) {
	s.cas++
	it := item{value: value, cas: s.cas}
	if key == simKey {
		it.id = ParseRecord(value).ID
	}
	if ttl > 0 {
		it.expiry = s.now() + int64(ttl/time.Second)
	}
	s.items[key] = it
}

func (s *server) pause() {
	s.now()
	s.paused, s.pausing = make(chan struct{}), s.w.now()
}

// resume leaves the clock where it was for up to the stale window.
func (s *server) resume() {
	if s.paused == nil {
		return
	}
	close(s.paused)
	s.paused = nil
	if t := s.w.now(); s.tick < t {
		s.tick = t + between(s.rng, 0, settle)
	}
}

// rules are what a simulation is about.
type rules struct {
	kinds                  []fault
	margin                 time.Duration // what Traits claims; the model needs two seconds
	blindSwap, blindExpire bool          // the store does not compare
	steady                 *timing       // a command that runs for as long as it may, with other settings; nil: the usual
}

// timing is the settings of a lease.
type timing struct{ ttl, renew, grace time.Duration }

func (r rules) timing() timing {
	if r.steady != nil {
		return *r.steady
	}
	return timing{simTTL, simRenew, simGrace}
}

// world is everything, under one lock: goroutines of a bubble do run in parallel.
type world struct {
	rules
	mu        sync.Mutex
	start     time.Time
	server    server
	lossy     bool // replies get lost, requests come late
	commands  map[*command]bool
	lastFence uint64
	lastID    string
	violation string
	over      chan struct{}
	started   int           // commands
	idle      time.Duration // for how long no command ran, up to the last start
	idleSince time.Duration
	slots     [3]*process
	gone      map[string]bool // ids of instances that have ended, and their commands too
	all       sync.WaitGroup
}

func (w *world) now() time.Duration { return time.Since(w.start) }

func (w *world) violate(format string, args ...any) {
	if w.violation == "" {
		w.violation = fmt.Sprintf("%v: ", w.now()) + fmt.Sprintf(format, args...)
		close(w.over)
	}
}

// sleep returns false when the simulation is over.
func (w *world) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.over:
		return false
	}
}

// between rolls a time. Each goroutine has its own dice, so that a seed is the same story each time (but
// for what happens in the same nanosecond).
func between(rng *rand.Rand, lo, hi time.Duration) time.Duration {
	return lo + time.Duration(rng.Int64N(int64(hi-lo)))
}

func dice(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// process is one life of one instance, and its client of the server.
type process struct {
	w              *world
	slot           int
	rng            *rand.Rand // of the supervisor
	seed, calls    uint64
	rate           float64
	cut            bool          // from the network
	frozen         chan struct{} // closed at the thaw
	crashed        atomic.Bool
	crash          chan struct{} // closed: dies at once
	stop           chan struct{} // closed: ends in order
	once, onceStop sync.Once
	stopping       bool
	state          State // as last seen by the supervisor
	h              *Heartbeat
	knows          bool // the last answer about key L was that it is ours
	id             string
	cancel         context.CancelFunc
	dead           chan struct{} // closed when it has ended
	pass           chan struct{} // asks for a hand-over
	command        *command
}

type command struct {
	p        *process
	excused  bool // it was frozen
	dies     time.Duration
	stopping bool
}

// live blocks while the process is frozen.
func (p *process) live() {
	for {
		p.w.mu.Lock()
		c := p.frozen
		p.w.mu.Unlock()
		if c == nil {
			return
		}
		<-c
	}
}

func (p *process) boot() time.Duration {
	p.live()
	return p.bootAt(p.w.now())
}

func (p *process) bootAt(t time.Duration) time.Duration {
	return time.Hour + time.Duration(p.rate*float64(t))
}

// ring is the Alarm of the simulation.
type ring struct {
	c    chan struct{}
	t    *time.Timer
	rate float64
}

func (r *ring) C() <-chan struct{} { return r.c }

func (r *ring) Set(d time.Duration) {
	if r.t != nil {
		r.t.Stop()
	}
	r.t = time.AfterFunc(time.Duration(float64(d)/r.rate)+1, func() {
		select {
		case r.c <- struct{}{}:
		default:
		}
	})
}

var errSim = errors.New("i/o timeout")

// call carries one operation to the server, or not, and back, or not.
func (p *process) call(f func() error) error {
	w := p.w
	p.live()
	w.mu.Lock()
	p.calls++
	rng := dice(p.seed, p.calls)
	there, back := between(rng, 100*time.Microsecond, 3*time.Millisecond), between(rng, 100*time.Microsecond, 3*time.Millisecond)
	slow, lost := p.cut, p.cut
	drop := p.cut && rng.IntN(3) == 0
	if p.cut || w.lossy && rng.IntN(4) == 0 {
		slow = true
		lost = lost || rng.IntN(2) == 0
		there = between(rng, 0, 4*time.Second)
		if rng.IntN(3) == 0 {
			there = between(rng, 0, 5*time.Millisecond)
		}
	}
	life := w.server.life
	w.mu.Unlock()
	if p.crashed.Load() {
		return errSim
	}
	if !slow {
		time.Sleep(there)
		w.mu.Lock()
		if w.server.paused == nil {
			defer time.Sleep(back) // after the unlock
			defer w.mu.Unlock()
			return w.execute(life, f)
		}
		w.mu.Unlock()
		there = 0
	}
	answer := make(chan error, 1)
	w.all.Go(func() {
		time.Sleep(there)
		if drop {
			return
		}
		for {
			w.mu.Lock()
			paused := w.server.paused
			if paused == nil {
				break
			}
			w.mu.Unlock()
			<-paused
			time.Sleep(between(rng, 0, settle/2)) // its turn in the queue
		}
		defer w.mu.Unlock()
		if err := w.execute(life, f); !lost {
			answer <- err
		}
	})
	t := time.NewTimer(simTimeout)
	defer t.Stop()
	select {
	case err := <-answer:
		p.live()
		return err
	case <-t.C:
		p.live()
		return errSim
	}
}

func (w *world) execute(life int, f func() error) error {
	if w.server.down || w.server.life != life {
		return errSim
	}
	return f()
}

var _ Store = (*process)(nil)

func (p *process) Traits() Traits {
	return Traits{Margin: p.w.margin, MinTTL: 5 * time.Second, Granularity: time.Second}
}

func (p *process) Close() error { return nil }

func (p *process) Get(_ context.Context, key string) (Entry, error) {
	found := make(chan item, 1)
	err := p.call(func() error {
		it, ok := p.w.server.find(key)
		if !ok {
			return ErrAbsent
		}
		found <- it
		return nil
	})
	if err != nil {
		p.learn(key, err, false)
		return Entry{}, err
	}
	it := <-found
	p.learn(key, nil, key == simKey && it.id == p.id)
	return Entry{it.value, it.cas}, nil
}

func (p *process) Add(_ context.Context, key string, value []byte, ttl time.Duration) error {
	p.admit(key, value)
	err := p.call(func() error {
		s := &p.w.server
		if _, ok := s.find(key); ok {
			return ErrExists
		}
		s.set(key, value, ttl)
		return nil
	})
	p.learn(key, err, true)
	return err
}

func (p *process) Swap(_ context.Context, key string, old Entry, value []byte, ttl time.Duration) error {
	p.admit(key, value)
	return p.replace(key, old, p.w.blindSwap, func(s *server) { s.set(key, value, ttl) })
}

func (p *process) Expire(_ context.Context, key string, old Entry) error {
	return p.replace(key, old, p.w.blindExpire, func(s *server) { delete(s.items, key) })
}

func (p *process) replace(key string, old Entry, blind bool, f func(*server)) error {
	err := p.call(func() error {
		s := &p.w.server
		it, ok := s.find(key)
		switch {
		case blind && key == simKey:
		case !ok:
			return ErrAbsent
		case it.cas != old.Token.(uint64):
			return ErrChanged
		}
		if key == simKey && ok && it.id != p.id && !p.w.gone[it.id] {
			p.w.violate("%s writes over %s", p.id, it.id)
		}
		f(s)
		return nil
	})
	p.learn(key, err, true)
	return err
}

// admit refuses writes of key S by one who cannot believe that L is its own; but for the word that all
// has ended, which may come after the key is lost.
func (p *process) admit(key string, value []byte) {
	if key == simKey {
		return
	}
	if m, ok := parseMemory(value); !ok || !m.Clean {
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		if !p.knows {
			p.w.violate("%s writes the state key without the key", p.id)
		}
	}
}

// learn notes what the process may believe about key L.
func (p *process) learn(key string, err error, owned bool) {
	if key == simKey {
		p.w.mu.Lock()
		p.knows = err == nil && owned || p.knows && err != nil && !refused(err)
		p.w.mu.Unlock()
	}
}

// run is the life of one process, through all its images. It stands in for the supervisor.
func (p *process) run(ctx context.Context, wait, local bool) {
	w := p.w
	defer close(p.dead)
	var adopt *Handover
	jitter := dice(p.seed, 1<<63)
	for {
		h, err := New(Options{
			Key: simKey, Self: Record{PID: 1, Host: fmt.Sprint(p.slot), Boot: "b"},
			TTL: w.timing().ttl, Renew: w.timing().renew, StopGrace: w.timing().grace, Timeout: simTimeout,
			Wait: wait, AcquireTimeout: 5 * time.Second,
			Boot: p.boot, Alarm: &ring{c: make(chan struct{}, 1), rate: p.rate},
			Jitter: func() float64 { return 2*jitter.Float64() - 1 },
			Dead: func(r Record) bool {
				w.mu.Lock()
				defer w.mu.Unlock()
				return local && r.Host == fmt.Sprint(p.slot) && w.gone[r.ID]
			},
			Adopt: adopt,
		}, p)
		if err != nil {
			panic(err)
		}
		w.mu.Lock()
		l, _ := h.Watch()
		p.id, p.h = l.ID, h
		w.mu.Unlock()
		ended := make(chan struct{})
		w.all.Go(func() { defer close(ended); _ = h.Run(ctx) })
		if adopt = p.supervise(h, ended); adopt == nil {
			break
		}
		w.sleep(between(p.rng, 0, 200*time.Millisecond)) // the exec
	}
	w.mu.Lock()
	p.end(Lease{Deadline: 1 << 62})
	w.gone[p.id] = true
	w.mu.Unlock()
}

// supervise obeys the lease until Run has ended, or the process is told to end, or handed over.
func (p *process) supervise(h *Heartbeat, ended <-chan struct{}) *Handover {
	w := p.w
	var handed chan *Handover
	stop := p.stop
	tick := w.now()
	for {
		p.live()
		l, changed := h.Watch()
		wake := p.obey(h, l, &tick)
		select {
		case <-changed:
		case <-time.After(wake):
		case <-w.over:
			p.cancel()
			<-ended
			return nil
		case <-p.crash:
			w.mu.Lock()
			p.crashed.Store(true)
			p.end(Lease{Deadline: 1 << 62})
			w.gone[p.id] = true
			w.mu.Unlock()
			p.cancel()
			<-ended
			return nil
		case <-stop: // in order: first the command, then the lease
			stop, tick, p.stopping = nil, 1<<62, true
		case <-p.pass:
			if handed == nil && stop != nil {
				handed = make(chan *Handover, 1)
				c := handed
				w.all.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
					defer cancel()
					if a, err := h.HandOver(ctx); err == nil {
						c <- &a
					} else {
						c <- nil
					}
				})
			}
		case a := <-handed:
			if handed = nil; a != nil {
				<-ended
				return a
			}
		case <-ended:
			if handed != nil {
				if a := <-handed; a != nil {
					return a
				}
			}
			l, _ := h.Watch()
			w.mu.Lock()
			p.end(l)
			w.mu.Unlock()
			return nil
		}
		if stop == nil && p.idle() && handed == nil {
			p.cancel()
		}
	}
}

func (p *process) idle() bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.command == nil
}

// obey does what the lease allows and demands. It returns when to look again.
func (p *process) obey(h *Heartbeat, l Lease, tick *time.Duration) time.Duration {
	w := p.w
	start := false
	now := w.now()
	if p.state != Held && l.State == Held && !p.stopping {
		*tick = min(*tick, now) // a tick was missed
	}
	if p.state = l.State; now >= *tick {
		*tick = now + between(p.rng, 300*time.Millisecond, 2*time.Second)
		if w.steady != nil {
			*tick = now + 50*time.Millisecond
		}
		start = h.MayStart()
		l, _ = h.Watch()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now = w.now()
	c := p.command
	switch l.State {
	case Held, Doubtful:
		if start && c == nil {
			p.start(l)
		}
	case Ending:
		if c != nil && !c.stopping {
			c.stopping = true
			left := time.Duration(float64(l.Deadline-p.bootAt(now)) / p.rate)
			if p.rng.IntN(2) == 0 {
				left = between(p.rng, 0, max(left, 1))
			}
			c.dies = min(c.dies, now+left)
		}
	default:
		p.end(l)
	}
	if c = p.command; c != nil && now >= c.dies {
		p.end(l)
	}
	wake := max(*tick-now, time.Millisecond)
	if p.stopping && w.steady != nil {
		wake = 10 * time.Millisecond
	}
	if c = p.command; c != nil {
		wake = min(wake, c.dies-now)
	}
	return min(wake, time.Minute)
}

func (p *process) start(l Lease) {
	w := p.w
	if b := p.bootAt(w.now()); b > l.Deadline {
		w.violate("%s starts a command %v past its deadline", p.id, b-l.Deadline)
	}
	for c := range w.commands {
		if !c.excused {
			w.violate("%s (slot %d, fence %d) starts beside %s (slot %d)", p.id, p.slot, l.Fence, c.p.id, c.p.slot)
		}
	}
	switch {
	case l.Fence > w.lastFence:
	case l.Fence == w.lastFence && p.id == w.lastID:
	default:
		w.violate("%s starts with fence %d after fence %d", p.id, l.Fence, w.lastFence)
	}
	w.lastFence, w.lastID = l.Fence, p.id
	w.started++
	p.command = &command{p: p, dies: w.now() + between(p.rng, 100*time.Millisecond, 60*time.Second)}
	if w.steady != nil {
		p.command.dies = w.now() + time.Hour
	}
	w.commands[p.command] = true
	w.idle += w.now() - w.idleSince
}

// end has the command dead, now.
func (p *process) end(l Lease) {
	c := p.command
	if c == nil {
		return
	}
	// A nanosecond of the alarm and the rate of the clock make up to a microsecond.
	if b := p.bootAt(p.w.now()); !c.excused && b > l.Deadline+time.Microsecond {
		p.w.violate("%s in state %v had a command alive %v past its deadline", p.id, l.State, b-l.Deadline)
	}
	delete(p.w.commands, c)
	p.command = nil
	p.w.idleSince = p.w.now()
}

// spawn starts a process in the slot.
func (w *world) spawn(slot int, wait bool, seed uint64) *process {
	rng := dice(seed, 0)
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{
		w: w, slot: slot, rng: rng, seed: seed, rate: 1 + (rng.Float64()-0.5)/125, cancel: cancel,
		dead: make(chan struct{}), pass: make(chan struct{}, 1), crash: make(chan struct{}), stop: make(chan struct{}),
	}
	local := rng.IntN(2) == 0
	w.mu.Lock()
	w.slots[slot] = p
	w.mu.Unlock()
	w.all.Go(func() { p.run(ctx, wait, local) })
	return p
}

// fault is one way to break the world; it runs in a goroutine of its own and mends what it broke.
type fault func(w *world, p *process, rng *rand.Rand)

func crash(_ *world, p *process, _ *rand.Rand) { p.once.Do(func() { close(p.crash) }) }
func stop(_ *world, p *process, _ *rand.Rand)  { p.onceStop.Do(func() { close(p.stop) }) }

func handOver(_ *world, p *process, _ *rand.Rand) {
	select {
	case p.pass <- struct{}{}:
	default:
	}
}

func freeze(w *world, p *process, rng *rand.Rand) {
	w.mu.Lock()
	if p.frozen != nil {
		w.mu.Unlock()
		return
	}
	c := make(chan struct{})
	p.frozen = c
	if p.command != nil {
		p.command.excused = true
	}
	d := between(rng, 500*time.Millisecond, 14*time.Second)
	w.mu.Unlock()
	w.sleep(d)
	w.mu.Lock()
	defer w.mu.Unlock()
	p.frozen = nil
	close(c)
}

func cut(w *world, p *process, rng *rand.Rand) {
	w.mu.Lock()
	p.cut = true
	d := between(rng, 500*time.Millisecond, 12*time.Second)
	w.mu.Unlock()
	w.sleep(d)
	w.mu.Lock()
	defer w.mu.Unlock()
	p.cut = false
}

func lossy(w *world, _ *process, rng *rand.Rand) {
	w.mu.Lock()
	w.lossy = true
	d := between(rng, time.Second, 8*time.Second)
	w.mu.Unlock()
	w.sleep(d)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lossy = false
}

func pause(w *world, _ *process, rng *rand.Rand) {
	w.mu.Lock()
	if w.server.paused != nil {
		w.mu.Unlock()
		return
	}
	w.server.pause()
	d := between(rng, 300*time.Millisecond, 6*time.Second)
	w.mu.Unlock()
	w.sleep(d)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server.resume()
}

func restart(w *world, _ *process, rng *rand.Rand) {
	w.mu.Lock()
	s := &w.server
	s.resume()
	s.life++
	clear(s.items)
	s.down = true
	d := between(rng, 10*time.Millisecond, 4*time.Second)
	w.mu.Unlock()
	w.sleep(d)
	w.mu.Lock()
	defer w.mu.Unlock()
	s.down = false
}

func evict(w *world, _ *process, rng *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := rng.IntN(4); n != 0 {
		delete(w.server.items, simKey)
		if n == 1 {
			delete(w.server.items, simKey+".state")
		}
	} else {
		delete(w.server.items, simKey+".state")
	}
}

// The faults that hurt most come in pairs, as when a switch fails over.

func pauseAndCut(w *world, p *process, rng *rand.Rand) {
	pause(w, p, rng)
	cut(w, p, rng)
}

func evictAndCut(w *world, p *process, rng *rand.Rand) {
	evict(w, p, rng)
	cut(w, p, rng)
}

var (
	mildFaults = []fault{crash, stop, handOver, cut, lossy, pause, pauseAndCut}
	allFaults  = append([]fault{freeze, restart, evict, evictAndCut}, mildFaults...)
)

// simulate runs one seed and returns what was violated, or "".
func simulate(t *testing.T, seed uint64, rules rules) (violation string, started int) {
	synctest.Test(t, func(*testing.T) {
		rng := dice(seed, 0)
		w := &world{
			rules: rules, start: time.Now(), commands: map[*command]bool{}, over: make(chan struct{}),
			gone: map[string]bool{},
		}
		w.server = server{
			w: w, rng: dice(seed, 1), items: map[string]item{}, phase: between(rng, time.Hour, time.Hour+time.Second),
			drift: between(rng, 800*time.Microsecond, 10*time.Millisecond),
		}
		for slot := range w.slots {
			w.all.Go(func() { w.inhabit(slot, dice(seed, uint64(2+slot))) })
		}
		for w.now() < simFaults {
			w.mu.Lock()
			d := between(rng, 0, 8*time.Second)
			f := w.kinds[rng.IntN(len(w.kinds))]
			p := w.slots[rng.IntN(len(w.slots))]
			for _, o := range w.slots {
				if o != nil && o.command != nil && rng.IntN(2) == 0 {
					p = o // it hurts most there
				}
			}
			w.mu.Unlock()
			if p != nil {
				seed := rng.Uint64()
				w.all.Go(func() { f(w, p, dice(seed, 0)) })
			}
			if !w.sleep(d) {
				break
			}
		}
		w.settle(rng)
		w.mu.Lock()
		violation, started = w.violation, w.started
		if violation == "" {
			close(w.over)
		}
		w.mu.Unlock()
		w.all.Wait()
	})
	return violation, started
}

// inhabit keeps processes living in the slot, until the faults end.
func (w *world) inhabit(slot int, rng *rand.Rand) {
	for w.now() < simFaults-15*time.Second {
		gap := between(rng, 0, 6*time.Second)
		p := w.spawn(slot, rng.IntN(3) > 0, rng.Uint64())
		<-p.dead
		if !w.sleep(gap) {
			return
		}
	}
}

// settle lets all faults end, has all processes crash, and demands that one new instance gets the lease
// and keeps it.
func (w *world) settle(rng *rand.Rand) {
	if !w.sleep(15 * time.Second) {
		return
	}
	w.mu.Lock()
	all := w.slots
	w.mu.Unlock()
	for _, p := range all {
		crash(w, p, rng)
	}
	for _, p := range all {
		<-p.dead
	}
	p := w.spawn(0, true, rng.Uint64())
	v := simTTL - w.margin - simTTL/100 - allowance
	for _, d := range []time.Duration{simTTL + v + 3*time.Second, 5 * time.Second, 5 * time.Second} {
		if !w.sleep(d) {
			return
		}
		w.mu.Lock()
		if l, _ := p.h.Watch(); l.State != Held {
			w.violate("a lone healthy instance is %v (%v)", l.State, l.Err)
		}
		w.mu.Unlock()
	}
}

// seeds runs f for each seed until it returns false.
func seeds(usual int, f func(seed uint64) bool) {
	if *flagSeed != 0 {
		f(*flagSeed)
		return
	}
	n := usual
	if *flagSeeds > 0 {
		n = *flagSeeds
	}
	for seed := range n {
		if !f(uint64(seed + 1)) {
			return
		}
	}
}

// simulations are what TestSimulation runs. The engine of a case may be one in which mutants has broken a rule.
var simulations = []struct {
	name                   string
	mutant                 string // of the engine; "" is as it is
	kinds                  []fault
	margin                 time.Duration
	blindSwap, blindExpire bool // of the store
	broken                 bool // some seed must violate an invariant; else none
}{
	{"all faults", "", allFaults, 2 * time.Second, false, false, false},
	// Either of the two layers must do alone what it can: the proof, and the deadline with its margin.
	{"all faults, no margin", "", allFaults, 0, false, false, false},
	{"mild faults, no proof", "no proof", mildFaults, 2 * time.Second, false, false, false},

	// Without the proof the rules behind it must hold alone, against faults that do not make the server forget.
	{"no proof, no margin", "no proof", mildFaults, 0, false, false, true},
	{"no proof, margin of one second", "no proof", mildFaults, time.Second, false, false, true},
	{"renewal over any value", "no proof", mildFaults, 2 * time.Second, true, false, true},
	{"release of any value", "no proof", mildFaults, 2 * time.Second, false, true, true},
	{"no proof", "no proof", allFaults, 2 * time.Second, false, false, true},
	{"own value trusted without a renewal", "no proof, trusted", mildFaults, 2 * time.Second, false, false, true},
	{"deadline from the last operation", "no proof, last operation", mildFaults, 2 * time.Second, false, false, true},
	{"proof only where the server forgot", "proof where absent", allFaults, 2 * time.Second, false, false, true},
	{"half the wait", "half the wait", allFaults, 2 * time.Second, false, false, true},
}

// TestSimulation demands that no seed violates an invariant, and that the lease is worth having; and of an engine or a
// store that is broken that some seed shows it.
func TestSimulation(t *testing.T) {
	for _, c := range simulations {
		if c.mutant != *flagMutant {
			continue // TestMutants builds the program for it
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			usual, tried, total, found := 60, 0, 0, ""
			if c.broken {
				usual = 3000
			}
			seeds(usual, func(seed uint64) bool {
				tried++
				v, started := simulate(t, seed, rules{kinds: c.kinds, margin: c.margin, blindSwap: c.blindSwap, blindExpire: c.blindExpire})
				if total += started; v != "" {
					found = fmt.Sprintf("seed %d: %s", seed, v)
				}
				return v == ""
			})
			t.Logf("%d seeds, %d commands were started", tried, total)
			switch {
			case c.broken && found == "":
				t.Error("no seed noticed it")
			case c.broken:
				t.Log(found)
			case found != "":
				t.Error(found)
			case *flagSeed == 0 && total < 5*tried:
				t.Error("the lease was hardly ever held")
			}
		})
	}
}
