package api

import (
	"bytes"
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
)

// Client asks the daemon of one socket.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a Client of the socket at path. It does not connect.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http.Transport = &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}
	return c
}

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

// send sends a request. The caller closes the body of the answer, whose code is below 400.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	q, err := http.NewRequestWithContext(ctx, method, "http://gophd"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(q)
	if err != nil {
		return nil, c.explain(err)
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

// explain returns the error of a connection.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return ErrNotRunning
	case errors.Is(err, fs.ErrPermission):
		return ErrPermission
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer from %s", c.path)
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("%s: %w", c.path, err)
}
