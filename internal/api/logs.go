package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/history"
	"gophd/internal/job"
	"gophd/internal/logging"
	"gophd/internal/logread"
)

// Logs says where the lines of a daemon and its jobs are.
type Logs struct {
	Log  string    `json:"log,omitempty"`  // of the daemon: a logread.Source.File; "" for none
	Many bool      `json:"many,omitempty"` // the jobs are those of a map, and the log has their names
	Jobs []JobLogs `json:"jobs,omitempty"`
}

// JobLogs says where the lines of a job are.
type JobLogs struct {
	Name   string `json:"name"`
	Log    string `json:"log,omitempty"`    // of its own
	Output string `json:"output,omitempty"` // job.output, if it is not log
}

// Source returns where the lines about a job are, and its job.Output; with "" those of the daemon. ok is
// false if there is no such job.
func (l Logs) Source(name string) (s logread.Source, output job.Output, ok bool) {
	s = logread.Source{File: l.Log, Shared: l.Many}
	for _, j := range l.Jobs {
		s.Jobs = append(s.Jobs, j.Name)
	}
	if name == "" {
		return s, job.OutputLog, true
	}
	i := slices.Index(s.Jobs, name)
	if i < 0 {
		return s, "", false
	}
	j := l.Jobs[i]
	if s.Job, output = name, job.OutputLog; j.Output != "" {
		output = job.Output(j.Output)
	}
	if j.Log != "" {
		s.File, s.Shared = j.Log, false
	}
	return s, output, true
}

// FileName returns the name of the files of a job, as config.Config does.
func (r Record) FileName(name string) string {
	if r.Many {
		return r.Daemon + "." + name
	}
	return name
}

// History returns the path of the history of a job.
func (r Record) History(name string) string { return history.Path(r.StateDir, r.FileName(name)) }

// UnknownRunError says that a job has no such run, as far as that is known.
type UnknownRunError struct {
	Job string
	Run uint64
}

func (e *UnknownRunError) Error() string {
	return fmt.Sprintf("there is no run %d in the history of %s", e.Run, e.Job)
}

// Runs returns the last run with a number, or with 0 those that failed, from the active runs of a job and
// the history at path. It blocks for as long as the disk does.
func Runs(name, path string, active []Run, number uint64) ([]logread.Run, error) {
	for _, r := range active {
		if r.Run == number && number > 0 {
			return []logread.Run{{Number: r.Run, PID: r.PID, Started: r.Started}}, nil
		}
	}
	past, err := history.Read(path, history.Query{Failed: number == 0})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	found := []logread.Run{}
	for _, r := range slices.Backward(past.Runs) {
		if number == 0 || r.Number == number {
			found = append(found, logread.Run{Number: r.Number, PID: r.PID, Started: r.Started, Ended: r.Ended})
		}
		if number > 0 && len(found) > 0 {
			return found, nil
		}
	}
	if number > 0 {
		return nil, &UnknownRunError{name, number}
	}
	return found, nil
}

// historyDelay is how long after its end a run is in the history, at the latest, unless the disk is slow.
const historyDelay = time.Second

// AwaitHistory waits until the last run of a job is in the history at path: it is written some moments after
// the end of the run. It does not wait if the run has ended longer ago.
func AwaitHistory(ctx context.Context, path string, last *Last) {
	for last != nil && time.Since(last.Ended) < historyDelay && ctx.Err() == nil {
		runs, err := history.Read(path, history.Query{Last: 1})
		if err == nil && len(runs.Runs) > 0 && !runs.Runs[0].Ended.Before(last.Ended) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// LogQuery selects lines of a log, as the parameters of /v1/jobs/{name}/logs do.
type LogQuery struct {
	Lines  int       // the last ones; 0 for all
	Since  time.Time // those of that time or later
	Skip   int       // without the first of these
	Run    uint64    // those of that run
	Failed bool      // those of failed runs
	Follow bool      // go on with those to come
}

func parseLogQuery(values map[string][]string) (q LogQuery, err error) {
	for name, value := range values {
		text := value[0]
		switch name {
		case "lines":
			if q.Lines, err = strconv.Atoi(text); err != nil || q.Lines < 0 || q.Lines > maxLines {
				return q, fmt.Errorf("lines: %.100q is not a number from 0 to %d; 0 is all", text, maxLines)
			}
		case "skip":
			if q.Skip, err = strconv.Atoi(text); err != nil || q.Skip < 0 {
				return q, fmt.Errorf("skip: %.100q is not a number of lines", text)
			}
		case "run":
			if q.Run, err = strconv.ParseUint(text, 10, 64); err != nil || q.Run == 0 {
				return q, fmt.Errorf("run: %.100q is not the number of a run", text)
			}
		case "since":
			if q.Since, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return q, fmt.Errorf("since: %.100q is not a time as in RFC 3339", text)
			}
		case "failed", "follow":
			is, err := strconv.ParseBool(text)
			if err != nil {
				return q, fmt.Errorf("%s: %.100q is not true or false", name, text)
			}
			if name == "failed" {
				q.Failed = is
			} else {
				q.Follow = is
			}
		default:
			return q, fmt.Errorf("%.100q is no parameter of logs; use lines, since, skip, run, failed and follow", name)
		}
	}
	if q.Run > 0 && q.Failed {
		return q, errors.New("run and failed exclude each other")
	}
	return q, nil
}

// Limits of the logs.
const (
	maxLines   = 100_000
	maxReaders = 16              // at a time
	maxBatch   = 256 << 10       // bytes that are read and not written to the client yet
	readerTime = 1 * time.Minute // for a client to take some of them
)

// getLogs answers with lines of the log of a job, an object for each. The goroutine that reads them may wait
// for a disk that does not answer. Nothing waits for it: not this handler when the server ends, and no other
// answer. Before an exec the daemon looks whether a thread waits for a disk.
func (s *Server) getLogs(w http.ResponseWriter, q *http.Request) {
	name := q.PathValue("name")
	query, err := parseLogQuery(q.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, "%v", err)
		return
	}
	source, output, ok := s.o.Record.Source(name)
	switch service, _ := logging.IsService(source.File); {
	case !ok:
		fail(w, http.StatusNotFound, "there is no job %.100q", name)
		return
	case service != "", !strings.HasPrefix(source.File, "/"):
		fail(w, http.StatusConflict, "the daemon itself has no file to read: %s", Whereabouts(name, source, output))
		return
	}
	now := s.jobNow(name)
	s.readFor(w, q, func(ctx context.Context, t *lineBuffer) error {
		return t.read(ctx, source, s.o.Record.History(name), now, query)
	})
}

// jobNow returns the state of a job.
func (s *Server) jobNow(name string) (now Job) {
	for _, j := range statusOf(s.o.Daemon.Snapshot()).Jobs {
		if j.Name == name {
			now = j
		}
	}
	return now
}

// readFor answers with the lines that read adds, which runs in a goroutine of its own.
func (s *Server) readFor(w http.ResponseWriter, q *http.Request, read func(context.Context, *lineBuffer) error) {
	if s.readers.Add(1) > maxReaders {
		s.readers.Add(-1)
		fail(w, http.StatusServiceUnavailable, "%d other clients read logs or runs", maxReaders)
		return
	}
	ctx, cancel := context.WithCancel(q.Context())
	defer cancel()
	t := &lineBuffer{news: make(chan struct{}, 1), space: make(chan struct{}, 1), done: make(chan struct{})}
	go func() { // nobody waits for it, see getLogs
		defer s.readers.Add(-1)
		defer close(t.done)
		if p := goroutine.Catch(func() { t.err = read(ctx, t) }); p != nil {
			t.err = p
			s.o.Panicked(p)
		}
	}()
	s.sendLines(ctx, w, t)
}

// sendLines writes lines to the client, until there are no more, it is gone, or the server ends.
func (s *Server) sendLines(ctx context.Context, w http.ResponseWriter, t *lineBuffer) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the connection may be open for long
	begun := false
	send := func(text []byte) bool {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		_ = control.SetWriteDeadline(time.Now().Add(readerTime))
		if _, err := w.Write(text); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	for {
		select {
		case <-t.news:
			if !send(t.take()) {
				return
			}
		case <-t.done:
			unknown := (*UnknownRunError)(nil)
			switch {
			case t.err == nil || begun:
				send(t.take())
			case errors.As(t.err, &unknown):
				fail(w, http.StatusNotFound, "%v", t.err)
			default:
				fail(w, http.StatusConflict, "%v", t.err)
			}
			return
		case <-ctx.Done():
			return
		case <-s.ending:
			if s.reexecuting.Load() {
				send(append(t.take(), note(typeReexecuting, "the stream ends because gophd re-execs")...))
			}
			return
		}
	}
}

// lineBuffer has lines on their way from the goroutine that reads them to the one that writes them.
type lineBuffer struct {
	news  chan struct{} // there are some; capacity 1
	space chan struct{} // some were taken; capacity 1
	done  chan struct{} // closed when there are no more
	err   error         // after done

	mu   sync.Mutex
	text []byte
}

func (t *lineBuffer) take() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := t.text
	t.text = nil
	wake(t.space)
	return text
}

// add adds a line. It waits while there are many.
func (t *lineBuffer) add(ctx context.Context, line []byte) bool {
	t.mu.Lock()
	t.text = append(t.text, line...)
	size := len(t.text)
	t.mu.Unlock()
	wake(t.news)
	if size > maxBatch {
		select {
		case <-t.space:
			return true
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// read reads the lines of a job, whose state is known.
func (t *lineBuffer) read(ctx context.Context, s logread.Source, history string, now Job, q LogQuery) error {
	query := logread.Query{Last: q.Lines, Since: q.Since}
	if q.Run > 0 || q.Failed {
		AwaitHistory(ctx, history, now.Last)
		runs, err := Runs(s.Job, history, now.Running, q.Run)
		if err != nil || len(runs) == 0 {
			return err
		}
		query.Runs = runs
	}
	skip := q.Skip
	return logread.Read(ctx, s, query, q.Follow, func(l logread.Line) bool {
		if skip > 0 {
			skip--
			return true
		}
		return t.add(ctx, l.AppendJSON(nil))
	})
}

// Whereabouts says where the lines of a job are that are in no log file.
func Whereabouts(name string, s logread.Source, output job.Output) string {
	service, tag := logging.IsService(s.File)
	switch {
	case service == "journald":
		return fmt.Sprintf("its log is in the journal: journalctl -t %s GOPHD_JOB=%s", tag, name)
	case service == "syslog":
		return fmt.Sprintf("its log goes to syslog: look for the tag %s there", tag)
	case s.File != "":
		_, unit, _ := strings.Cut(s.File, ":")
		return "its log is in the journal: journalctl -u " + unit
	}
	return "gophd has no log file: its own lines go to its stderr, and " + OutputText(output)
}

// OutputText says where the output of a command goes that is not in the log.
func OutputText(output job.Output) string {
	switch output {
	case job.OutputLog, job.OutputInherit:
		return "the output of the command goes to its stdout and stderr (job.output: inherit)"
	case job.OutputDiscard:
		return "the output of the command is discarded (job.output: discard)"
	case job.OutputOnFailure:
		return "the output of failed runs too (job.output: on-failure)"
	}
	return "the output of the command goes to " + string(output) + " (job.output)"
}

// Logs calls yield with lines of the log of a job. With Follow it goes on with those to come, over re-execs
// too, until the daemon has exited. It changes the query to one for the lines after those.
func (c *Client) Logs(ctx context.Context, name string, q *LogQuery, yield func(logread.Line) bool) error {
	for {
		again, err := c.streamLogs(ctx, name, q, yield)
		if err != nil || !again || ctx.Err() != nil {
			return err
		}
	}
}

// maxLogLine limits a line of the answer, in bytes: a byte of the command may need six.
const maxLogLine = 8 << 20

// streamLogs reads one answer, and changes the query to one for the lines after it.
func (c *Client) streamLogs(ctx context.Context, name string, q *LogQuery, yield func(logread.Line) bool) (
	again bool, err error) {
	answer, err := c.send(ctx, http.MethodGet, "/v1/jobs/"+url.PathEscape(name)+"/logs?"+q.encode(), nil)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, maxLogLine)
	for lines.Scan() {
		var e struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Type == typeReexecuting {
			return q.Follow, nil
		}
		l := logread.ParseJSON(slices.Clone(lines.Bytes()))
		switch {
		case l.Time.IsZero():
		case l.Time.Equal(q.Since):
			q.Skip++
		default:
			q.Since, q.Skip = l.Time, 1
		}
		q.Lines = 0
		if !yield(l) {
			return false, nil
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return false, fmt.Errorf("the lines of %s cannot be read: %w", c.path, err)
	}
	return false, nil
}

func (q LogQuery) encode() string {
	text := "lines=" + strconv.Itoa(q.Lines) + "&skip=" + strconv.Itoa(q.Skip) + "&failed=" + strconv.FormatBool(q.Failed) +
		"&follow=" + strconv.FormatBool(q.Follow)
	if q.Run > 0 {
		text += "&run=" + strconv.FormatUint(q.Run, 10)
	}
	if !q.Since.IsZero() {
		text += "&since=" + q.Since.UTC().Format(time.RFC3339Nano)
	}
	return text
}
