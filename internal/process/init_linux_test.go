package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/procfs"
)

// helpInit is process 1 of a PID namespace, or a process that does what process 1 does. It starts
// more than a hundred fast runs. Each leaves an orphan in its group and an escaped process in a
// session of its own, which both exit at some later time.
func helpInit() error {
	s, err := create(true)
	if err != nil {
		return err
	}
	s.readAtOnce = true
	limitBlocking(s)
	const parallel, runs = 4, 40
	outs := make([][]*capture, parallel)
	faults := make(chan error, parallel)
	var all goroutine.Group
	for k := range parallel {
		all.Go(func() {
			for i := range runs {
				out := newCapture()
				outs[k] = append(outs[k], out)
				code := (k*runs + i) % 256
				p, err := s.Start(context.Background(), Command{
					Argv: sh(`(: & setsid /bin/true & echo $!); exit ` + strconv.Itoa(code)), Dir: "/",
					Env:    []string{"PATH=/bin:/usr/bin"},
					Stdout: Output{Open: func(int) io.WriteCloser { return out }}, Stderr: discard(),
				})
				if err != nil {
					faults <- err
					return
				}
				if r := p.Wait(); r.Outcome != job.Exited || r.Code != code {
					faults <- fmt.Errorf("run %d of %d: %v, want exit %d", i, k, r, code)
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-faults:
		return err
	default:
	}
	for _, of := range outs {
		for _, out := range of {
			pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
			if err != nil {
				return err
			}
			if fd, err := unix.PidfdOpen(pid, 0); err == nil {
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
				_ = unix.Close(fd)
			}
		}
	}
	if err := expectReapedBetweenRuns(s); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if pid, err := wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		return fmt.Errorf("process 1 has a child still: %d, %v", pid, err)
	}
	if left := children(); len(left) != 0 {
		return fmt.Errorf("the children %v are left", left)
	}
	if os.Getpid() == 1 {
		var left []int
		procfs.Processes(func(p procfs.Stat) { left = append(left, p.PID) })
		if len(left) != 1 {
			return fmt.Errorf("the namespace holds %v", left)
		}
	}
	return errors.New("all is well")
}

// expectReapedBetweenRuns kills an orphan while no command runs, and waits until it is reaped.
func expectReapedBetweenRuns(s *Spawner) error {
	s.groupGrace = time.Hour // until the orphan has its own session
	out := newCapture()
	p, err := s.Start(context.Background(), Command{
		Argv: sh("setsid sh -c 'echo $$; exec sleep 3600 >/dev/null 2>&1' &"), Dir: "/",
		Env: []string{"PATH=/bin:/usr/bin"}, Stdout: Output{Open: func(int) io.WriteCloser { return out }},
		Stderr: discard(),
	})
	if err != nil {
		return err
	}
	p.Wait()
	for !strings.Contains(out.String(), "\n") {
		<-out.wrote
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	for syscall.Kill(pid, 0) == nil { // it may be a zombie for a short time
		time.Sleep(time.Millisecond)
	}
	return nil
}

// TestReapingAsProcess1 runs helpInit in a process of its own, whose children all descendants
// become that lose their parent.
func TestReapingAsProcess1(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = helperEnv("init")
	if out, _ := cmd.CombinedOutput(); string(out) != "all is well\n" {
		t.Errorf("%s", out)
	}
}
