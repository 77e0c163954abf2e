package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"gophd/internal/job"
)

// Client asks the daemon of one socket. Each request has a connection of its own.
type Client struct{ path string }

// NewClient returns a Client of the socket at path. It does not connect.
func NewClient(path string) *Client { return &Client{path} }

// Errors of a Client, besides *Refused.
var (
	ErrNotRunning = errors.New("no gophd listens there")
	ErrPermission = errors.New("no permission; be root, the user of the daemon, or a member of its api.group")
)

// Refused is an answer with the reason why a request was not carried out.
type Refused struct {
	Code int // of HTTP
	Why  string
}

func (r *Refused) Error() string { return r.Why }

// Status returns the state of the daemon.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.do(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Stop requests a stop of the daemon.
func (c *Client) Stop(ctx context.Context) (d Done, err error) {
	return d, c.do(ctx, http.MethodPost, "/v1/stop", nil, &d)
}

// Reload requests a reload.
func (c *Client) Reload(ctx context.Context) (d Done, err error) {
	return d, c.do(ctx, http.MethodPost, "/v1/reload", nil, &d)
}

// Plan asks what a reload would change.
func (c *Client) Plan(ctx context.Context) (d Done, err error) {
	return d, c.do(ctx, http.MethodPost, "/v1/reload", Reload{Plan: true}, &d)
}

// Order sends a request for a job.
func (c *Client) Order(ctx context.Context, name, verb string, o Order) (d Done, err error) {
	return d, c.do(ctx, http.MethodPost, "/v1/jobs/"+url.PathEscape(name)+"/"+verb, o, &d)
}

// Event is what a Client itself reads of an event. Its line has more: docs/events.md.
type Event struct {
	ID       uint64     `json:"id"` // 0 for an event of the stream itself
	Time     time.Time  `json:"time"`
	Type     string     `json:"type"`
	Level    string     `json:"level"`
	Job      string     `json:"job"`
	Run      uint64     `json:"run"`
	PID      int        `json:"run_pid"`
	Request  uint64     `json:"request"`
	Outcome  job.Ending `json:"outcome"`
	ExitCode *int       `json:"exit_code"`
	Length   float64    `json:"duration_seconds"`
	Message  string     `json:"message"`
}

// Events calls yield with each event that the daemon keeps after the one with that number, and with its
// line. With follow it goes on with those to come, over re-execs too. It returns when yield returns
// false, when ctx ends, when there are no more events, or when the daemon has exited.
func (c *Client) Events(ctx context.Context, after uint64, follow bool, yield func(e Event, line []byte) bool) error {
	for {
		again, err := c.stream(ctx, &after, follow, yield)
		if err != nil || !again {
			return err
		}
	}
}

// maxLine limits a line of the stream, in bytes.
const maxLine = 1 << 20

// stream reads one answer. It returns true if the stream goes on in another one, after a re-exec.
func (c *Client) stream(ctx context.Context, after *uint64, follow bool, yield func(Event, []byte) bool) (again bool, err error) {
	answer, err := c.send(ctx, http.MethodGet, fmt.Sprintf("/v1/events?after=%d&follow=%t", *after, follow), nil)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return false, fmt.Errorf("an event of %s cannot be read: %w", c.path, err)
		}
		*after = max(*after, e.ID)
		again = again || e.Type == typeReexecuting
		if !yield(e, lines.Bytes()) {
			return false, nil
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return false, fmt.Errorf("an event of %s cannot be read: %w", c.path, err)
	}
	return again && ctx.Err() == nil, nil // the daemon may have been killed
}

// maxAnswer limits an answer that is read, in bytes: another user's program may have written it.
const maxAnswer = 64 << 20

// do sends a request, with body as JSON if it is not nil, and decodes the answer.
func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	answer, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("the answer of %s cannot be read: %w", c.path, err)
	}
	return nil
}

// send sends a request. The caller closes the body of the answer, whose code is below 400. The client of
// net/http would add as much to the memory of each daemon as all the rest of this package: the program is
// one.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.path)
	if err != nil {
		return nil, c.explain(err)
	}
	answer, err := exchange(ctx, conn, method, path, text)
	if err != nil {
		return nil, c.explain(errors.Join(err, ctx.Err()))
	}
	if answer.StatusCode < 400 {
		return answer, nil
	}
	defer answer.Body.Close()
	var f Failure
	_ = json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&f) // the code is enough
	switch {
	case answer.StatusCode == http.StatusForbidden:
		return nil, ErrPermission
	case f.Error == "":
		f.Error = answer.Status
	}
	return nil, &Refused{answer.StatusCode, f.Error}
}

// exchange sends a request and reads the header of the answer. The connection is closed with its body,
// or when ctx ends.
func exchange(ctx context.Context, conn net.Conn, method, path string, body []byte) (*http.Response, error) {
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	abort := func(err error) (*http.Response, error) {
		release()
		return nil, errors.Join(err, conn.Close())
	}
	_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: gophd\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", method, path,
		len(body), body)
	if err != nil && !errors.Is(err, syscall.EPIPE) { // it may have been refused, with an answer
		return abort(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return abort(err)
	}
	answer.Body = &answerBody{answer.Body, func() error {
		release()
		return conn.Close()
	}}
	return answer, nil
}

// answerBody is the body of an answer, which closes the connection too.
type answerBody struct {
	io.Reader
	close func() error
}

func (b *answerBody) Close() error { return b.close() }

// explain returns the error of a connection.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET): // it has just ended
		return ErrNotRunning
	case errors.Is(err, fs.ErrPermission):
		return ErrPermission
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer from %s", c.path)
	}
	return fmt.Errorf("%s: %w", c.path, err)
}
