// Package status answers: what is going on?
//
// A Board takes the reports of a running gophd; a Snapshot is a copy of what it knows, of one moment.
// Everything that shows gophd to somebody (the dump, later the socket, metrics and the page) is a view
// of a Snapshot. The Board's mutex is the only one of the core. It formats nothing but its own list of
// variables, asks nobody, and keeps no history beyond the lengths of the latest runs.
package status

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"gophd/internal/job"
)

// Board holds what is known. Its methods may be called from any goroutine and never block for long.
type Board struct {
	mu      sync.Mutex
	now     Snapshot
	lengths map[string][]time.Duration // of the latest runs by job, in the order of a ring
}

// lengthsKept is how many run lengths the percentiles are taken over: enough for a p99, and 8 KB.
const lengthsKept = 1000

// Snapshot is gophd at one moment. It is a copy: nothing in it changes any more.
type Snapshot struct {
	State      string // serving, restarting, stopping, killing, ...
	PID        int
	Instance   string        // the random id that the heartbeat knows this daemon by; kept across restarts
	User       string        // whom it runs as
	Born       time.Time     // first start of this daemon, by the wall clock of this image; kept across restarts
	Image      time.Time     // start of this image
	Taken      time.Time     // the moment of the copy
	Restarts   int           // images before this one
	Config     string        // config file, "" for none
	Log        string        // log file in use, "" for none
	Dropped    uint64        // log lines that no sink would take
	DroppedFor error         // why the last ones
	LogStalled time.Duration // how long the log has taken nothing of what is being written
	LogAstray  error         // why the log is not in the file of that name
	Daemon     bool
	Verbose    bool
	RestartIn  time.Duration // config.auto_restart_interval where it is in force, else 0
	Memory     Memory
	Goroutines int
	Jobs       []Job
}

// Memory is what the process holds in RAM, in bytes; 0 where the system does not tell.
type Memory struct{ Now, Peak int64 }

// Job is one job in a Snapshot.
type Job struct {
	Name     string
	State    job.State
	Interval time.Duration
	Next     time.Time // the next tick, by the wall clock of the copy; zero when none is awaited
	Going    []Going   // the runs that are under way, in the order in which they began
	Status   string    // what a run told last of itself; "" for nothing
	StatusOf uint64    // the number of that run, which may have ended
	Counts   Counts
	Last     *job.Result // the last run's; nil before the first has ended
	Lengths  Lengths
	Lease    Lease
}

// Going is a run that is under way.
type Going struct {
	Run   job.Run
	PID   int // 0 while it is being started
	Since time.Time
}

// Counts are kept across restarts.
type Counts struct {
	Runs     uint64 `json:"runs"`
	Failures uint64 `json:"failures"`
	Overruns uint64 `json:"overruns"` // runs that were still going when a tick was due
	Missed   uint64 `json:"missed"`   // ticks that fell due while a run was going or held
}

// Lengths tells how long the latest runs took.
type Lengths struct {
	Of                  int // runs; 0 leaves the rest zero
	Mean, P50, P90, P99 time.Duration
}

// Lease is the right to run, as the heartbeat has it.
type Lease struct {
	Store  string // where the heartbeat is kept, without secrets
	State  string
	Fence  uint64
	Holder string    // who runs the job
	Until  time.Time // local deadline by the wall clock of the copy; zero is for ever
}

// New makes a Board that begins with what s knows.
func New(s Snapshot) *Board {
	return &Board{now: s, lengths: map[string][]time.Duration{}}
}

// Update lets f change what the board knows. f must not keep the pointer or call the board.
func (b *Board) Update(f func(*Snapshot)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.now)
}

// Job is Update for the job of that name; a name that the board does not know changes nothing.
func (b *Board) Job(name string, f func(*Job)) {
	b.Update(func(s *Snapshot) {
		if i := slices.IndexFunc(s.Jobs, func(j Job) bool { return j.Name == name }); i >= 0 {
			f(&s.Jobs[i])
		}
	})
}

// began puts down a run that began, without a PID, or the process that it has got.
func (b *Board) began(name string, g Going) {
	b.Job(name, func(j *Job) {
		if i := slices.IndexFunc(j.Going, func(o Going) bool { return o.Run.Number == g.Run.Number }); i >= 0 {
			j.Going[i] = g
		} else {
			j.Going = append(j.Going, g)
		}
	})
}

// told records the status that a run sent. Of several active runs the newest counts.
func (b *Board) told(name string, run uint64, text string) {
	b.Job(name, func(j *Job) {
		if run >= j.StatusOf {
			j.Status, j.StatusOf = text, run
		}
	})
}

// ended counts a run of the job.
func (b *Board) ended(name string, t job.Tick) {
	b.Job(name, func(j *Job) {
		r := t.Result
		j.Last = &r
		j.Going = slices.DeleteFunc(j.Going, func(g Going) bool { return g.Run.Number == r.Run.Number })
		j.Counts.Runs++
		if r.Failed() {
			j.Counts.Failures++
		}
		if t.Overran() {
			j.Counts.Overruns++
		}
		b.keep(name, j.Counts.Runs, r.Length())
	})
}

func (b *Board) keep(name string, run uint64, length time.Duration) {
	ring := b.lengths[name]
	if len(ring) < lengthsKept {
		b.lengths[name] = append(ring, length)
		return
	}
	ring[(run-1)%lengthsKept] = length
}

// Snapshot copies what is known, with the memory that the process has in this moment.
func (b *Board) Snapshot() Snapshot {
	memory := memoryNow()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.now
	s.Taken, s.Memory, s.Goroutines = time.Now(), memory, runtime.NumGoroutine()
	s.Jobs = slices.Clone(s.Jobs)
	for i := range s.Jobs {
		j := &s.Jobs[i]
		j.Going = slices.Clone(j.Going)
		j.Lengths = summary(b.lengths[j.Name])
		if !j.Next.IsZero() { // the wall clock may have been stepped since it was reported
			j.Next = s.Taken.Add(j.Next.Sub(s.Taken))
		}
	}
	return s
}

// summary takes percentiles by the nearest rank.
func summary(ring []time.Duration) Lengths {
	n := len(ring)
	if n == 0 {
		return Lengths{}
	}
	sorted := slices.Sorted(slices.Values(ring))
	var sum time.Duration
	for _, d := range sorted {
		sum += d
	}
	rank := func(percent int) time.Duration { return sorted[(n*percent+99)/100-1] }
	return Lengths{Of: n, Mean: sum / time.Duration(n), P50: rank(50), P90: rank(90), P99: rank(99)}
}

// Memoir is what a Board passes on to the board of the next image.
type Memoir struct {
	Counts  map[string]Counts          `json:"counts"`
	Lengths map[string][]time.Duration `json:"lengths"`
}

// Memoir copies what the next image's board should know.
func (b *Board) Memoir() Memoir {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := Memoir{Counts: map[string]Counts{}, Lengths: map[string][]time.Duration{}}
	for _, j := range b.now.Jobs {
		m.Counts[j.Name] = j.Counts
		m.Lengths[j.Name] = slices.Clone(b.lengths[j.Name])
	}
	return m
}

// Recall takes up what an earlier board passed on, for the jobs that both know.
func (b *Board) Recall(m Memoir) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.now.Jobs {
		j := &b.now.Jobs[i]
		j.Counts = m.Counts[j.Name]
		b.lengths[j.Name] = slices.Clone(m.Lengths[j.Name])[:min(len(m.Lengths[j.Name]), lengthsKept)]
	}
}
