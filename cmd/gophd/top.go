package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gophd/internal/api"
	"gophd/internal/fault"
	"gophd/internal/goroutine"
	"gophd/internal/terminal"
)

func newTop(p *program) *cobra.Command {
	return &cobra.Command{
		Use:        "top [NAME]",
		SuggestFor: []string{"monitor", "watch", "htop"},
		Short:      "Watch and steer the jobs of all daemons on this host",
		Long: `Watch the jobs of all daemons on this host, or those of one daemon or job: state, time to the next run,
the last runs as bars (their height is the duration), headroom, CPU and memory of the active runs.

Keys:
  up, down, k, j     select a job
  s                  start a run now
  p                  pause the job, or resume it
  n                  skip its next scheduled run
  x                  stop its active run or the job, after a question
  l, enter           its log, or where there is none what happened and the output of its last failed run
  /                  show only the jobs whose name contains a text
  q                  quit`,
		Example: `  gophd top
  gophd top nightly`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.top(cmd.Context(), strings.Join(args, ""))
		},
	}
}

func (p *program) top(ctx context.Context, name string) error {
	out, ok := p.stdout.(*os.File)
	if !ok {
		return &usageError{errors.New("top shows a screen that changes; use gophd list")}
	}
	if err := terminal.Check(os.Stdin, out); err != nil {
		return &usageError{fmt.Errorf("top: %w; use gophd list", err)}
	}
	var of target
	if name != "" {
		var err error
		if of, err = p.target(ctx, name); err != nil {
			return err
		}
	}
	dirs, err := p.runtimeDirs()
	if err != nil {
		return err
	}
	find := func() []api.Found {
		if now, err := p.runtimeDirs(); err == nil { // there may be new ones
			dirs = now
		}
		return api.Files(dirs)
	}
	screen, err := terminal.Open(os.Stdin, out)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &topScreen{screen: screen, feed: newTopFeed(find, of.daemon.Socket), model: topModel{only: of.job},
		answers: make(chan string), logNews: make(chan struct{}, 1), unlog: func() {}, view: topView{color: os.Getenv("NO_COLOR") == ""}}
	defer t.group.Wait()
	defer cancel()
	defer screen.Close() // this is the first: a directory that does not answer delays Wait
	t.group.Go(func() {
		defer cancel() // after a panic
		t.feed.run(ctx)
	})
	return t.run(ctx)
}

// topScreen is the screen of gophd top. Its fields belong to the goroutine of run.
type topScreen struct {
	screen  *terminal.Terminal
	feed    *topFeed
	model   topModel
	view    topView
	answers chan string        // to requests
	logNews chan struct{}      // there are new lines of the log that is shown; capacity 1
	unlog   context.CancelFunc // ends the reading of that
	group   goroutine.Group
	ask     func(key string) // gets the next key, as the answer to a question; nil for none
}

// run shows the screen until the user quits.
func (t *topScreen) run(ctx context.Context) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		fault.At("top")
		t.draw(time.Now())
		select {
		case n := <-t.feed.news:
			t.model.add(n)
		case t.view.message = <-t.answers:
			t.view.messageAt = time.Now()
		case <-t.logNews:
		case now := <-second.C:
			t.view.usage = t.view.usage.measure(activeGroups(t.model.rows("")), now)
		case i := <-t.screen.Inputs():
			switch {
			case i.End && i.Signal != 0:
				return codeError(128 + int(i.Signal))
			case i.End:
				return codeError(codeFailed) // nobody reads a message
			case i.Key != "" && t.key(ctx, i.Key):
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// activeGroups returns the process groups of the active runs.
func activeGroups(rows []topRow) (all []int) {
	for _, r := range rows {
		for _, run := range r.Running {
			if run.PID > 0 {
				all = append(all, run.PID)
			}
		}
	}
	return all
}

func (t *topScreen) draw(now time.Time) {
	width, height := t.screen.Size()
	t.screen.Draw(t.view.lines(&t.model, width, height, now))
}

// key acts on a key. It returns true if the user quits.
func (t *topScreen) key(ctx context.Context, key string) (quit bool) {
	v := &t.view
	v.message = ""
	switch {
	case key == terminal.Interrupt:
		return true
	case t.ask != nil:
		ask := t.ask
		t.ask, v.question = nil, ""
		ask(key)
	case v.typing:
		t.filterKey(key)
	case v.log:
		return t.logKey(key)
	default:
		return t.jobKey(ctx, key)
	}
	return false
}

// filterKey acts on a key while the filter is typed.
func (t *topScreen) filterKey(key string) {
	v := &t.view
	switch key {
	case terminal.Enter:
		v.typing = false
	case terminal.Escape:
		v.typing, v.filter = false, ""
	case terminal.Backspace:
		if text := []rune(v.filter); len(text) > 0 {
			v.filter = string(text[:len(text)-1])
		}
	default:
		if len([]rune(key)) == 1 && len(v.filter) < 100 {
			v.filter += key
		}
	}
}

// logKey acts on a key while the log of a job is shown.
func (t *topScreen) logKey(key string) (quit bool) {
	v := &t.view
	switch key {
	case "q", "l", terminal.Escape, terminal.Enter:
		v.log = false
		t.unlog()
	case "k", terminal.Up:
		v.back++
	case "j", terminal.Down:
		v.back = max(v.back-1, 0)
	case terminal.PageUp:
		v.back += 10
	case terminal.PageDown:
		v.back = max(v.back-10, 0)
	case "g", terminal.Home:
		v.back = 1 << 30 // the view limits it
	case "G", terminal.End:
		v.back = 0
	}
	return false
}

// jobKey acts on a key in the list of jobs.
func (t *topScreen) jobKey(ctx context.Context, key string) (quit bool) {
	v := &t.view
	switch key {
	case "q":
		return true
	case "/":
		v.typing = true
	case terminal.Escape:
		v.filter = ""
	default:
		if rows := t.model.rows(v.filter); len(rows) > 0 {
			t.rowKey(ctx, key, rows)
		}
	}
	return false
}

// rowKey acts on a key that is about one of the rows.
func (t *topScreen) rowKey(ctx context.Context, key string, rows []topRow) {
	v := &t.view
	i := v.index(rows)
	move := func(to int) {
		v.at = min(max(to, 0), len(rows)-1)
		v.selected = rows[v.at].id()
	}
	switch key {
	case "k", terminal.Up:
		move(i - 1)
	case "j", terminal.Down:
		move(i + 1)
	case terminal.PageUp:
		move(i - 10)
	case terminal.PageDown:
		move(i + 10)
	case "g", terminal.Home:
		move(0)
	case "G", terminal.End:
		move(len(rows) - 1)
	case "l", terminal.Enter:
		move(i)
		t.openLog(ctx, rows[i])
	case "s":
		t.order(ctx, rows[i], "start", api.Order{})
	case "p":
		verb := "pause"
		if rows[i].Paused || rows[i].State == api.Stopped || rows[i].State == api.Stopping {
			verb = "resume"
		}
		t.order(ctx, rows[i], verb, api.Order{})
	case "n":
		t.order(ctx, rows[i], "skip", api.Order{})
	case "x":
		t.askStop(ctx, rows[i])
	}
}

// openLog shows the log of a job, and follows it.
func (t *topScreen) openLog(ctx context.Context, r topRow) {
	v := &t.view
	v.log, v.back, v.followed = true, 0, &topLog{}
	t.unlog()
	ctx, t.unlog = context.WithCancel(ctx)
	daemon, name, log := r.daemon.Found, r.Name, v.followed
	t.group.Go(func() { t.feed.readOutput(ctx, daemon, name) })
	t.group.Go(func() {
		log.follow(ctx, placeOf(target{daemon, name}), func() {
			select {
			case t.logNews <- struct{}{}:
			default:
			}
		})
	})
}

// askStop asks what to stop.
func (t *topScreen) askStop(ctx context.Context, r topRow) {
	only := len(r.daemon.Status.Jobs) == 1
	what := "j the job"
	if only {
		what = "j the job: its daemon exits"
	}
	t.view.question = fmt.Sprintf("stop %s? r its active run, %s, any other key nothing", r.label(), what)
	t.ask = func(key string) {
		switch {
		case key == "r":
			t.order(ctx, r, "stop", api.Order{RunOnly: true})
		case key == "j" && only:
			t.request(ctx, r, func(ctx context.Context, c *api.Client) (api.Done, error) { return c.Stop(ctx) })
		case key == "j":
			t.order(ctx, r, "stop", api.Order{})
		}
	}
}

// order sends a request for a job.
func (t *topScreen) order(ctx context.Context, r topRow, verb string, o api.Order) {
	t.request(ctx, r, func(ctx context.Context, c *api.Client) (api.Done, error) { return c.Order(ctx, r.Name, verb, o) })
}

// topRequestTime is how long the answer to a request may take.
const topRequestTime = 10 * time.Second

// request sends a request. What happened is shown when it is known.
func (t *topScreen) request(ctx context.Context, r topRow, send func(context.Context, *api.Client) (api.Done, error)) {
	socket := r.daemon.Socket
	t.view.message, t.view.messageAt = "...", time.Now()
	t.group.Go(func() {
		limited, cancel := context.WithTimeout(ctx, topRequestTime)
		defer cancel()
		done, err := send(limited, api.NewClient(socket))
		text := done.Message
		if err != nil {
			text = err.Error()
		}
		select {
		case t.answers <- printable(text):
			t.feed.askNow(ctx, socket)
		case <-ctx.Done():
		}
	})
}

// index returns which of the rows is selected: the job that was, or the one at its place.
func (v *topView) index(rows []topRow) int {
	if i := slices.IndexFunc(rows, func(r topRow) bool { return r.id() == v.selected }); i >= 0 {
		return i
	}
	return min(v.at, len(rows)-1)
}
