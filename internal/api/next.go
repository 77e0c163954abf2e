package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gophd/internal/job"
)

// NextRuns are the coming runs of the jobs of a daemon that have a schedule, in the order of their due times.
type NextRuns struct {
	Daemon string    `json:"daemon"`
	Runs   []NextRun `json:"runs"`
	None   []string  `json:"none,omitempty"` // why a job has none, a line for each
}

// NextRun is a due time.
type NextRun struct {
	Job   string    `json:"job"`
	Due   time.Time `json:"due"`            // in UTC
	Local time.Time `json:"local"`          // with the offset of the job's time zone
	Zone  string    `json:"zone"`           // its abbreviation then, such as CET
	Note  string    `json:"note,omitempty"` // a change of the clock, a splay, a pause, or a skip
}

// MaxNext is the highest number of runs in an answer.
const MaxNext = 1000

const fewNext = 10 // without a number

// getNext answers with the coming runs of one job or of all.
func (s *Server) getNext(w http.ResponseWriter, q *http.Request) {
	query, now := q.URL.Query(), time.Now()
	after, count, name := now, fewNext, query.Get("job")
	if text := query.Get("after"); text != "" {
		var err error
		if after, err = time.Parse(time.RFC3339Nano, text); err != nil {
			fail(w, http.StatusBadRequest, "after: %.40q is not a time; write one such as 2026-12-24T18:00:00Z", text)
			return
		}
	}
	if text := query.Get("count"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil || count < 1 || count > MaxNext {
			fail(w, http.StatusBadRequest, "count: %.40q is not a number from 1 to %d", text, MaxNext)
			return
		}
	}
	snapshot := s.o.Daemon.Snapshot()
	var timed []job.Timed
	held, found := map[string]string{}, false
	skip := map[string]int{}
	for _, j := range snapshot.Jobs {
		if name != "" && j.Name != name {
			continue
		}
		found = true
		switch {
		case j.Timed.Calendar != nil:
			timed = append(timed, j.Timed)
			held[j.Name], skip[j.Name] = j.Held, j.Skip
		case name != "":
			fail(w, http.StatusConflict, "%s has no schedule: it runs %s", j.Name, j.Schedule)
			return
		}
	}
	if name != "" && !found {
		fail(w, http.StatusNotFound, "there is no job %.100q", name)
		return
	}
	runs, none := job.Coming(timed, after, count)
	all := NextRuns{Daemon: snapshot.Name, Runs: make([]NextRun, 0, len(runs)), None: none}
	for _, r := range runs {
		zone, _ := r.Due.Zone()
		note := r.Note
		switch why := held[r.Job]; {
		case why == "paused", why == "stopped":
			note = with(note, "the job is "+why)
		case skip[r.Job] > 0 && !after.After(now) && r.Due.After(now):
			skip[r.Job]--
			note = with(note, "is skipped, as requested")
		}
		all.Runs = append(all.Runs, NextRun{r.Job, r.Due.UTC(), r.Due, zone, note})
	}
	answer(w, http.StatusOK, all)
}

func with(note, further string) string {
	if note == "" {
		return further
	}
	return note + "; " + further
}

// Next returns the first runs after an instant of a job, or of all jobs that have a schedule if its name is "".
// The count is at most MaxNext.
func (c *Client) Next(ctx context.Context, name string, after time.Time, count int) (all NextRuns, err error) {
	query := url.Values{"count": {fmt.Sprint(count)}, "after": {after.UTC().Format(time.RFC3339Nano)}}
	if name != "" {
		query.Set("job", name)
	}
	return all, c.do(ctx, http.MethodGet, "/v1/next?"+query.Encode(), nil, &all)
}
