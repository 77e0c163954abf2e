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

// Ready is the daemon's end of the pipe to the terminal. One report may be made. On a nil *Ready, that
// of a program which was not detached, nothing is to be said and the methods do nothing.
type Ready struct {
	pipe *os.File // nil after the report
}

// Inherit returns the pipe on which the parent waits, or nil when there is none. It is not passed on
// to commands.
func Inherit(s self.Self) (*Ready, error) {
	if s.Ready == "" {
		return nil, nil
	}
	refuse := func(err error) (*Ready, error) {
		return nil, fmt.Errorf("cannot report to %s=%.40q: %v: unset it", self.ReadyVariable, s.Ready, err)
	}
	fd, err := strconv.Atoi(s.Ready)
	if err != nil || fd < 3 {
		return refuse(errors.New("not the number of a descriptor above 2"))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return refuse(err)
	}
	mode, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return refuse(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO || mode&unix.O_ACCMODE == unix.O_RDONLY {
		return refuse(errors.New("it is not a pipe to write to"))
	}
	unix.CloseOnExec(fd)
	return &Ready{pipe: os.NewFile(uintptr(fd), "ready pipe")}, nil
}

// Serving tells the terminal that the daemon serves, and leaves it: stderr, so far seen by the parent,
// becomes /dev/null. That the parent is gone is no error, since the daemon was asked for and stands.
func (r *Ready) Serving(text string) error {
	if r == nil {
		return nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot leave the terminal: %w", err)
	}
	defer func() { _ = null.Close() }()
	if err := unix.Dup2(int(null.Fd()), 2); err != nil {
		return fmt.Errorf("cannot leave the terminal: %w", err)
	}
	return r.report(0, text)
}

// Failed tells the terminal why the daemon ends, and the exit code to leave with; a code that says
// nothing of a failure becomes 1. The daemon ends after it: the parent waits for that, and kills it
// after five seconds.
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
		return errors.New("the terminal has been told already how the start went")
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
		return fmt.Errorf("cannot tell the terminal how the start went: %w", err)
	}
	return nil
}
