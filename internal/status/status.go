// Package status answers: what is gophd doing now?
//
// A Board reads the events of a running gophd. A Snapshot is a copy of the Board at one moment. All
// that shows gophd's state (the dump, later the socket, metrics and the page) is a view of a
// Snapshot. The Board's mutex is the only one of the core. The Board formats only its own list of
// variables, asks no other package, and keeps no history except the lengths of the last runs.
package status

import (
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"gophd/internal/job"
	"gophd/internal/line"
)

// Board holds the current state. Its methods may be called from any goroutine and block only for a
// short time.
type Board struct {
	mu      sync.Mutex
	now     Snapshot
	lengths map[string][]time.Duration // of the last runs, by job; a ring buffer
}

// lengthsKept is the number of run lengths for the percentiles: enough for a p99, and 8 KB.
const lengthsKept = 1000

// Snapshot is gophd's state at one moment. It is a copy and does not change.
type Snapshot struct {
	State        string // serving, re-executing, draining, stopping, ...
	PID          int
	Instance     string        // random id of this daemon in the heartbeat; kept across restarts
	User         string        // the user that it runs as
	Born         time.Time     // first start of this daemon, by this process's wall clock; kept across restarts
	ProcessStart time.Time     // start of this process
	Taken        time.Time     // the moment of the copy
	Restarts     int           // re-execs before this process
	Config       string        // config file, "" for none
	Log          string        // log file in use, "" for none
	Dropped      uint64        // log lines that could not be written
	DroppedFor   error         // why the last ones were dropped
	LogStalled   time.Duration // how long the current write of the log has made no progress
	LogMisplaced error         // why the log is not in the file of that name
	Daemon       bool
	Verbose      bool
	RestartIn    time.Duration // config.auto_restart_interval if it applies, else 0
	Memory       Memory
	Goroutines   int
	Jobs         []Job
}

// Job returns the job of that name; a Job without a name if there is none.
func (s Snapshot) Job(name string) Job {
	for _, j := range s.Jobs {
		if j.Name == name {
			return j
		}
	}
	return Job{}
}

// Memory is the process's resident memory in bytes; 0 if the system does not report it.
type Memory struct{ Now, Peak int64 }

// Job is one job in a Snapshot.
type Job struct {
	Name     string
	State    job.State
	Interval time.Duration
	Next     time.Time   // the next tick, by the wall clock of the copy; zero if none is scheduled
	Active   []ActiveRun // in the order of their start
	Status   string      // the last status that a run sent; "" for none
	StatusOf uint64      // the number of that run, which may have ended
	// Unfinished are lines that a command has begun and not ended: a question, a progress bar.
	Unfinished []line.Unfinished
	Counts     Counts
	Last       *job.Result // the last run's; nil before the first has ended
	Lengths    Lengths
	Lease      Lease
}

// ActiveRun is a run that is active.
type ActiveRun struct {
	Run       job.Run
	PID       int // 0 while it is being started
	Since     time.Time
	Missed    uint64 // ticks that were due meanwhile; Counts gets them when it has ended
	Suspended Suspended
}

// Suspended is a process of a run that a signal has suspended.
type Suspended struct {
	PID  int            // that of the run, or another; 0 for none
	Name string         // of another
	By   syscall.Signal // 0 if it is not known
}

// Counts are kept across restarts.
type Counts struct {
	Runs     uint64 `json:"runs"` // that have ended
	Failures uint64 `json:"failures"`
	Late     uint64 `json:"late"`   // runs that were still active when a tick was due
	Missed   uint64 `json:"missed"` // ticks that were due while a run was active or held
}

// Lengths summarizes how long the last runs took.
type Lengths struct {
	Of                  int // number of runs; if 0, the rest is zero
	Mean, P50, P90, P99 time.Duration
}

// Lease is the right to run, with the state of its heartbeat.
type Lease struct {
	Store  string // URL of the store, without secrets
	State  string
	Fence  uint64    // fencing token
	Holder string    // the instance that runs the job
	Until  time.Time // local deadline by the wall clock of the copy; zero if it does not expire
}

// New returns a Board that starts with s.
func New(s Snapshot) *Board {
	return &Board{now: s, lengths: map[string][]time.Duration{}}
}

// Update calls f to change the board. f must not keep the pointer or call the board.
func (b *Board) Update(f func(*Snapshot)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.now)
}

// Job is Update for the job of that name. An unknown name changes nothing.
func (b *Board) Job(name string, f func(*Job)) {
	b.Update(func(s *Snapshot) {
		if i := slices.IndexFunc(s.Jobs, func(j Job) bool { return j.Name == name }); i >= 0 {
			f(&s.Jobs[i])
		}
	})
}

// Remove removes the job of that name.
func (b *Board) Remove(name string) {
	b.Update(func(s *Snapshot) {
		s.Jobs = slices.DeleteFunc(s.Jobs, func(j Job) bool { return j.Name == name })
		delete(b.lengths, name)
	})
}

// runStarted records a run that is being started, or the PID of one that was recorded before.
func (b *Board) runStarted(name string, r ActiveRun) {
	b.Job(name, func(j *Job) {
		if i := slices.IndexFunc(j.Active, func(o ActiveRun) bool { return o.Run.Number == r.Run.Number }); i >= 0 {
			j.Active[i].PID, j.Active[i].Since = r.PID, r.Since
		} else {
			j.Active = append(j.Active, r)
		}
	})
}

// active calls f to change an active run.
func (b *Board) active(name string, run uint64, f func(*ActiveRun)) {
	b.Job(name, func(j *Job) {
		if i := slices.IndexFunc(j.Active, func(r ActiveRun) bool { return r.Run.Number == run }); i >= 0 {
			f(&j.Active[i])
		}
	})
}

// statusSent records the status that a run sent. With several active runs the newest counts.
func (b *Board) statusSent(name string, run uint64, text string) {
	b.Job(name, func(j *Job) {
		if run >= j.StatusOf {
			j.Status, j.StatusOf = text, run
		}
	})
}

// runEnded counts a run of the job.
func (b *Board) runEnded(name string, t job.Tick) {
	b.Job(name, func(j *Job) {
		r := t.Result
		j.Last = &r
		j.Active = slices.DeleteFunc(j.Active, func(o ActiveRun) bool { return o.Run.Number == r.Run.Number })
		j.Counts.Runs++
		if r.Failed() {
			j.Counts.Failures++
		}
		if t.Late() {
			j.Counts.Late++
		}
		b.addLength(name, j.Counts.Runs, r.Length())
	})
}

// addLength stores the length of a run; count is the number of runs so far.
func (b *Board) addLength(name string, count uint64, length time.Duration) {
	ring := b.lengths[name]
	if len(ring) < lengthsKept {
		b.lengths[name] = append(ring, length)
		return
	}
	ring[(count-1)%lengthsKept] = length
}

// Snapshot copies the board, with the process's current memory.
func (b *Board) Snapshot() Snapshot {
	memory := memoryNow()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.now
	s.Taken, s.Memory, s.Goroutines = time.Now(), memory, runtime.NumGoroutine()
	s.Jobs = slices.Clone(s.Jobs)
	for i := range s.Jobs {
		j := &s.Jobs[i]
		j.Active = slices.Clone(j.Active)
		j.Lengths = summary(b.lengths[j.Name])
		if !j.Next.IsZero() { // the wall clock may have been stepped since the event
			j.Next = s.Taken.Add(j.Next.Sub(s.Taken))
		}
	}
	return s
}

// summary calculates mean and percentiles, by the nearest rank.
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

// Saved is the part of a Board that is handed off to the new process.
type Saved struct {
	Counts  map[string]Counts          `json:"counts"`
	Lengths map[string][]time.Duration `json:"lengths"`
}

// Save copies what the new process's board needs.
func (b *Board) Save() Saved {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Saved{Counts: map[string]Counts{}, Lengths: map[string][]time.Duration{}}
	for _, j := range b.now.Jobs {
		s.Counts[j.Name] = j.Counts
		s.Lengths[j.Name] = slices.Clone(b.lengths[j.Name])
	}
	return s
}

// Restore adopts what the old process's board has saved, for the jobs that both know.
func (b *Board) Restore(s Saved) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.now.Jobs {
		j := &b.now.Jobs[i]
		j.Counts = s.Counts[j.Name]
		b.lengths[j.Name] = slices.Clone(s.Lengths[j.Name])[:min(len(s.Lengths[j.Name]), lengthsKept)]
	}
}
