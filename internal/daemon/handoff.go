package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"

	"gophd/internal/api"
	"gophd/internal/config"
	"gophd/internal/history"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/restart"
	"gophd/internal/status"
	"gophd/internal/supervisor"
)

// handedState is what the old process hands off to the new one, in addition to what package restart
// hands off about the process itself. Descriptors are in the Handoff's Files.
type handedState struct {
	PIDFile string `json:",omitempty"` // path of the file whose descriptor is handed off
	Log     logState
	Errors  []string `json:",omitempty"` // that the old process could not log any more
	Board   status.Saved
	History history.Saved
	Lease   lease.State
	Leases  map[string]lease.State `json:",omitempty"` // of the jobs that have their own, by name
	Jobs    []supervisor.JobState
	Escaped []supervisor.Pipe `json:",omitempty"` // of processes that escaped from earlier runs
	// Reported are the processes of which the log says that they have escaped.
	Reported []int     `json:",omitempty"`
	API      api.Place // of the socket
	Events   api.SavedEvents

	byName map[string]supervisor.JobState // Jobs
}

// job returns the state of a job of the config: that of the same name, or with one job before and
// now that of the only one. It is empty for a new job.
func (s handedState) job(c *config.Config, spec job.Spec) supervisor.JobState {
	if !c.Many && len(s.Jobs) == 1 {
		return s.Jobs[0]
	}
	return s.byName[spec.Name]
}

// logState is the state of the old process's log.
type logState struct {
	File, Format string
	Losses       logging.Losses
	Jobs         map[string]logging.Losses `json:",omitempty"` // of jobs with a log of their own
	Left         []logging.Unwritten
	Records      []int `json:",omitempty"` // sizes of the Records of Left, which come after the JSON
}

// Names of descriptors in the handoff.
const (
	pidFileName = "pid-file"
	localLock   = "heartbeat-local"
)

// decodeState decodes the whole handoff, once. Without a handoff the state is empty.
func decodeState(h *restart.Handoff) (handedState, error) {
	var s handedState
	if h == nil {
		return s, nil
	}
	d := json.NewDecoder(bytes.NewReader(h.State))
	d.DisallowUnknownFields()
	err := d.Decode(&s)
	if err == nil {
		err = s.take(h.State[d.InputOffset():])
	}
	if err != nil {
		return handedState{}, fmt.Errorf("the handoff of the old process cannot be read: %w", err)
	}
	s.byName = make(map[string]supervisor.JobState, len(s.Jobs))
	for _, j := range s.Jobs {
		s.byName[j.Name] = j
		if err := j.Check(); err != nil {
			return handedState{}, fmt.Errorf("the handoff of the old process is invalid: %w", err)
		}
	}
	return s, nil
}

// encode is the reverse of decodeState.
func (s handedState) encode() []byte {
	s.Log.Records = nil
	for _, left := range s.Log.Left {
		s.Log.Records = append(s.Log.Records, len(left.Records))
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Errorf("handoff: %w", err)) // it has plain values only
	}
	for _, left := range s.Log.Left {
		text = append(text, left.Records...)
	}
	return append(text, s.Events.Lines...)
}

// take sets what comes after the JSON: the Records of the log, and then the lines of the events.
func (s *handedState) take(rest []byte) error {
	records := len(rest) - s.Events.Bytes
	if s.Events.Bytes < 0 || records < 0 {
		return fmt.Errorf("it has %d bytes of records and events, and %d are events", len(rest), s.Events.Bytes)
	}
	s.Events.Lines = rest[records:]
	return s.Log.take(rest[:records])
}

// take sets the Records of Left.
func (l *logState) take(records []byte) error {
	if len(l.Records) != len(l.Left) {
		return fmt.Errorf("it has records of %d logs, and sizes of %d", len(l.Left), len(l.Records))
	}
	for i, size := range l.Records {
		if size < 0 || size > len(records) {
			return fmt.Errorf("it has %d bytes of records, and not %d", len(records), size)
		}
		l.Left[i].Records, records = records[:size:size], records[size:]
	}
	if len(records) > 0 {
		return fmt.Errorf("it has %d more bytes", len(records))
	}
	return nil
}
