package daemonize

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"gophd/internal/self"
)

// Ready is the daemon's end of the pipe to its parent at the terminal. It accepts one report. A
// program that was not detached has a nil *Ready, whose methods do nothing.
type Ready struct {
	pipe *os.File // nil after the report
}

// Inherit returns the pipe on which the parent waits, or nil when there is none. Commands do not
// inherit it.
func Inherit(s self.Self) (*Ready, error) {
	if s.Ready == "" {
		return nil, nil
	}
	reject := func(err error) (*Ready, error) {
		return nil, fmt.Errorf("cannot report to %s=%.40q: %v: unset it", self.ReadyVariable, s.Ready, err)
	}
	fd, err := strconv.Atoi(s.Ready)
	if err != nil || fd < 3 {
		return reject(errors.New("not the number of a descriptor above 2"))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return reject(err)
	}
	mode, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return reject(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO || mode&unix.O_ACCMODE == unix.O_RDONLY {
		return reject(errors.New("it is not a pipe to write to"))
	}
	unix.CloseOnExec(fd)
	return &Ready{pipe: os.NewFile(uintptr(fd), "ready pipe")}, nil
}

// Serving reports to the terminal that the daemon is ready, and detaches stderr: so far the parent
// reads it, from now on it is /dev/null. It is no error if the parent has exited: the daemon
// continues.
func (r *Ready) Serving(text string) error {
	if r == nil {
		return nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot detach from the terminal: %w", err)
	}
	defer func() { _ = null.Close() }()
	if err := unix.Dup2(int(null.Fd()), 2); err != nil {
		return fmt.Errorf("cannot detach from the terminal: %w", err)
	}
	return r.report(0, text)
}

// Failed reports to the terminal why the daemon exits, and the exit code for the parent. A code
// that is not from 1 to 255 becomes 1. The daemon must exit after it: the parent waits for that,
// and kills it after five seconds.
func (r *Ready) Failed(code int, text string) error {
	if r == nil {
		return nil
	}
	if code < 1 || code > 255 {
		code = 1
	}
	return r.report(code, text)
}

func (r *Ready) report(code int, text string) error {
	if r.pipe == nil {
		return errors.New("the terminal already has the result of the start")
	}
	if len(text) > maxText {
		text = text[:maxText] + " ..."
	}
	data, err := json.Marshal(Report{Code: code, Text: text})
	if err == nil {
		_, err = r.pipe.Write(data)
	}
	if errors.Is(err, unix.EPIPE) {
		err = nil
	}
	err = errors.Join(err, r.pipe.Close())
	r.pipe = nil
	if err != nil {
		return fmt.Errorf("cannot report the result of the start to the terminal: %w", err)
	}
	return nil
}
