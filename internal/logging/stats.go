package logging

import (
	"time"
)

// Stats reports what happened to the lines so far.
type Stats struct {
	Lines   uint64 // written
	Dropped uint64 // lost for any reason; includes lines whose loss was reported in the log

	Pending int           // bytes taken and not yet passed to the sink
	Stalled time.Duration // time since the active write made progress; 0 between writes
	Err     error         // error of the last write, or nil

	Lost error // reason of the last loss
	// Misplaced is why the log is not in the file that it should be in now, or why work on its
	// archives failed. It is nil if neither is the case, and becomes nil again when another file is
	// opened without such an error.
	Misplaced error
}

// Trouble returns a channel that gets a value when Dropped or Misplaced in Stats changes, those of a
// job's own log too. Several changes can share one value.
func (l *Log) Trouble() <-chan struct{} { return l.trouble }

// Losses returns the losses for the next Log. Call it after Close.
func (l *Log) Losses() Losses { return l.Job("").Losses() }

// Losses is Log.Losses for the job's log.
func (j Job) Losses() Losses {
	if len(j.sinks) == 0 {
		return Losses{}
	}
	j.log.mu.Lock()
	defer j.log.mu.Unlock()
	k := j.sinks[0]
	lost := Losses{Lines: k.stats.Dropped, Unreported: k.stats.Dropped - min(k.reported, k.stats.Dropped)}
	if k.stats.Lost != nil {
		lost.Why = k.stats.Lost.Error()
	}
	return lost
}

// Stats returns the statistics of the file, or of Echo if there is no file.
func (l *Log) Stats() Stats { return l.Job("").Stats() }

// Stats is Log.Stats for the job's log.
func (j Job) Stats() Stats {
	j.log.mu.Lock()
	defer j.log.mu.Unlock()
	if len(j.sinks) == 0 {
		return Stats{}
	}
	k := j.sinks[0]
	s := k.stats
	s.Pending = len(k.buf)
	if !k.since.IsZero() {
		s.Stalled = time.Since(k.since)
	}
	return s
}
