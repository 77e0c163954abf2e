package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gophd/internal/history"
)

const runsPath = "/v1/jobs/{name}/runs"

// parseRunQuery reads the parameters of /v1/jobs/{name}/runs.
func parseRunQuery(values url.Values) (q history.Query, err error) {
	for name, value := range values {
		text := value[0]
		switch name {
		case "count":
			if q.Last, err = strconv.Atoi(text); err != nil || q.Last < 0 {
				return q, fmt.Errorf("count: %.100q is not a number of runs; 0 is all", text)
			}
		case "since":
			if q.Since, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return q, fmt.Errorf("since: %.100q is not a time as in RFC 3339", text)
			}
		case "failed":
			if q.Failed, err = strconv.ParseBool(text); err != nil {
				return q, fmt.Errorf("failed: %.100q is not true or false", text)
			}
		default:
			return q, fmt.Errorf("%.100q is no parameter of runs; use count, since and failed", name)
		}
	}
	return q, nil
}

// getRuns answers with the past runs of a job, an object for each, the oldest first. The goroutine that reads them
// may wait for a disk: see getLogs.
func (s *Server) getRuns(w http.ResponseWriter, q *http.Request) {
	name := q.PathValue("name")
	query, err := parseRunQuery(q.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	if _, _, ok := s.o.Record.Source(name); !ok {
		fail(w, http.StatusNotFound, "there is no job %.100q", name)
		return
	}
	now, path := s.jobNow(name), s.o.Record.History(name)
	s.readFor(w, q, func(ctx context.Context, t *lineBuffer) error {
		AwaitHistory(ctx, path, now.Last)
		runs, err := history.Read(path, query)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // none has ended yet
			return err
		}
		for _, r := range runs.Runs {
			var line bytes.Buffer
			to := json.NewEncoder(&line)
			to.SetEscapeHTML(false)
			if err := to.Encode(r); err != nil {
				return err
			}
			if !t.add(ctx, line.Bytes()) {
				break
			}
		}
		return nil
	})
}

// Runs returns the past runs of a job, the oldest first.
func (c *Client) Runs(ctx context.Context, name string, q history.Query) (runs []history.Run, err error) {
	query := url.Values{"count": {strconv.Itoa(q.Last)}, "failed": {strconv.FormatBool(q.Failed)}}
	if !q.Since.IsZero() {
		query.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	answer, err := c.send(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(name)+"/runs?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	for from := json.NewDecoder(answer.Body); ; {
		var r struct {
			Type string `json:"type"`
			history.Run
		}
		switch err := from.Decode(&r); {
		case err == nil && r.Type == typeReexecuting:
			return nil, fmt.Errorf("%s re-executes; try again", c.path)
		case err == nil:
			runs = append(runs, r.Run)
		case errors.Is(err, io.EOF):
			return runs, nil
		default:
			return nil, fmt.Errorf("the runs of %s cannot be read: %w", c.path, err)
		}
	}
}
