package supervisor

import (
	"bytes"
	"io"

	"gophd/internal/headtail"
	"gophd/internal/job"
	"gophd/internal/line"
	"gophd/internal/process"
)

// tailSize is how much of the end of its output the Result of a failed run has.
const tailSize = 10 << 10

// newTail returns a buffer for the end of a run's output; nil if that is not kept, or is in another
// buffer.
func (r *runner) newTail(at slot) *headtail.Buffer {
	if at.buffer != nil || r.outputs.stdout.Open == nil {
		return nil
	}
	if r.mailer != nil {
		return headtail.New(keptHead, keptTail)
	}
	if !r.keepsTail {
		return nil
	}
	return headtail.New(0, tailSize)
}

// lastOutput returns the end of the output of a run that failed: whole lines, unless one is longer than
// that.
func (r *runner) lastOutput(at slot, result job.Result) string {
	kept := at.tail
	if kept == nil {
		kept = at.buffer
	}
	result.Verdict = r.spec.Judge(result)
	if kept == nil || !r.keepsTail || result.PID == 0 || !result.Failed() { // PID 0: it was handed off
		return ""
	}
	var all bytes.Buffer
	_ = kept.Dump(&all) // a buffer accepts everything
	text := all.Bytes()
	if skip := len(text) - tailSize; skip > 0 {
		text = text[skip:]
		text = text[line.First(text):]
	}
	return string(text)
}

// teed returns an output whose end is kept, too.
func teed(o process.Output, tail *headtail.Buffer) process.Output {
	if open := o.Open; open != nil && tail != nil {
		o.Open = func(pid int) io.WriteCloser { return newTee(open(pid), tail) }
	}
	return o
}

// tee passes on a stream and keeps its end.
type tee struct {
	to, tail io.WriteCloser
}

var _ process.Rester = (*tee)(nil)

func newTee(to io.WriteCloser, tail *headtail.Buffer) *tee { return &tee{to, tail.Writer()} }

func (t *tee) Write(p []byte) (int, error) {
	_, _ = t.tail.Write(p) // it never fails
	return t.to.Write(p)
}

func (t *tee) Close() error {
	_ = t.tail.Close() // it never fails
	return t.to.Close()
}

// Rest leaves the unfinished line in the tail: what the next process restores has it.
func (t *tee) Rest() line.Rest {
	_ = t.tail.Close() // it never fails
	if r, ok := t.to.(process.Rester); ok {
		return r.Rest()
	}
	_ = t.to.Close() // as for a stream without a Rester
	return line.Rest{}
}

// Continue continues the line of the stream; the tail has it.
func (t *tee) Continue(rest line.Rest) {
	if r, ok := t.to.(process.Rester); ok {
		r.Continue(rest)
	}
}
