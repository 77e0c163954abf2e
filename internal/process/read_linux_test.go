package process

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"gophd/internal/job"
)

// newReader returns a Spawner that begins to read output as in production.
func newReader(t *testing.T) *Spawner {
	s := newSpawner(t)
	s.readAtOnce = false
	return s
}

// opened counts how often the writer of an output was opened.
func (c *capture) opened() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opens
}

func descriptors() int {
	all, _ := os.ReadDir("/proc/self/fd")
	return len(all)
}

// A short command that writes nothing opens no writer, and leaves no descriptor.
func TestNothingIsReadFromASilentCommand(t *testing.T) {
	s := newReader(t)
	before := descriptors()
	for range 20 {
		p, out, errs := startCommand(t, s, []string{"/bin/true"})
		if r := p.Wait(); !r.OK() {
			t.Fatal(r)
		}
		if n := out.opened() + errs.opened(); n > 0 && os.Getenv(pollerVar) == "" {
			t.Errorf("%d writers were opened", n)
		}
	}
	if after := descriptors(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// Whatever a command does with its outputs, and however long it takes, every byte is delivered.
func TestOutputIsDelivered(t *testing.T) {
	for name, c := range map[string]struct{ script, out, errs string }{
		"at once":                   {"echo a; echo b >&2", "a\n", "b\n"},
		"at the exit":               {"exec >&-; echo b >&2", "", "b\n"},
		"after the other is closed": {"exec 2>&-; sleep 0.05; echo a", "a\n", ""},
		"after both are closed":     {"exec 3>&1 >&- 2>&-; sleep 0.02; echo a >&3", "a\n", ""},
		"late":                      {"sleep 0.15; echo a", "a\n", ""},
		"none":                      {"exec >&- 2>&-; sleep 0.15", "", ""},
		"of a child":                {"(sleep 0.05; echo a) &", "a\n", ""},
		"much":                      {"head -c 300000 /dev/zero | tr '\\0' x", strings.Repeat("x", 300000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newReader(t)
			s.groupGrace = time.Hour // the child of a command may be slow to write
			p, out, errs := startCommand(t, s, []string{"/bin/sh", "-c", c.script})
			if r := p.Wait(); r.Outcome != job.Exited {
				t.Fatal(r)
			}
			if out.String() != c.out || errs.String() != c.errs {
				t.Errorf("%d bytes %.20q, %q", len(out.String()), out, errs)
			}
		})
	}
}

// A command that is handed off before anything was read keeps its pipes, and its output is read by
// the next owner.
func TestUnreadStreamsAreHandedOff(t *testing.T) {
	s := newReader(t)
	p, _, _ := startCommand(t, s, []string{"/bin/sh", "-c", "sleep 0.02; echo a; sleep 0.3; echo b >&2"})
	waited := make(chan job.Result, 1)
	go func() { waited <- p.Wait() }()
	if last := Detach(p); last != nil {
		t.Fatal("it is dead")
	}
	h := p.HandOff()
	if len(h.Streams) != 2 {
		t.Fatalf("%d streams", len(h.Streams))
	}
	outs := [...]*capture{newCapture(), newCapture()}
	next, err := s.Adopt(h, func(h HandedStream) io.WriteCloser { return outs[h.Number-1] })
	if err != nil {
		t.Fatal(err)
	}
	if r := next.Wait(); !r.OK() || outs[0].String() != "a\n" || outs[1].String() != "b\n" {
		t.Errorf("%v, %q, %q", r, outs[0], outs[1])
	}
	Forget(p)
	<-waited
}

// Output is delivered before the command exits.
func TestOutputIsDeliveredWhileTheCommandRuns(t *testing.T) {
	for _, delay := range []string{"0", "0.05", "0.2"} {
		s := newReader(t)
		p, out, _ := startCommand(t, s, []string{"/bin/sh", "-c", "sleep " + delay + "; echo a; exec sleep 3600"})
		waited := make(chan job.Result, 1)
		go func() { waited <- p.Wait() }()
		out.await(t, "a\n")
		p.Stop(time.Hour)
		if r := <-waited; r.Outcome != job.Signaled {
			t.Error(r)
		}
	}
}
