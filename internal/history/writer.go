package history

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/procfs"
)

const (
	gather     = 50 * time.Millisecond // from the first record to the write, so that a write has many
	retryAfter = 10 * time.Second      // from a failed write to the next attempt, if there is no record before
	longAfter  = time.Second           // the age at which a run gets a record of its start
	diskWait   = 3 * time.Second       // how long Close and Leave wait for a disk that does not answer
	pendingMax = 1 << 20               // bytes that are not written yet; more runs are lost, and counted
)

// Options configure a Writer.
type Options struct {
	Path        func(job string) string // of the newer file of the job's history; see Path
	SegmentSize int64                   // of each of the two files, in bytes; a single record may exceed it
	// Problem is called with the first error of each outage. It must not block.
	Problem func(error)
	Saved   Saved // of the old process
}

// Saved is what one process hands off to the next, by job.
type Saved struct {
	Pending map[string]string `json:"pending,omitempty"` // records that are not written yet
	Lost    map[string]uint64 `json:"lost,omitempty"`    // runs
	// Started has the active runs with a record of their start, and its time: nanoseconds since 1970.
	Started map[string]map[uint64]int64 `json:"started,omitempty"`
}

// Writer writes the history of all jobs of a daemon. Any goroutine may use it. While there is nothing to
// write it has no goroutine and no descriptor, and a second after the last run no timer.
type Writer struct {
	o     Options
	gophd func() procfs.Identity // of this process
	disk  disk

	goroutines  goroutine.Group
	hurry, news chan struct{} // end a wait of the goroutine, see await; capacity 1

	mu      sync.Mutex // guards the fields below
	active  map[runID]activeRun
	timer   *time.Timer // records starts; nil before the first run
	armed   bool        // the timer runs
	pending map[string]*queue
	bytes   int // of all records that are not written yet
	over    bool
	writing
}

// writing is the state of the goroutine.
type writing struct {
	done     chan struct{} // closed when it has ended; nil if there is none
	inFlight bool          // it is in a call that may wait for a disk
	failing  bool          // its last write failed
	paused   bool          // it starts no write
	last     bool          // it writes at once and only once: Close was called
}

// runID names an active run.
type runID struct {
	job string
	run uint64
}

// activeRun is what the record of a start needs.
type activeRun struct {
	due, started time.Time
	trigger      job.Trigger
	attempt, pid int
	recorded     bool // there is a record of its start
}

// queue has the records of a job that are not written yet.
type queue struct {
	records []byte
	lost    uint64 // runs that came after them and did not fit
}

// New returns a Writer. It opens nothing.
func New(o Options) *Writer {
	w := &Writer{o: o, gophd: sync.OnceValue(procfs.Self), hurry: make(chan struct{}, 1), news: make(chan struct{}, 1),
		active: map[runID]activeRun{}, pending: map[string]*queue{}}
	w.restore()
	return w
}

// restore continues the Writer of the old process.
func (w *Writer) restore() {
	for name, records := range w.o.Saved.Pending {
		w.queue(name).records = []byte(records)
		w.bytes += len(records)
	}
	for name, lost := range w.o.Saved.Lost {
		w.queue(name).lost = lost
	}
	for name, runs := range w.o.Saved.Started {
		for run, at := range runs {
			w.active[runID{name, run}] = activeRun{started: time.Unix(0, at), recorded: true}
		}
	}
	w.o.Saved = Saved{}
	if len(w.pending) > 0 {
		w.rouse()
	}
}

// Read is a reader of event.Stream. It waits for no disk.
func (w *Writer) Read(e event.Event) {
	switch e.Type {
	case event.TypeRunStarted, event.TypeRunAdopted:
		w.runStarted(e)
	case event.TypeRunEnded, event.TypeRunAbandoned:
		w.runEnded(e)
	}
}

func (w *Writer) runStarted(e event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	t, id := e.Tick, runID{e.Job, e.Tick.Number}
	run := activeRun{due: t.Due, started: t.Started, trigger: t.Trigger, attempt: t.Attempt, pid: t.PID}
	if handed, ok := w.active[id]; ok { // both of its records must have the same time
		run.started, run.recorded = handed.started, true
	}
	w.active[id] = run
	if !run.recorded && !w.armed {
		w.remindIn(longAfter - time.Since(run.started))
	}
}

// remindIn sets the timer. The caller holds mu.
func (w *Writer) remindIn(d time.Duration) {
	w.armed = true
	if d = max(d, 0); w.timer == nil {
		w.timer = time.AfterFunc(d, w.recordStarts)
	} else {
		w.timer.Reset(d)
	}
}

// recordStarts is called by the timer. It records the start of each run that is old enough, and sets the
// timer for the next one.
func (w *Writer) recordStarts() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.armed = false; w.over {
		return
	}
	next := time.Duration(0)
	for id, run := range w.active {
		if run.recorded {
			continue
		}
		if rest := longAfter - time.Since(run.started); rest > 0 {
			if next == 0 || rest < next {
				next = rest
			}
			continue
		}
		if q := w.place(id.job); q != nil {
			run.recorded = true
			w.active[id] = run
			before := len(q.records)
			q.records = appendStarted(q.records, id.job, id.run, run, w.gophd())
			w.added(len(q.records) - before)
		}
	}
	if next > 0 {
		w.remindIn(next)
	}
}

func (w *Writer) runEnded(e event.Event) {
	outcome := e.Tick.Ending()
	if e.Type == event.TypeRunAbandoned && outcome != job.EndingSuccess {
		outcome = job.EndingStopped // by gophd, which could not adopt it
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || e.Tick.Number == 0 { // the run of a handoff that cannot be read has no number
		return
	}
	id, started := runID{e.Job, e.Tick.Number}, e.Tick.Started
	if run, ok := w.active[id]; ok {
		if run.recorded {
			started = run.started
		}
		delete(w.active, id) // the timer stays: setting it for each of many short runs would wake a thread each time
	}
	q := w.place(e.Job)
	if q == nil {
		w.queue(e.Job).lost++
		return
	}
	before := len(q.records)
	q.records = appendEnded(q.records, e, outcome, started)
	w.added(len(q.records) - before)
}

// Pause starts no write until Resume, and takes records as before. It does not block.
func (w *Writer) Pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = true
	signal(w.hurry)
}

// Resume ends a Pause.
func (w *Writer) Resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.paused = false; len(w.pending) > 0 {
		w.rouse()
	}
}

// Idle is called during a Pause. It returns an error while a write is active that can hang with a disk.
func (w *Writer) Idle() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inFlight {
		return errors.New("a write to the history has not returned: check the disk of the state directory")
	}
	return nil
}

// Leave ends the Writer for that of the next process, and returns what that needs. It waits for an active
// write, but not for longer than three seconds; a Saved has nothing of such a write.
func (w *Writer) Leave() Saved {
	w.Pause()
	w.wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return Saved{}
	}
	w.end()
	s := Saved{Pending: map[string]string{}, Lost: map[string]uint64{}, Started: map[string]map[uint64]int64{}}
	for name, q := range w.pending {
		if len(q.records) > 0 {
			s.Pending[name] = string(q.records)
		}
		if q.lost > 0 {
			s.Lost[name] = q.lost
		}
	}
	for id, run := range w.active {
		if !run.recorded {
			continue
		}
		if s.Started[id.job] == nil {
			s.Started[id.job] = map[uint64]int64{}
		}
		s.Started[id.job][id.run] = run.started.UnixNano()
	}
	w.pending = map[string]*queue{}
	return s
}

// end takes no more records. The caller holds mu.
func (w *Writer) end() {
	w.over = true
	if w.armed {
		w.timer.Stop()
	}
}

// wait waits for the end of the goroutine. It returns false if a disk does not answer.
func (w *Writer) wait() bool {
	w.mu.Lock()
	done := w.done
	w.mu.Unlock()
	if done == nil {
		return true
	}
	select {
	case <-done:
		return true
	case <-time.After(diskWait):
		return false
	}
}

// Close writes what is left. It waits for that, but not for longer than three seconds. An error says that
// runs are lost. After Leave it does nothing.
func (w *Writer) Close() error {
	w.mu.Lock()
	if !w.over {
		w.end()
		w.last, w.paused = true, false
		signal(w.hurry)
		if len(w.pending) > 0 {
			w.rouse()
		}
	}
	w.mu.Unlock()
	if !w.wait() {
		return errors.New("the disk of the state directory does not answer: " +
			"the last runs are missing in the history")
	}
	w.goroutines.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var lost uint64
	for _, q := range w.pending {
		lost += runsIn(q.records) + q.lost
	}
	if lost > 0 {
		return fmt.Errorf("the history could not be written: its last %d runs are missing", lost)
	}
	return nil
}
