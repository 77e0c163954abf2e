package heartbeat

import (
	"context"
	"encoding/json"
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

// The simulation runs three instances of the unchanged engine in a bubble of virtual time against a
// model of memcached, and injects every fault of the model. Only the lease decides when a command
// of the simulation starts and stops. Not modeled: a suspended machine (see
// TestSuspendBlocksStartsUntilRenewal), Options.Continue.

var (
	flagSeeds = flag.Int("seeds", 0, "number of seeds of each simulation; 0 is the usual number")
	flagSeed  = flag.Uint64("seed", 0, "run the simulation of this seed only")

	flagMutant = flag.String("mutant", "", "name of the mutant that this program was built from")
)

const (
	simTTL     = 6 * time.Second
	simRenew   = 1200 * time.Millisecond
	simGrace   = time.Second
	simTimeout = 500 * time.Millisecond
	simFaults  = 200 * time.Second // after that, all faults end, and one instance is left
	simKey     = "job_process_heartbeat"
)

// server is a model of memcached: it has a clock of whole seconds, set by a drifting timer;
// compare-and-swap ids; and a memory that can be lost.
type server struct {
	sim     *simulation
	rng     *rand.Rand
	items   map[string]item
	cas     uint64
	clock   int64
	phase   time.Duration
	drift   time.Duration // of the timer per tick (seen: 0.8 ms; more makes more jumps)
	tick    time.Duration // the next setting of the clock
	paused  chan struct{} // closed at the end of the pause; nil: not paused
	pausing time.Duration // since when
	down    bool
	life    int // counts restarts: operations in progress are lost then
}

type item struct {
	value  []byte
	id     string // of the record, for key L
	cas    uint64
	expiry int64 // 0: never
}

// now sets the clock as the timer would, and returns it.
func (s *server) now() int64 {
	t := s.sim.now()
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
	} else if before, now := keptIn(s.items[key].value), keptIn(value); now < before {
		s.sim.violate("key S keeps due time %d, and before it was %d", now, before)
	}
	if ttl > 0 {
		it.expiry = s.now() + int64(ttl/time.Second)
	}
	s.items[key] = it
}

// keptIn returns the due time that a value of key S keeps; 0 for none.
func keptIn(value []byte) (due uint64) {
	m, _ := parseStateRecord(value)
	_ = json.Unmarshal(m.Kept, &due) // it is empty
	return due
}

func (s *server) pause() {
	s.now()
	s.paused, s.pausing = make(chan struct{}), s.sim.now()
}

// resume keeps the old clock for up to serverDelay.
func (s *server) resume() {
	if s.paused == nil {
		return
	}
	close(s.paused)
	s.paused = nil
	if t := s.sim.now(); s.tick < t {
		s.tick = t + between(s.rng, 0, serverDelay)
	}
}

// rules are the parameters of a simulation.
type rules struct {
	kinds                  []fault
	margin                 time.Duration // what Traits claims; the model needs two seconds
	blindSwap, blindExpire bool          // the store does not compare
	steady                 *timing       // settings for commands that run as long as they may
}

// timing is the settings of a lease.
type timing struct{ ttl, renew, grace time.Duration }

func (r rules) timing() timing {
	if r.steady != nil {
		return *r.steady
	}
	return timing{simTTL, simRenew, simGrace}
}

// simulation is the whole state, under one lock: goroutines of a bubble do run in parallel.
type simulation struct {
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
	lastDue   uint64          // of the last command
	exited    map[string]bool // ids of instances that have exited, and their commands too
	all       sync.WaitGroup
}

func (sim *simulation) now() time.Duration { return time.Since(sim.start) }

func (sim *simulation) violate(format string, args ...any) {
	if sim.violation == "" {
		sim.violation = fmt.Sprintf("%v: ", sim.now()) + fmt.Sprintf(format, args...)
		close(sim.over)
	}
}

// sleep returns false when the simulation is over.
func (sim *simulation) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-sim.over:
		return false
	}
}

// between returns a random duration. Each goroutine has its own random source, so that a seed gives
// the same simulation each time, except for what happens in the same nanosecond.
func between(rng *rand.Rand, lo, hi time.Duration) time.Duration {
	return lo + time.Duration(rng.Int64N(int64(hi-lo)))
}

func newRand(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// process is one process of an instance, and its client of the server.
type process struct {
	sim            *simulation
	slot           int
	rng            *rand.Rand // of the supervisor
	seed, calls    uint64
	rate           float64
	cut            bool          // from the network
	frozen         chan struct{} // closed at the thaw
	crashed        atomic.Bool
	crash          chan struct{} // closed: the process dies at once
	stop           chan struct{} // closed: the process stops gracefully
	once, onceStop sync.Once
	stopping       bool
	state          State // as last seen by the supervisor
	h              *Heartbeat
	ownsKey        bool // the last answer about key L was that it is ours
	id             string
	cancel         context.CancelFunc
	dead           chan struct{} // closed when the process has exited
	handoff        chan struct{} // requests a handoff
	command        *command
	kept           struct { // under the lock of the simulation
		took    uint64 // the takeover that it is of
		due     uint64 // the last due time that is over
		version uint64
		starts  bool // a command is to be started for it
	}
}

type command struct {
	p        *process
	excused  bool // it was frozen
	dies     time.Duration
	stopping bool
}

// waitWhileFrozen blocks while the process is frozen.
func (p *process) waitWhileFrozen() {
	for {
		p.sim.mu.Lock()
		c := p.frozen
		p.sim.mu.Unlock()
		if c == nil {
			return
		}
		<-c
	}
}

func (p *process) boot() time.Duration {
	p.waitWhileFrozen()
	return p.bootAt(p.sim.now())
}

func (p *process) bootAt(t time.Duration) time.Duration {
	return time.Hour + time.Duration(p.rate*float64(t))
}

// simTimer is the Alarm of the simulation.
type simTimer struct {
	c    chan struct{}
	t    *time.Timer
	rate float64
}

func (r *simTimer) C() <-chan struct{} { return r.c }

func (r *simTimer) Set(d time.Duration) {
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

// call sends one operation to the server and returns its answer. Either may be lost.
func (p *process) call(f func() error) error {
	sim := p.sim
	p.waitWhileFrozen()
	sim.mu.Lock()
	p.calls++
	rng := newRand(p.seed, p.calls)
	there := between(rng, 100*time.Microsecond, 3*time.Millisecond)
	back := between(rng, 100*time.Microsecond, 3*time.Millisecond)
	slow, lost := p.cut, p.cut
	drop := p.cut && rng.IntN(3) == 0
	if p.cut || sim.lossy && rng.IntN(4) == 0 {
		slow = true
		lost = lost || rng.IntN(2) == 0
		there = between(rng, 0, 4*time.Second)
		if rng.IntN(3) == 0 {
			there = between(rng, 0, 5*time.Millisecond)
		}
	}
	life := sim.server.life
	sim.mu.Unlock()
	if p.crashed.Load() {
		return errSim
	}
	if !slow {
		time.Sleep(there)
		sim.mu.Lock()
		if sim.server.paused == nil {
			defer time.Sleep(back) // after the unlock
			defer sim.mu.Unlock()
			return sim.execute(life, f)
		}
		sim.mu.Unlock()
		there = 0
	}
	answer := make(chan error, 1)
	sim.all.Go(func() {
		time.Sleep(there)
		if drop {
			return
		}
		for {
			sim.mu.Lock()
			paused := sim.server.paused
			if paused == nil {
				break
			}
			sim.mu.Unlock()
			<-paused
			time.Sleep(between(rng, 0, serverDelay/2)) // its turn in the queue
		}
		defer sim.mu.Unlock()
		if err := sim.execute(life, f); !lost {
			answer <- err
		}
	})
	t := time.NewTimer(simTimeout)
	defer t.Stop()
	select {
	case err := <-answer:
		p.waitWhileFrozen()
		return err
	case <-t.C:
		p.waitWhileFrozen()
		return errSim
	}
}

func (sim *simulation) execute(life int, f func() error) error {
	if sim.server.down || sim.server.life != life {
		return errSim
	}
	return f()
}

var _ Store = (*process)(nil)

func (p *process) Traits() Traits {
	return Traits{Margin: p.sim.margin, MinTTL: 5 * time.Second, Granularity: time.Second}
}

func (p *process) Close() error { return nil }

func (p *process) Get(_ context.Context, key string) (Entry, error) {
	found := make(chan item, 1)
	err := p.call(func() error {
		it, ok := p.sim.server.find(key)
		if !ok {
			return ErrAbsent
		}
		found <- it
		return nil
	})
	if err != nil {
		p.noteAnswer(key, err, false)
		return Entry{}, err
	}
	it := <-found
	p.noteAnswer(key, nil, key == simKey && it.id == p.id)
	return Entry{it.value, it.cas}, nil
}

func (p *process) Add(_ context.Context, key string, value []byte, ttl time.Duration) error {
	p.checkWrite(key, value)
	err := p.call(func() error {
		s := &p.sim.server
		if _, ok := s.find(key); ok {
			return ErrExists
		}
		s.set(key, value, ttl)
		return nil
	})
	p.noteAnswer(key, err, true)
	return err
}

func (p *process) Swap(_ context.Context, key string, old Entry, value []byte, ttl time.Duration) error {
	p.checkWrite(key, value)
	return p.replace(key, old, p.sim.blindSwap, func(s *server) { s.set(key, value, ttl) })
}

func (p *process) Expire(_ context.Context, key string, old Entry) error {
	return p.replace(key, old, p.sim.blindExpire, func(s *server) { delete(s.items, key) })
}

func (p *process) replace(key string, old Entry, blind bool, f func(*server)) error {
	err := p.call(func() error {
		s := &p.sim.server
		it, ok := s.find(key)
		switch {
		case blind && key == simKey:
		case !ok:
			return ErrAbsent
		case it.cas != old.Token.(uint64):
			return ErrChanged
		}
		if key == simKey && ok && it.id != p.id && !p.sim.exited[it.id] {
			p.sim.violate("%s writes over %s", p.id, it.id)
		}
		f(s)
		return nil
	})
	p.noteAnswer(key, err, true)
	return err
}

// checkWrite reports a write of key S by a process whose last answer about key L was not that L is
// its own. A clean release is exempt: it may follow the loss of the key.
func (p *process) checkWrite(key string, value []byte) {
	if key == simKey {
		return
	}
	if m, ok := parseStateRecord(value); !ok || !m.Clean {
		p.sim.mu.Lock()
		defer p.sim.mu.Unlock()
		if !p.ownsKey {
			p.sim.violate("%s writes the state key without the key", p.id)
		}
	}
}

// noteAnswer records whether the process may assume that key L is its own.
func (p *process) noteAnswer(key string, err error, owned bool) {
	if key == simKey {
		p.sim.mu.Lock()
		p.ownsKey = err == nil && owned || p.ownsKey && err != nil && !rejected(err)
		p.sim.mu.Unlock()
	}
}

// run runs one process, over all its re-execs. It takes the role of the supervisor.
func (p *process) run(ctx context.Context, wait, local bool) {
	sim := p.sim
	defer close(p.dead)
	var adopt *Handoff
	jitter := newRand(p.seed, 1<<63)
	for {
		h, err := New(Options{
			Key: simKey, Self: Record{PID: 1, Host: fmt.Sprint(p.slot), Boot: "b"},
			TTL: sim.timing().ttl, Renew: sim.timing().renew, StopGrace: sim.timing().grace, Timeout: simTimeout,
			Standby: wait, AcquireTimeout: 5 * time.Second,
			Boot: p.boot, Timer: &simTimer{c: make(chan struct{}, 1), rate: p.rate},
			Jitter: func() float64 { return 2*jitter.Float64() - 1 },
			Dead: func(r Record) bool {
				sim.mu.Lock()
				defer sim.mu.Unlock()
				return local && r.Host == fmt.Sprint(p.slot) && sim.exited[r.ID]
			},
			Keep: func(took uint64) ([]byte, uint64, bool) {
				sim.mu.Lock()
				defer sim.mu.Unlock()
				return encode(p.kept.due), p.kept.version, p.kept.took == took && p.kept.version > 0
			},
			Adopt: adopt,
		}, p)
		if err != nil {
			panic(err)
		}
		sim.mu.Lock()
		l, _ := h.Watch()
		p.id, p.h, p.kept.took = l.ID, h, 0
		sim.mu.Unlock()
		ended := make(chan struct{})
		sim.all.Go(func() { defer close(ended); _ = h.Run(ctx) })
		if adopt = p.supervise(h, ended); adopt == nil {
			break
		}
		sim.sleep(between(p.rng, 0, 200*time.Millisecond)) // the exec
	}
	sim.mu.Lock()
	p.endCommand(Lease{Deadline: 1 << 62})
	sim.exited[p.id] = true
	sim.mu.Unlock()
}

// supervise follows the lease until Run has returned, or the process is stopped, or it has handed
// off the lease.
func (p *process) supervise(h *Heartbeat, ended <-chan struct{}) *Handoff {
	sim := p.sim
	var handed chan *Handoff
	stop := p.stop
	tick := sim.now()
	for {
		p.waitWhileFrozen()
		l, changed := h.Watch()
		wake := p.step(h, l, &tick)
		select {
		case <-changed:
		case <-time.After(wake):
		case <-sim.over:
			p.cancel()
			<-ended
			return nil
		case <-p.crash:
			sim.mu.Lock()
			p.crashed.Store(true)
			p.endCommand(Lease{Deadline: 1 << 62})
			sim.exited[p.id] = true
			sim.mu.Unlock()
			p.cancel()
			<-ended
			return nil
		case <-stop: // graceful: first the command, then the lease
			stop, tick, p.stopping = nil, 1<<62, true
		case <-p.handoff:
			if handed == nil && stop != nil {
				handed = make(chan *Handoff, 1)
				c := handed
				sim.all.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
					defer cancel()
					if a, err := h.HandOff(ctx); err == nil {
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
			sim.mu.Lock()
			p.endCommand(l)
			sim.mu.Unlock()
			return nil
		}
		if stop == nil && p.idle() && handed == nil {
			p.cancel()
		}
	}
}

func (p *process) idle() bool {
	p.sim.mu.Lock()
	defer p.sim.mu.Unlock()
	return p.command == nil
}

// step starts or stops the command as the lease requires. It returns the time until the next step.
func (p *process) step(h *Heartbeat, l Lease, tick *time.Duration) time.Duration {
	sim := p.sim
	start := false
	now := sim.now()
	if p.state != Held && l.State == Held && !p.stopping {
		*tick = min(*tick, now) // a tick was missed
	}
	if p.state = l.State; p.kept.starts {
		start = h.MayStart()
		l, _ = h.Watch()
	} else if now >= *tick {
		*tick = now + between(p.rng, 300*time.Millisecond, 2*time.Second)
		if sim.steady != nil {
			*tick = now + 50*time.Millisecond
		}
		start = h.MayStart()
		l, _ = h.Watch()
	}
	sim.mu.Lock()
	defer sim.mu.Unlock()
	now = sim.now()
	c := p.command
	switch l.State {
	case Held, Doubtful:
		p.takeOver(h, l)
		if start && c == nil && p.mayStart(h, l) {
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
		p.endCommand(l)
	}
	if c = p.command; c != nil && now >= c.dies {
		p.endCommand(l)
	}
	wake := max(*tick-now, time.Millisecond)
	if p.stopping && sim.steady != nil {
		wake = 10 * time.Millisecond
	}
	if c = p.command; c != nil {
		wake = min(wake, c.dies-now)
	}
	return min(wake, time.Minute)
}

func (p *process) start(l Lease) {
	sim := p.sim
	if b := p.bootAt(sim.now()); b > l.Deadline {
		sim.violate("%s starts a command %v past its deadline", p.id, b-l.Deadline)
	}
	for c := range sim.commands {
		if !c.excused {
			sim.violate("%s (slot %d, fencing token %d) starts beside %s (slot %d)",
				p.id, p.slot, l.Fence, c.p.id, c.p.slot)
		}
	}
	switch {
	case l.Fence > sim.lastFence:
	case l.Fence == sim.lastFence && p.id == sim.lastID:
	default:
		sim.violate("%s starts with fencing token %d after %d", p.id, l.Fence, sim.lastFence)
	}
	sim.lastFence, sim.lastID = l.Fence, p.id
	if p.kept.due <= sim.lastDue {
		sim.violate("%s (slot %d) starts a command for due time %d after %d", p.id, p.slot, p.kept.due, sim.lastDue)
	}
	sim.lastDue, p.kept.starts = p.kept.due, false
	sim.started++
	p.command = &command{p: p, dies: sim.now() + between(p.rng, 100*time.Millisecond, 60*time.Second)}
	if sim.steady != nil {
		p.command.dies = sim.now() + time.Hour
	}
	sim.commands[p.command] = true
	sim.idle += sim.now() - sim.idleSince
}

// due returns the number of the last due time: there is one each second.
func (sim *simulation) due() uint64 {
	if sim.steady != nil {
		return uint64(sim.now() / time.Millisecond)
	}
	return uint64(sim.now() / time.Second)
}

// takeOver continues from what the last holder has kept. If that is nothing, nothing is caught up.
func (p *process) takeOver(h *Heartbeat, l Lease) {
	if l.Took == p.kept.took {
		return
	}
	p.kept.took, p.kept.version = l.Took, 0
	var found uint64
	if err := json.Unmarshal(l.Found, &found); err != nil {
		found = p.sim.due()
	}
	p.kept.due, p.kept.starts = found, false
	h.Continued(l.Took)
}

// mayStart returns true if a command is due, once its due time is kept.
func (p *process) mayStart(h *Heartbeat, l Lease) bool {
	k := &p.kept
	if due := p.sim.due(); !k.starts && due > k.due {
		k.due, k.version, k.starts = due, k.version+1, true
		h.Keep()
	}
	return k.starts && l.Kept >= k.version
}

// endCommand ends the command now.
func (p *process) endCommand(l Lease) {
	c := p.command
	if c == nil {
		return
	}
	// A nanosecond of the timer and the rate of the clock add up to a microsecond.
	if b := p.bootAt(p.sim.now()); !c.excused && b > l.Deadline+time.Microsecond {
		p.sim.violate("%s in state %v had a command alive %v past its deadline", p.id, l.State, b-l.Deadline)
	}
	delete(p.sim.commands, c)
	p.command = nil
	p.sim.idleSince = p.sim.now()
}

// spawn starts a process in the slot.
func (sim *simulation) spawn(slot int, wait bool, seed uint64) *process {
	rng := newRand(seed, 0)
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{
		sim: sim, slot: slot, rng: rng, seed: seed, rate: 1 + (rng.Float64()-0.5)/125, cancel: cancel,
		dead: make(chan struct{}), handoff: make(chan struct{}, 1),
		crash: make(chan struct{}), stop: make(chan struct{}),
	}
	local := rng.IntN(2) == 0
	sim.mu.Lock()
	sim.slots[slot] = p
	sim.mu.Unlock()
	sim.all.Go(func() { p.run(ctx, wait, local) })
	return p
}

// fault injects one fault, and removes it after a while. It runs in a goroutine of its own.
type fault func(sim *simulation, p *process, rng *rand.Rand)

func crash(_ *simulation, p *process, _ *rand.Rand) { p.once.Do(func() { close(p.crash) }) }
func stop(_ *simulation, p *process, _ *rand.Rand)  { p.onceStop.Do(func() { close(p.stop) }) }

func handOff(_ *simulation, p *process, _ *rand.Rand) {
	select {
	case p.handoff <- struct{}{}:
	default:
	}
}

func freeze(sim *simulation, p *process, rng *rand.Rand) {
	sim.mu.Lock()
	if p.frozen != nil {
		sim.mu.Unlock()
		return
	}
	c := make(chan struct{})
	p.frozen = c
	if p.command != nil {
		p.command.excused = true
	}
	d := between(rng, 500*time.Millisecond, 14*time.Second)
	sim.mu.Unlock()
	sim.sleep(d)
	sim.mu.Lock()
	defer sim.mu.Unlock()
	p.frozen = nil
	close(c)
}

func cut(sim *simulation, p *process, rng *rand.Rand) {
	sim.mu.Lock()
	p.cut = true
	d := between(rng, 500*time.Millisecond, 12*time.Second)
	sim.mu.Unlock()
	sim.sleep(d)
	sim.mu.Lock()
	defer sim.mu.Unlock()
	p.cut = false
}

func lossy(sim *simulation, _ *process, rng *rand.Rand) {
	sim.mu.Lock()
	sim.lossy = true
	d := between(rng, time.Second, 8*time.Second)
	sim.mu.Unlock()
	sim.sleep(d)
	sim.mu.Lock()
	defer sim.mu.Unlock()
	sim.lossy = false
}

func pause(sim *simulation, _ *process, rng *rand.Rand) {
	sim.mu.Lock()
	if sim.server.paused != nil {
		sim.mu.Unlock()
		return
	}
	sim.server.pause()
	d := between(rng, 300*time.Millisecond, 6*time.Second)
	sim.mu.Unlock()
	sim.sleep(d)
	sim.mu.Lock()
	defer sim.mu.Unlock()
	sim.server.resume()
}

func restart(sim *simulation, _ *process, rng *rand.Rand) {
	sim.mu.Lock()
	s := &sim.server
	s.resume()
	s.life++
	clear(s.items)
	s.down = true
	d := between(rng, 10*time.Millisecond, 4*time.Second)
	sim.mu.Unlock()
	sim.sleep(d)
	sim.mu.Lock()
	defer sim.mu.Unlock()
	s.down = false
}

func evict(sim *simulation, _ *process, rng *rand.Rand) {
	sim.mu.Lock()
	defer sim.mu.Unlock()
	if n := rng.IntN(4); n != 0 {
		delete(sim.server.items, simKey)
		if n == 1 {
			delete(sim.server.items, simKey+".state")
		}
	} else {
		delete(sim.server.items, simKey+".state")
	}
}

// The most severe faults come in pairs, as when a switch fails over.

func pauseAndCut(sim *simulation, p *process, rng *rand.Rand) {
	pause(sim, p, rng)
	cut(sim, p, rng)
}

func evictAndCut(sim *simulation, p *process, rng *rand.Rand) {
	evict(sim, p, rng)
	cut(sim, p, rng)
}

var (
	mildFaults = []fault{crash, stop, handOff, cut, lossy, pause, pauseAndCut}
	allFaults  = append([]fault{freeze, restart, evict, evictAndCut}, mildFaults...)
)

// simulate runs one seed and returns the violated invariant, or "".
func simulate(t *testing.T, seed uint64, rules rules) (violation string, started int) {
	synctest.Test(t, func(*testing.T) {
		rng := newRand(seed, 0)
		sim := &simulation{
			rules: rules, start: time.Now(), commands: map[*command]bool{}, over: make(chan struct{}),
			exited: map[string]bool{},
		}
		sim.server = server{
			sim: sim, rng: newRand(seed, 1), items: map[string]item{},
			phase: between(rng, time.Hour, time.Hour+time.Second),
			drift: between(rng, 800*time.Microsecond, 10*time.Millisecond),
		}
		for slot := range sim.slots {
			sim.all.Go(func() { sim.runSlot(slot, newRand(seed, uint64(2+slot))) })
		}
		for sim.now() < simFaults {
			sim.mu.Lock()
			d := between(rng, 0, 8*time.Second)
			f := sim.kinds[rng.IntN(len(sim.kinds))]
			p := sim.slots[rng.IntN(len(sim.slots))]
			for _, o := range sim.slots {
				if o != nil && o.command != nil && rng.IntN(2) == 0 {
					p = o // a fault is most severe there
				}
			}
			sim.mu.Unlock()
			if p != nil {
				seed := rng.Uint64()
				sim.all.Go(func() { f(sim, p, newRand(seed, 0)) })
			}
			if !sim.sleep(d) {
				break
			}
		}
		sim.checkRecovery(rng)
		sim.mu.Lock()
		violation, started = sim.violation, sim.started
		if violation == "" {
			close(sim.over)
		}
		sim.mu.Unlock()
		sim.all.Wait()
	})
	return violation, started
}

// runSlot keeps a process in the slot until the faults end.
func (sim *simulation) runSlot(slot int, rng *rand.Rand) {
	for sim.now() < simFaults-15*time.Second {
		gap := between(rng, 0, 6*time.Second)
		p := sim.spawn(slot, rng.IntN(3) > 0, rng.Uint64())
		<-p.dead
		if !sim.sleep(gap) {
			return
		}
	}
}

// checkRecovery waits until all faults have ended, crashes all processes, and checks that one new
// instance acquires the lease and keeps it.
func (sim *simulation) checkRecovery(rng *rand.Rand) {
	if !sim.sleep(15 * time.Second) {
		return
	}
	sim.mu.Lock()
	all := sim.slots
	sim.mu.Unlock()
	for _, p := range all {
		crash(sim, p, rng)
	}
	for _, p := range all {
		<-p.dead
	}
	p := sim.spawn(0, true, rng.Uint64())
	v := simTTL - sim.margin - simTTL/100 - allowance
	for _, d := range []time.Duration{simTTL + v + 3*time.Second, 5 * time.Second, 5 * time.Second} {
		if !sim.sleep(d) {
			return
		}
		sim.mu.Lock()
		if l, _ := p.h.Watch(); l.State != Held {
			sim.violate("a lone healthy instance is %v (%v)", l.State, l.Err)
		}
		sim.mu.Unlock()
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

// simulations are the cases of TestSimulation. A case may run with the engine of a mutant.
var simulations = []struct {
	name                   string
	mutant                 string // of the engine; "" is as it is
	kinds                  []fault
	margin                 time.Duration
	blindSwap, blindExpire bool // of the store
	broken                 bool // some seed must violate an invariant; else none
}{
	{"all faults", "", allFaults, 2 * time.Second, false, false, false},
	// The proof, and the deadline with its margin, must each be sufficient alone, against the
	// faults that it covers.
	{"all faults, no margin", "", allFaults, 0, false, false, false},
	{"mild faults, no proof", "no proof", mildFaults, 2 * time.Second, false, false, false},

	// Without the proof, the other rules must be sufficient against faults in which the server
	// keeps its memory.
	{"no proof, no margin", "no proof", mildFaults, 0, false, false, true},
	{"no proof, margin of one second", "no proof", mildFaults, time.Second, false, false, true},
	{"renewal over any value", "no proof", mildFaults, 2 * time.Second, true, false, true},
	{"release of any value", "no proof", mildFaults, 2 * time.Second, false, true, true},
	{"no proof", "no proof", allFaults, 2 * time.Second, false, false, true},
	{"own value trusted without a renewal", "no proof, trusted", mildFaults, 2 * time.Second, false, false, true},
	{"deadline from the last operation", "no proof, last operation", mildFaults, 2 * time.Second, false, false, true},
	{"proof only where the server forgot", "proof where absent", allFaults, 2 * time.Second, false, false, true},
	{"half the wait", "half the wait", allFaults, 2 * time.Second, false, false, true},

	{"start before its due time is kept", "early", mildFaults, 2 * time.Second, false, false, true},
	{"takeover that drops what was kept", "nothing kept", mildFaults, 2 * time.Second, false, false, true},
}

// TestSimulation checks that no seed violates an invariant, and that the lease is held often
// enough. With a broken engine or store it checks that some seed violates one.
func TestSimulation(t *testing.T) {
	for _, c := range simulations {
		if c.mutant != *flagMutant {
			continue // TestMutants builds the program for it
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			usual, count, total, found := 60, 0, 0, ""
			if c.broken {
				usual = 3000
			}
			seeds(usual, func(seed uint64) bool {
				count++
				v, started := simulate(t, seed, rules{
					kinds: c.kinds, margin: c.margin, blindSwap: c.blindSwap, blindExpire: c.blindExpire,
				})
				if total += started; v != "" {
					found = fmt.Sprintf("seed %d: %s", seed, v)
				}
				return v == ""
			})
			t.Logf("%d seeds, %d commands were started", count, total)
			switch {
			case c.broken && found == "":
				t.Error("no seed violates an invariant")
			case c.broken:
				t.Log(found)
			case found != "":
				t.Error(found)
			case *flagSeed == 0 && total < 5*count:
				t.Error("the lease was held too rarely")
			}
		})
	}
}
