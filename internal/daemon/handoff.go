package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"

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
	Lease   lease.State
	Job     supervisor.JobState
}

// logState is the state of the old process's log.
type logState struct {
	File, Format string
	Losses       logging.Losses
	Left         []logging.Unwritten
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
	if err := d.Decode(&s); err != nil {
		return handedState{}, fmt.Errorf("the handoff of the old process cannot be read: %w", err)
	}
	if g := s.Job.Grid; g != nil && g.Interval < 0 {
		return handedState{}, fmt.Errorf("the handoff of the old process is invalid: its interval is %v", g.Interval)
	}
	for _, run := range s.Job.Runs {
		if stop := run.Stop; stop != nil && (stop.Sent < 0 || stop.Sent >= max(len(stop.Signals), 1)) {
			return handedState{}, fmt.Errorf("the handoff of the old process is invalid: run %d is at stop signal %d of %d",
				run.Run.Number, stop.Sent+1, len(stop.Signals))
		}
	}
	return s, nil
}

// encode is the reverse of decodeState.
func (s handedState) encode() json.RawMessage {
	text, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Errorf("handoff: %w", err)) // it has plain values only
	}
	return text
}
