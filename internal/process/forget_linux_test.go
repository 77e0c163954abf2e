package process

import (
	"io"
	"os"
	"testing"
	"time"

	"gophd/internal/job"
)

// TestForgottenWaitsEnd: an image that goes on itself, for the exec failed, has no Wait left of what it had given
// away, while the command goes on.
func TestForgottenWaitsEnd(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0") // of the shim
	s := newSpawner(t)
	s.forget = time.Hour
	p, out, fault := begin(t, s, sh("echo ready; exec sleep 3600"))
	out.await(t, "ready")
	open := func(hs HandedStream) io.WriteCloser { return []*capture{out, fault}[hs.Number-1] }
	descriptors := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before := 0
	for i := range 20 {
		waited := make(chan job.Result, 1)
		go func(p *Process) { waited <- p.Wait() }(p)
		if Leave(p) != nil {
			t.Fatal("it was not left")
		}
		h := p.HandOver()
		Forget(p)
		if r := <-waited; r.PID != 0 {
			t.Errorf("a Wait of what was given away said %+v", r)
		}
		var err error
		if p, err = s.Adopt(h, open); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			before = descriptors()
		}
	}
	if now := descriptors(); now > before {
		t.Errorf("%d descriptors became %d", before, now)
	}
	p.Stop(0)
	p.Wait()
}
