package logread

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// unit returns the unit of systemd whose output is in the journal, or "".
func (s Source) unit() string {
	for _, prefix := range []string{Unit, UserUnit} {
		if name, ok := strings.CutPrefix(s.File, prefix); ok {
			return name
		}
	}
	return ""
}

// InUnit reports whether the lines are those of a unit of systemd: all that gophd and its commands write to their
// stdout and stderr.
func (s Source) InUnit() bool { return s.unit() != "" }

// entry is what is read of an entry of the journal (systemd.journal-fields(7)). A field is a string, or a
// list of its bytes if it is not UTF-8.
type entry struct {
	Message   json.RawMessage `json:"MESSAGE"`
	Priority  string          `json:"PRIORITY"`
	PID       string          `json:"_PID"`
	SyslogPID string          `json:"SYSLOG_PID"`
	Job       string          `json:"GOPHD_JOB"`
	Stream    string          `json:"GOPHD_STREAM"`
	Partial   string          `json:"GOPHD_PARTIAL"`
	CRLF      string          `json:"GOPHD_CRLF"`
	Time      string          `json:"__REALTIME_TIMESTAMP"` // microseconds
}

// journalArgs returns the arguments of journalctl(1).
func (s Source) journalArgs(q Query, follow bool, tag string) []string {
	args := []string{"--output=json", "--no-pager", "--all"}
	if from := q.from(); !from.IsZero() {
		args = append(args, fmt.Sprintf("--since=@%d.%06d", from.Unix(), from.Nanosecond()/1000))
	}
	if q.Last > 0 && q.Runs == nil && !q.Command {
		args = append(args, fmt.Sprintf("--lines=%d", q.Last))
	} else if follow { // it shows the last ten otherwise
		args = append(args, "--lines=all")
	}
	if follow {
		args = append(args, "--follow")
	}
	switch {
	case strings.HasPrefix(s.File, UserUnit):
		args = append(args, "_SYSTEMD_USER_UNIT="+s.unit())
	case s.unit() != "":
		args = append(args, "_SYSTEMD_UNIT="+s.unit())
	default:
		args = append(args, "SYSLOG_IDENTIFIER="+tag)
	}
	if s.Job != "" && s.unit() == "" {
		args = append(args, "GOPHD_JOB="+s.Job)
	}
	return args
}

// readJournal reads what journalctl(1) prints.
func (s Source) readJournal(ctx context.Context, q Query, follow bool, tag string, yield func(Line) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "journalctl", s.journalArgs(q, follow, tag)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("the log is in the journal, and journalctl cannot be started: %w", err)
	}
	if q.Until != nil {
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			select {
			case <-q.Until:
				time.AfterFunc(journalDelay, cancel)
			case <-stop:
			}
		}()
	}
	enough, err := s.readEntries(out, q, follow, yield)
	if enough || err != nil {
		cancel()
	}
	failed := cmd.Wait()
	switch {
	case enough, follow && ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	case failed != nil && stderr.Len() > 0:
		return fmt.Errorf("journalctl: %s", bytes.TrimSpace(stderr.Bytes()))
	case failed != nil && errors.As(failed, new(*exec.ExitError)):
		return nil // no entry matches
	}
	return failed
}

// journalDelay is how long journalctl(1) has for the last entries.
const journalDelay = time.Second

// readEntries yields the selected entries. If journalctl cannot count them, it keeps the last ones that are
// there at first.
func (s Source) readEntries(in io.Reader, q Query, follow bool, yield func(Line) bool) (enough bool, err error) {
	keep := q.Last > 0 && (q.Runs != nil || q.Command) && !follow
	var last []Line
	lines := bufio.NewReaderSize(in, 64<<10)
	for {
		text, size, err := readLine(lines)
		if l, ok := s.entry(text); ok && q.selects(l) {
			switch {
			case !keep:
				if !yield(l) {
					return true, nil
				}
			case len(last) == q.Last:
				last = append(slices.Delete(last, 0, 1), l)
			default:
				last = append(last, l)
			}
		}
		if err == io.EOF || size == 0 {
			break
		}
		if err != nil {
			return false, err
		}
	}
	for _, l := range last {
		if !yield(l) {
			return true, nil
		}
	}
	return false, nil
}

// entry returns the line of an entry of the journal.
func (s Source) entry(text []byte) (l Line, mine bool) {
	var e entry
	if json.Unmarshal(text, &e) != nil {
		return l, false
	}
	micros, _ := strconv.ParseInt(e.Time, 10, 64)
	message := bytesOf(e.Message)
	if s.unit() != "" { // the lines of gophd's stderr, and the output of the command as it is
		own, mine := s.parse(message)
		if !own.Time.IsZero() {
			own.raw = nil
			return own, mine
		}
		pid, _ := strconv.Atoi(e.PID)
		return Line{Time: time.UnixMicro(micros), PID: pid, Job: s.Job, Stream: "stdout", Text: message}, !s.Shared || s.Job == ""
	}
	pid, _ := strconv.Atoi(e.SyslogPID)
	l = Line{Time: time.UnixMicro(micros), PID: pid, Job: e.Job, Stream: e.Stream, Text: message,
		Partial: e.Partial == "1", CRLF: e.CRLF == "1"}
	if l.Stream == "" {
		switch e.Priority {
		case "0", "1", "2", "3":
			l.Level = "error"
		case "4":
			l.Level = "warn"
		}
		l.Run = runOf(l.Text)
	}
	known := s.Job != "" || len(s.Jobs) == 0 || l.Job == "" || slices.Contains(s.Jobs, l.Job)
	return l, known
}

// bytesOf returns the value of a field.
func bytesOf(value json.RawMessage) []byte {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return []byte(text)
	}
	var list []uint16 // of bytes
	if json.Unmarshal(value, &list) != nil {
		return nil
	}
	all := make([]byte, len(list))
	for i, b := range list {
		all[i] = byte(b)
	}
	return all
}
