package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/user"
	"strconv"
	"time"

	"gophd/internal/credentials"
	"gophd/internal/job"
	"gophd/internal/request"
)

// Order is the body of a request for a job. Each field is for one verb.
type Order struct {
	Args    []string `json:"args,omitempty"`     // start: added to the command
	RunOnly bool     `json:"run_only,omitempty"` // stop: the active runs, and not the job
	Count   *int     `json:"count,omitempty"`    // skip: how many of the next runs; 1 by default
	Signal  string   `json:"signal,omitempty"`   // signal: its name or number
}

// Done is the answer to a request that was carried out, or has begun.
type Done struct {
	Message string `json:"message"`
	After   uint64 `json:"after"`             // id of the last event before it
	Request uint64 `json:"request,omitempty"` // of the events about the run that was requested
	Plan    *Plan  `json:"plan,omitempty"`    // of a reload
}

// Reload is the body of a request for a reload.
type Reload struct {
	Plan bool `json:"plan,omitempty"` // only say what it would change
}

// Plan is what a reload would change. It was checked as by a reload.
type Plan struct {
	Settings  []Setting    `json:"settings,omitempty"` // of the daemon; with one job, of that too
	Jobs      []PlannedJob `json:"jobs"`               // that would be added, removed or changed
	Unchanged int          `json:"unchanged"`          // jobs
}

// Setting is a setting that would change.
type Setting struct {
	Name string `json:"name"`
	From string `json:"from,omitempty"` // its value, with secrets hidden
	To   string `json:"to,omitempty"`
}

// PlannedJob is a job that would change.
type PlannedJob struct {
	Name     string    `json:"name"`
	Change   string    `json:"change"`             // added, removed or changed
	Schedule string    `json:"schedule,omitempty"` // if it is added
	Settings []Setting `json:"settings,omitempty"` // if it is changed
	Effect   string    `json:"effect,omitempty"`   // when it takes effect, if that is later
}

// maxSkip limits how many runs are skipped.
const maxSkip = 1000

// postReload requests a reload, or says what it would change.
func (s *Server) postReload(w http.ResponseWriter, q *http.Request) {
	var r Reload
	if !s.decode(w, q, &r) {
		return
	}
	done := Done{Message: "the reload has begun", After: s.o.Events.Last()}
	var err error
	if r.Plan {
		done.Message = "a reload would be accepted"
		done.Plan, err = s.o.Daemon.Plan(q.Context())
	} else {
		err = s.o.Daemon.Request(q.Context(), request.Request{Verb: request.Reload, From: from(q)})
	}
	s.reply(w, done, err)
}

// postStop requests a stop of the daemon.
func (s *Server) postStop(w http.ResponseWriter, q *http.Request) {
	var none struct{}
	if !s.decode(w, q, &none) {
		return
	}
	done := Done{Message: "the daemon stops", After: s.o.Events.Last()}
	err := s.o.Daemon.Request(q.Context(), request.Request{Verb: request.Stop, From: from(q)})
	s.reply(w, done, err)
}

// postJob carries out a request for a job.
func (s *Server) postJob(w http.ResponseWriter, q *http.Request) {
	var o Order
	if !s.decode(w, q, &o) {
		return
	}
	verb := q.PathValue("verb")
	r, message, err := forJob(verb, o)
	if err != nil {
		code := http.StatusBadRequest
		if errors.Is(err, errVerb) {
			code = http.StatusNotFound
		}
		fail(w, code, "%v", err)
		return
	}
	r.Job, r.From = q.PathValue("name"), from(q)
	done := Done{Message: r.Job + " " + message, After: s.o.Events.Last()}
	run, err := s.o.Daemon.RequestJob(q.Context(), r)
	if run != nil {
		done.Request = run.ID
	}
	s.reply(w, done, err)
}

var errVerb = errors.New("no request for a job; use start, stop, pause, resume, skip, restart or signal")

// forJob returns the request of a verb, and what it does.
func forJob(verb string, o Order) (r request.ForJob, message string, err error) {
	allowed := Order{}
	switch verb {
	case "start":
		r.Verb, r.Args, message, allowed.Args = request.Start, o.Args, "is started", o.Args
	case "stop":
		r.Verb, message, allowed.RunOnly = request.Halt, "is stopped: no run starts by itself", o.RunOnly
		if o.RunOnly {
			r.Verb, message = request.StopRun, "goes on, its active run is stopped"
		}
	case "pause":
		r.Verb, message = request.Pause, "is paused: no run starts by itself"
	case "resume":
		r.Verb, message = request.Resume, "is active"
	case "skip":
		r.Verb, r.Count, message, allowed.Count = request.Skip, 1, "skips its next scheduled run", o.Count
		if o.Count != nil {
			r.Count = *o.Count
		}
		switch r.Count {
		case 0:
			message = "skips no run"
		case 1:
		default:
			message = fmt.Sprintf("skips its next %d scheduled runs", r.Count)
		}
		if r.Count < 0 || r.Count > maxSkip {
			return r, "", fmt.Errorf("count %d: not a number of runs from 0 to %d", r.Count, maxSkip)
		}
	case "restart":
		r.Verb, message = request.Restart, "is restarted"
	case "signal":
		r.Verb, allowed.Signal = request.Signal, o.Signal
		if r.Signal, err = credentials.ParseSignal(o.Signal); err != nil {
			return r, "", fmt.Errorf("signal: %w", err)
		}
		message = "gets the signal " + job.SignalName(r.Signal)
	default:
		return r, "", fmt.Errorf("%.100q is %w", verb, errVerb)
	}
	if o.Args != nil && allowed.Args == nil || o.RunOnly != allowed.RunOnly || o.Count != allowed.Count || o.Signal != allowed.Signal {
		return r, "", fmt.Errorf("a field of the body is not for %s", verb)
	}
	return r, message, nil
}

// decode reads the body of a request, which may be empty.
func (s *Server) decode(w http.ResponseWriter, q *http.Request, into any) bool {
	d := json.NewDecoder(q.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil && d.More() {
		err = errors.New("more than one value")
	}
	switch {
	case err == nil, errors.Is(err, io.EOF):
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // the answer may take longer
		return true
	case errors.As(err, new(*http.MaxBytesError)):
		fail(w, http.StatusRequestEntityTooLarge, "the body has more than %d bytes", maxBody)
	default:
		fail(w, http.StatusBadRequest, "the body is not valid: %v", err)
	}
	return false
}

// from names the client as the log has it.
func from(q *http.Request) string {
	p, _ := q.Context().Value(peerKey{}).(Peer)
	name := "uid " + strconv.Itoa(p.UID)
	if u, err := user.LookupId(strconv.Itoa(p.UID)); err == nil {
		name = "user " + u.Username
	}
	if p.PID > 0 {
		name += ", pid " + strconv.Itoa(p.PID)
	}
	return name
}

// reply answers a request.
func (s *Server) reply(w http.ResponseWriter, done Done, err error) {
	switch {
	case err == nil:
		answer(w, http.StatusOK, done)
	case errors.As(err, new(*request.UnknownJobError)):
		fail(w, http.StatusNotFound, "%v", err)
	case errors.As(err, new(*request.RejectedError)):
		fail(w, http.StatusConflict, "%v", err)
	default: // the client, or this process, is gone
		fail(w, http.StatusServiceUnavailable, "%v", err)
	}
}
