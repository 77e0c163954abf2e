// Package status answers: what is gophd doing now?
//
// A Board reads the events of a running gophd. A Snapshot is a copy of the Board at one moment. All
// that shows gophd's state (the dump, later the socket, metrics and the page) is a view of a
// Snapshot. The Board's mutex is the only one of the core. The Board formats only its own list of
// variables, asks no other package, and keeps no history except a histogram of run lengths.
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
	index   map[string]int        // of the jobs in now, by name
	lengths map[string]*Histogram // by job; none before its first run has ended
}

// Snapshot is gophd's state at one moment. It is a copy and does not change.
type Snapshot struct {
	Name         string // of the daemon
	Version      string
	State        string // serving, re-executing, draining, stopping, ...
	PID          int
	Instance     string    // random id of this daemon in the heartbeat; kept across restarts
	User         string    // the user that it runs as
	Born         time.Time // first start of this daemon, by this process's wall clock; kept across restarts
	ProcessStart time.Time // start of this process
	Taken        time.Time // the moment of the copy
	Restarts     int       // re-execs before this process
	Config       string    // config file, "" for none
	Log          Log
	Daemon       bool
	Verbose      bool
	RestartIn    time.Duration // config.auto_restart_interval if it applies, else 0
	Memory       Memory
	Goroutines   int
	Jobs         []Job
}

// Log is the state of a log.
type Log struct {
	File       string        // in use, "" for none
	Dropped    uint64        // lines that could not be written
	DroppedFor error         // why the last ones were dropped
	Stalled    time.Duration // how long the current write has made no progress
	Misplaced  error         // why the log is not in the file of that name
}

// Memory is the process's resident memory in bytes; 0 if the system does not report it.
type Memory struct{ Now, Peak int64 }

// Job is one job in a Snapshot.
type Job struct {
	Name     string
	State    job.State
	Held     string // paused or stopped by a request; or active, or ""
	Skip     int    // the next ticks that are skipped
	Failed   string // why the job has failed for good; "" if it has not
	Schedule string // in a few words
	Timed    job.Timed
	Interval time.Duration
	Every    time.Duration // from one due time to the next; 0 if there is no such time
	Next     time.Time     // the next tick, by the wall clock of the copy; zero if none is scheduled
	Active   []ActiveRun   // in the order of their start
	Status   string        // the last status that a run sent; "" for none
	StatusOf uint64        // the number of that run, which may have ended
	// Unfinished are lines that a command has begun and not ended: a question, a progress bar.
	Unfinished []line.Unfinished
	Log        Log  // zero if the job has no log of its own
	LogPending bool // lines were taken that are not in its log yet
	Counts     Counts
	Last       *Last       // nil before the first run has ended
	result     *job.Result // the same, of this process
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

// Last is the last run that has ended. It is kept across restarts.
type Last struct {
	Run      uint64        `json:"run"`
	Outcome  job.Ending    `json:"outcome"`
	ExitCode *int          `json:"exit_code"` // nil unless the command exited
	Started  time.Time     `json:"started"`
	Ended    time.Time     `json:"ended"`
	Length   time.Duration `json:"length"`
	Text     string        `json:"text"` // its outcome as the log has it
}

// last returns the last run of the job.
func (j Job) last() *Last {
	if j.result == nil {
		return j.Last
	}
	r := *j.result
	l := &Last{Run: r.Number, Outcome: r.Ending(), Started: r.Started.Round(0), Ended: r.Ended.Round(0), Length: r.Length(),
		Text: r.String()}
	if r.Outcome == job.Exited {
		l.ExitCode = &r.Code
	}
	return l
}

// Lengths summarizes how long the last runs took. The percentiles are approximate, see Histogram.
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
	b := &Board{now: s, lengths: map[string]*Histogram{}}
	b.indexJobs()
	return b
}

func (b *Board) indexJobs() {
	b.index = make(map[string]int, len(b.now.Jobs))
	for i, j := range b.now.Jobs {
		b.index[j.Name] = i
	}
}

// Update calls f to change the board. f must not keep the pointer, add or remove jobs, or call the
// board.
func (b *Board) Update(f func(*Snapshot)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.now)
}

// Job is Update for the job of that name. An unknown name changes nothing.
func (b *Board) Job(name string, f func(*Job)) {
	b.Update(func(s *Snapshot) {
		if i, ok := b.index[name]; ok {
			f(&s.Jobs[i])
		}
	})
}

// Remove removes the job of that name.
func (b *Board) Remove(name string) {
	b.Update(func(s *Snapshot) {
		s.Jobs = slices.DeleteFunc(s.Jobs, func(j Job) bool { return j.Name == name })
		delete(b.lengths, name)
		b.indexJobs()
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
		r.Output = "" // it would be kept until the next run ends
		j.result = &r
		j.Active = slices.DeleteFunc(j.Active, func(o ActiveRun) bool { return o.Run.Number == r.Run.Number })
		j.Counts.Runs++
		if r.Failed() {
			j.Counts.Failures++
		}
		if t.Late() {
			j.Counts.Late++
		}
		h := b.lengths[name]
		if h == nil {
			h = new(Histogram)
			b.lengths[name] = h
		}
		h.add(r.Length())
	})
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
		j.Active, j.Last, j.result = slices.Clone(j.Active), j.last(), nil
		if h := b.lengths[j.Name]; h != nil {
			j.Lengths = h.summary()
		}
		if !j.Next.IsZero() { // the wall clock may have been stepped since the event
			j.Next = s.Taken.Add(j.Next.Sub(s.Taken))
		}
	}
	return s
}

// Saved is the part of a Board that is handed off to the new process, by job.
type Saved struct {
	Counts  map[string]Counts    `json:"counts"`
	Lengths map[string]Histogram `json:"lengths"`
	Last    map[string]*Last     `json:"last"`
}

// Save copies what the new process's board needs.
func (b *Board) Save() Saved {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Saved{Counts: map[string]Counts{}, Lengths: map[string]Histogram{}, Last: map[string]*Last{}}
	for _, j := range b.now.Jobs {
		if j.Counts != (Counts{}) {
			s.Counts[j.Name] = j.Counts
		}
		if last := j.last(); last != nil {
			s.Last[j.Name] = last
		}
	}
	for name, h := range b.lengths {
		s.Lengths[name] = *h
	}
	return s
}

// Restore adopts what the old process's board has saved, for the jobs that both know.
func (b *Board) Restore(s Saved) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lengths = map[string]*Histogram{}
	for i := range b.now.Jobs {
		j := &b.now.Jobs[i]
		j.Counts, j.Last = s.Counts[j.Name], s.Last[j.Name]
		if h, ok := s.Lengths[j.Name]; ok {
			b.lengths[j.Name] = &h
		}
	}
}
