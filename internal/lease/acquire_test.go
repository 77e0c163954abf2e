package lease

import (
	"errors"
	"slices"
	"testing"
	"time"

	"gophd/internal/config"
	"gophd/internal/event"
	"gophd/internal/goroutine"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
)

// client records the calls of a Lease, in sequence.
type client struct {
	calls    chan string
	pidFile  error // of TakePIDFile
	leftover bool  // of SearchLeftover
	err      error // of Failed
}

func newClient() *client { return &client{calls: make(chan string, 100)} }

func (n *client) OnLocked() { n.calls <- "locked" }
func (n *client) TakePIDFile() error {
	n.calls <- "PID file"
	return n.pidFile
}
func (n *client) SearchLeftover() bool {
	n.calls <- "leftover"
	return n.leftover
}
func (n *client) Held()          { n.calls <- "held" }
func (n *client) TakenOver()     { n.calls <- "taken over" }
func (n *client) Standby(string) { n.calls <- "standby" }
func (n *client) Ending(error)   { n.calls <- "ending" }
func (n *client) RemovePIDFile() { n.calls <- "remove PID file" }
func (n *client) Failed(err, _ error) {
	n.err = err
	n.calls <- "failed"
}

// expect waits for these calls, and no others before them.
func (n *client) expect(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for range want {
		select {
		case call := <-n.calls:
			got = append(got, call)
		case <-t.Context().Done():
			t.Fatalf("calls %q, want %q", got, want)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("calls %q, want %q", got, want)
	}
}

// open returns a Lease in the directory, with the given URL, and the group of its goroutine.
func open(t *testing.T, dir, url string, n *client, change func(*Options)) (*Lease, *goroutine.Group) {
	t.Helper()
	c := &config.Config{Name: "x", Directories: config.Directories{StateDir: dir}, Jobs: []job.Spec{{Name: "x"}},
		Heartbeat: config.Heartbeat{URL: url, TTL: time.Minute, Renew: 10 * time.Second, StopGrace: time.Second,
			Timeout: time.Second, AcquireTimeout: time.Second}}
	o := Options{Config: c, Name: "x", Started: time.Now(), Events: event.NewStream(func(event.Event) {}), Client: n,
		Timers: openTimers(t)}
	if change != nil {
		change(&o)
	}
	path := dir + "/x.heartbeat"
	if url == "file:" {
		c.Heartbeat.URL = "file:" + path
	}
	o.Path, o.Standby = LockPath(c), o.Standby || c.Heartbeat.Standby
	if c.Heartbeat.Shared() && o.Store == nil {
		store, err := OpenStore(c.Heartbeat)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		o.Store = store
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, new(goroutine.Group)
}

func TestLeaseOfTheLocalLock(t *testing.T) {
	n := newClient()
	l, g := open(t, t.TempDir(), "file:", n, nil)
	if l.Shut() == nil {
		t.Error("runs may start before the lease was requested")
	}
	l.Start(g)
	n.expect(t, "locked", "PID file", "held")
	if l.Shut() != nil {
		t.Error("no run may start while the lease is held")
	}
	l.ReleaseEarly()
	l.ReleaseEarly()
	l.Release()
	g.Wait()
	n.expect(t, "remove PID file", "remove PID file") // the client ignores the second
	if !l.Released() {
		t.Error("the lease was not released")
	}
}

func TestLeaseWithoutAStoreIsHeldAtOnce(t *testing.T) {
	n := newClient()
	l, _ := open(t, t.TempDir(), "none:", n, nil)
	l.Begin()
	l.Begin()
	n.expect(t, "locked", "PID file", "held")
	l.Release()
	n.expect(t, "remove PID file")
}

func TestSecondInstanceFails(t *testing.T) {
	dir, first, second := t.TempDir(), newClient(), newClient()
	l, g := open(t, dir, "file:", first, nil)
	l.Start(g)
	first.expect(t, "locked", "PID file", "held")
	m, h := open(t, dir, "file:", second, nil)
	m.Start(h)
	second.expect(t, "failed")
	if !errors.As(second.err, new(*heartbeat.HeldError)) {
		t.Errorf("it fails with %v", second.err)
	}
	m.Release()
	h.Wait()
	l.Release()
	g.Wait()
}

func TestStandbyTakesOver(t *testing.T) {
	dir, first, second := t.TempDir(), newClient(), newClient()
	l, g := open(t, dir, "file:", first, nil)
	l.Start(g)
	first.expect(t, "locked", "PID file", "held")
	m, h := open(t, dir, "file:", second, func(o *Options) { o.Config.Heartbeat.Standby = true })
	m.Start(h)
	second.expect(t, "standby")
	l.Release()
	g.Wait()
	second.expect(t, "locked", "PID file", "held")
	m.Release()
	h.Wait()
}

// After an error with the PID file nothing else is acquired, and runs may not start.
func TestPIDFileFails(t *testing.T) {
	n := newClient()
	n.pidFile = errors.New("a PID file")
	l, g := open(t, t.TempDir(), "memcached://127.0.0.1:9", n, nil)
	l.Start(g)
	n.expect(t, "locked", "PID file", "failed")
	if _, _, requested := l.Shared(); requested || l.Shut() == nil || !errors.Is(n.err, n.pidFile) {
		t.Errorf("shared lease requested: %v, error %v", requested, n.err)
	}
	l.Release()
	g.Wait()
}

// A lease that was handed off is held when Begin returns, and its lock was never free.
func TestHandOff(t *testing.T) {
	dir, n := t.TempDir(), newClient()
	l, g := open(t, dir, "file:", n, nil)
	l.Start(g)
	n.expect(t, "locked", "PID file", "held")
	state, lock, instance, errs := l.HandOff(true)
	g.Wait()
	if errs != nil || lock == nil || instance == "" || state.Local == nil || state.Shared != nil {
		t.Fatalf("handed off %+v, lock %v, instance %q, errors %v", state, lock, instance, errs)
	}
	next := newClient()
	m, h := open(t, dir, "file:", next, func(o *Options) { o.Handed, o.Lock = state, lock })
	m.Begin()
	next.expect(t, "locked", "PID file", "held")
	m.Start(h)
	if _, now, _ := m.Now(); now.ID != instance {
		t.Errorf("instance %s, want %s", now.ID, instance)
	}
	m.Release()
	h.Wait()
}

// The runs that were handed off are stopped at the end of their lease, whatever is acquired by then.
func TestOldLeaseEnds(t *testing.T) {
	n := newClient()
	l, g := open(t, t.TempDir(), "memcached://127.0.0.1:9", n, func(o *Options) {
		o.Handed.Shared = &heartbeat.Handoff{Key: "another", Deadline: boot()}
		o.Config.Heartbeat.Standby, o.Config.Heartbeat.AcquireTimeout = true, time.Hour
	})
	l.Start(g)
	n.expect(t, "ending", "locked", "PID file")
	l.Release()
	g.Wait()
}

// A lease that was only asked for in the old process does not end: the runs were not started under it.
func TestLeaseThatWasNeverHeldDoesNotEnd(t *testing.T) {
	n := newClient()
	l, g := open(t, t.TempDir(), "memcached://127.0.0.1:9", n, func(o *Options) {
		o.Handed.Shared = &heartbeat.Handoff{Key: "another"}
		o.Config.Heartbeat.Standby, o.Config.Heartbeat.AcquireTimeout = true, time.Hour
	})
	l.Start(g)
	n.expect(t, "locked", "PID file")
	l.Release()
	g.Wait()
	n.expect(t, "remove PID file")
}

// After a holder that did not release the lock, nothing else is acquired while its runs are active.
func TestLeftoverRunsAreWaitedFor(t *testing.T) {
	dir, first := t.TempDir(), newClient()
	l, g := open(t, dir, "file:", first, nil)
	l.Start(g)
	first.expect(t, "locked", "PID file", "held")
	_, lock, _, _ := l.HandOff(false)
	g.Wait()
	_ = lock.Close() // as if it had been killed

	n := newClient()
	n.leftover = true
	l, g = open(t, dir, "file:", n, nil)
	l.Start(g)
	n.expect(t, "locked", "PID file", "leftover")
	l.Continue()
	n.expect(t, "held")
	l.Release()
	g.Wait()
}
