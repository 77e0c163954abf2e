package supervisor

import (
	"io"
	"strings"
	"testing"

	"gophd/internal/headtail"
	"gophd/internal/job"
	"gophd/internal/line"
	"gophd/internal/process"
)

// target receives a stream, and what its predecessor has left of a line.
type target struct {
	strings.Builder
	closed bool
}

func (w *target) Close() error            { w.closed = true; return nil }
func (w *target) Rest() line.Rest         { return line.Rest{Bytes: []byte("rest")} }
func (w *target) Continue(rest line.Rest) { w.Write(rest.Bytes) }

func failedResult() job.Result { return job.Result{PID: 9, Outcome: job.Exited, Code: 1} }

func captured() *runner {
	return &runner{spec: &job.Spec{}, keepsTail: true,
		outputs: targets{stdout: process.Output{Open: func(int) io.WriteCloser { return &target{} }}}}
}

func TestFailedRunHasTheEndOfItsOutput(t *testing.T) {
	r := captured()
	at := slot{}
	at.tail = r.newTail(at)
	to := &target{}
	out := teed(process.Output{Open: func(int) io.WriteCloser { return to }}, at.tail).Open(9)
	long := strings.Repeat("a line\n", 3000)
	for _, text := range []string{long, "the last line\n", "no end"} {
		if _, err := io.WriteString(out, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil || !to.closed {
		t.Errorf("closed %v: %v", to.closed, err)
	}
	if to.String() != long+"the last line\nno end" {
		t.Error("the stream has changed")
	}
	got := r.lastOutput(at, failedResult())
	if !strings.HasSuffix(got, "\na line\nthe last line\nno end") || len(got) > tailSize || len(got) < tailSize-20 ||
		!strings.HasPrefix(got, "a line\n") {
		t.Errorf("%d bytes of output: %.40q ... %q", len(got), got, got[max(len(got)-40, 0):])
	}
	for name, result := range map[string]job.Result{
		"success":    {PID: 9, Outcome: job.Exited},
		"stopped":    {PID: 9, Outcome: job.Signaled, Signal: 15, Cause: job.ErrInsisted},
		"handed off": {Outcome: job.Exited, Code: 1},
	} {
		if got := r.lastOutput(at, result); got != "" {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
	cut := failedResult()
	cut.Cause = job.ErrTimeout
	if r.lastOutput(at, cut) == "" {
		t.Error("a run that its timeout stopped has no output")
	}
}

// Output that is kept until the result is known is not kept twice.
func TestEndOfOnFailureOutputIsThatOfItsBuffer(t *testing.T) {
	r := captured()
	at := slot{buffer: headtail.New(keptHead, keptTail)}
	if at.tail = r.newTail(at); at.tail != nil {
		t.Error("it is kept twice")
	}
	w := at.buffer.Writer()
	if _, err := io.WriteString(w, strings.Repeat("x\n", 200_000)+"the end\n"); err != nil {
		t.Fatal(err)
	}
	got := r.lastOutput(at, failedResult())
	if !strings.HasPrefix(got, "x\n") || !strings.HasSuffix(got, "\nx\nthe end\n") || len(got) > tailSize {
		t.Errorf("%d bytes", len(got))
	}
	r.keepsTail = false
	if got := r.lastOutput(at, failedResult()); got != "" {
		t.Error("without a history it is kept all the same")
	}
	if at.buffer = nil; r.newTail(at) != nil {
		t.Error("without a history there is a tail")
	}
	r.keepsTail, r.outputs = true, targets{file: "/x"}
	if r.newTail(at) != nil || teed(r.outputs.stdout, nil).Open != nil {
		t.Error("output that gophd does not capture has a tail")
	}
}

// A line that is cut in two by a re-exec is whole in the tail of the next process.
func TestTailContinuesInTheNextProcess(t *testing.T) {
	r := captured()
	old, next := r.newTail(slot{}), r.newTail(slot{})
	first := newTee(&target{}, old)
	_, _ = io.WriteString(first, "one\nthe start of ")
	rest := first.Rest()
	if string(rest.Bytes) != "rest" {
		t.Errorf("the rest is %q", rest.Bytes)
	}
	var handed strings.Builder
	_ = old.Dump(&handed)
	next.Restore([]byte(handed.String()))
	to := &target{}
	second := newTee(to, next)
	second.Continue(rest)
	_, _ = io.WriteString(second, "a line\n")
	if to.String() != "resta line\n" {
		t.Errorf("the next writer got %q", to.String())
	}
	if got := r.lastOutput(slot{tail: next}, failedResult()); got != "one\nthe start of a line\n" {
		t.Errorf("the tail is %q", got)
	}
}
