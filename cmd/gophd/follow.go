package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"gophd/internal/api"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/logread"
)

// follower prints the output of one run while that is active, from the log.
type follower struct {
	p     *program
	from  logPlace
	until chan struct{} // closed when the run has ended, and its output is in the log
	group goroutine.Group
	begun bool  // there is a goroutine
	err   error // when it has ended
}

func (p *program) follower(t target) *follower {
	return &follower{p: p, from: placeOf(t), until: make(chan struct{})}
}

// begin prints the output of a run that has started.
func (f *follower) begin(ctx context.Context, run logread.Run) {
	if !f.from.hasOutput() {
		fmt.Fprintf(f.p.stderr, "gophd: %s\n", printable(f.from.note()))
	}
	if f.from.source.File == "" {
		if f.from.output == job.OutputLog {
			fmt.Fprintf(f.p.stderr, "gophd: where the output goes is not known\n")
		}
		return
	}
	f.begun = true
	f.group.Go(func() { f.err = f.read(ctx, run) })
}

// read prints lines until the last one of the run.
func (f *follower) read(ctx context.Context, run logread.Run) error {
	show := func(l logread.Line) bool {
		to := f.p.stdout
		if l.Stream == "stderr" {
			to = f.p.stderr
		}
		_, err := to.Write(l.Output())
		return err == nil
	}
	query := logread.Query{Command: true, Runs: []logread.Run{run}, Until: f.until}
	err := logread.Read(ctx, f.from.source, query, true, show)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // it ends with the daemon's answer, or with this process
		select {
		case <-f.until:
			time.AfterFunc(answerDelay, cancel)
		case <-ctx.Done():
		}
	}()
	return f.from.ask(ctx, api.LogQuery{Run: run.Number, Follow: true}, func(l logread.Line) bool {
		return l.Stream == "" || show(l)
	})
}

const (
	answerDelay = 500 * time.Millisecond // for the last lines that the daemon reads
	writtenIn   = 10 * time.Second       // how long the log may take to write what it has taken
)

// end prints the rest of the output of a run that has ended. The log has taken it, and may not have written it.
func (f *follower) end() {
	if !f.begun {
		return
	}
	c := api.NewClient(f.from.daemon.Socket)
	for began := time.Now(); time.Since(began) < writtenIn && f.pending(c); {
		time.Sleep(10 * time.Millisecond)
	}
	close(f.until)
	f.group.Wait()
	if f.begun = false; f.err != nil {
		fmt.Fprintf(f.p.stderr, "gophd: the output cannot be read: %s\n", printable(f.err.Error()))
	}
}

// pending reports whether lines are not in the log yet. A daemon that has ended has written them.
func (f *follower) pending(c *api.Client) bool {
	ctx, cancel := context.WithTimeout(context.Background(), writtenIn)
	defer cancel()
	s, err := c.Status(ctx)
	if err != nil {
		return false
	}
	for _, j := range s.Jobs {
		if j.Name == f.from.job {
			return j.Pending
		}
	}
	return false
}
