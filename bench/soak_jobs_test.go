//go:build soak

package bench_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gophd/internal/heartbeat/heartbeattest"
)

var (
	attackFor  = flag.Duration("attack", 10*time.Minute, "duration of the soak with many jobs")
	attackSeed = flag.Uint64("seed", 0, "seed of the soak with many jobs; 0 is a new one")
)

// How often something happens in ten minutes. A shorter soak has a part of that.
const (
	attackedJobs   = 200
	attackReloads  = 300
	attackKills    = 12
	attackPauses   = 16 // of memcached, every third longer than the lease; it forgets all in every fourth
	attackDumps    = 60
	maxRunning     = 80
	attackLeaseTTL = 6 * time.Second
)

// Margins of the daemon after the attack, against a fresh one.
const (
	attackDescriptors = 0
	attackThreads     = 3    // Go starts one when all others are in system calls, and never stops it
	attackRSS         = 2048 // KiB
)

// TestSoakManyJobs attacks a gophd with 200 jobs of every kind: reloads with random edits, valid and
// invalid, kill -9 and a new start, and a memcached that is paused. The commands of the jobs take
// locks, and note how they end (programs/marks.c). Afterwards the log and the notes must agree, and
// the daemon must be like a fresh one.
func TestSoakManyJobs(t *testing.T) {
	seed := *attackSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: repeat it with -seed %d -attack %s", seed, seed, *attackFor)
	a := newAttack(t, seed)
	a.start()
	pauses := a.pauseServer(rand.New(rand.NewPCG(seed, 2)))
	t.Cleanup(pauses.end)
	a.fight()
	pauses.end()
	t.Logf("%d pauses of memcached", pauses.count)
	a.settle()
	a.verify()
	if t.Failed() {
		a.keep()
	}
}

// attack is one soak.
type attack struct {
	t      *testing.T
	k      kit
	dir    string
	rng    *rand.Rand
	server *heartbeattest.Server

	cmd    *exec.Cmd
	exited chan error
	killed map[int]time.Time // gophd's PID, and when it was killed

	config    soakConfig // that gophd has
	log       follower
	history   history
	wrong     int // violations so far
	watched   int // bytes of the file violations
	reloads   int
	rejected  int
	reloading time.Duration // the longest reload
}

func newAttack(t *testing.T, seed uint64) *attack {
	a := &attack{t: t, k: build(t), dir: t.TempDir(), rng: rand.New(rand.NewPCG(seed, 1)),
		killed: map[int]time.Time{}, server: heartbeattest.Memcached(t), history: newHistory()}
	a.k.compile(t, "marks")
	for _, name := range []string{"locks", "out", "state"} {
		if err := os.Mkdir(filepath.Join(a.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	a.log.path = a.path("log")
	a.config = newSoakConfig(a)
	t.Cleanup(func() {
		if a.cmd != nil && a.cmd.ProcessState == nil {
			_ = a.cmd.Process.Kill()
			<-a.exited
		}
		for _, pid := range processesOf(t, a.k.path("marks")) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return a
}

func (a *attack) path(name string) string { return filepath.Join(a.dir, name) }

// keep copies what explains a failure.
func (a *attack) keep() {
	dir, err := os.MkdirTemp("", "gophd-soak-")
	if err != nil {
		a.t.Fatal(err)
	}
	for _, name := range []string{"log", "marks", "violations", "stderr", "attack.yaml"} {
		if text, err := os.ReadFile(a.path(name)); err == nil {
			_ = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
	}
	a.t.Logf("log, marks and config are in %s", dir)
}

// start writes the config, starts gophd and waits until it serves signals.
func (a *attack) start() {
	a.t.Helper()
	a.write(a.config.text())
	stderr, err := os.OpenFile(a.path("stderr"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		a.t.Fatal(err)
	}
	defer stderr.Close()
	a.cmd = exec.Command(a.k.path("gophd"), "run", "-q", "-c", a.path("attack.yaml"), "--standby")
	a.cmd.Env = append(os.Environ(), "GOPHD_STATE_DIR="+a.path("state"), "GOPHD_RUNTIME_DIR="+a.path("state"))
	a.cmd.Stderr = stderr
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	exited := make(chan error, 1)
	cmd := a.cmd
	go func() { exited <- cmd.Wait() }()
	a.exited = exited
	a.await("the start", func(e logged) bool { return e.Event == "process.started" && e.PID == cmd.Process.Pid })
}

// write replaces the config file.
func (a *attack) write(text string) {
	a.t.Helper()
	if err := os.WriteFile(a.path("new.yaml"), []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(a.path("new.yaml"), a.path("attack.yaml")); err != nil {
		a.t.Fatal(err)
	}
}

// await reads the log until an event is wanted. What follows it is not returned by a later await.
func (a *attack) await(what string, wanted func(logged) bool) logged {
	a.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		for _, e := range a.read() {
			if wanted(e) {
				return e
			}
		}
		if time.Now().After(end) {
			a.keep()
			a.t.Fatalf("waited two minutes for %s", what)
		}
	}
}

// read reads what is new in the log.
func (a *attack) read() []logged {
	a.t.Helper()
	select {
	case err := <-a.exited:
		stderr, _ := os.ReadFile(a.path("stderr"))
		a.keep()
		a.t.Fatalf("gophd exited unexpectedly: %v\n%s", err, stderr)
	default:
	}
	all, err := a.log.read()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, e := range all {
		a.history.add(e)
	}
	return all
}

func (a *attack) signal(s syscall.Signal) {
	a.t.Helper()
	if err := a.cmd.Process.Signal(s); err != nil {
		a.t.Fatal(err)
	}
}

// share returns how many of those in ten minutes belong into the duration, at least 1.
func share(inTenMinutes int) int {
	return max(1, int(float64(inTenMinutes)*attackFor.Seconds()/600))
}

// moments returns n moments in the duration, spread over it at random.
func moments(rng *rand.Rand, n int) (all []time.Duration) {
	for i := range n {
		step := *attackFor / time.Duration(n)
		all = append(all, time.Duration(i)*step+time.Duration(rng.Int64N(int64(step))))
	}
	return all
}

// fight reloads, kills and dumps at random moments.
func (a *attack) fight() {
	reloads, kills := moments(a.rng, share(attackReloads)), moments(a.rng, share(attackKills))
	dumps := moments(a.rng, share(attackDumps))
	due := func(all *[]time.Duration, passed time.Duration) bool {
		if len(*all) == 0 || (*all)[0] > passed {
			return false
		}
		*all = (*all)[1:]
		return true
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		passed := time.Since(began)
		switch {
		case len(reloads)+len(kills)+len(dumps) == 0 && passed > *attackFor:
			return
		case due(&kills, passed):
			a.kill()
		case due(&reloads, passed):
			a.reload()
		case due(&dumps, passed):
			a.signal([]syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2}[a.rng.IntN(2)])
		}
		a.read()
		a.watch()
	}
}

// reload edits the config and waits until gophd has applied or rejected it.
func (a *attack) reload() {
	a.t.Helper()
	next := a.config.edited()
	text, invalid := next.text(), ""
	if a.rng.IntN(10) < 3 {
		text, invalid = next.broken()
	}
	a.write(text)
	a.history.reloaded = reloaded{}
	began := time.Now()
	a.signal(syscall.SIGHUP)
	a.reloads++
	e := a.await("the reload", func(e logged) bool {
		return e.Event == "reload.rejected" || e.Event == "jobs.unchanged" || e.Event == "process.not_resumed"
	})
	a.reloading = max(a.reloading, time.Since(began))
	if invalid != "" {
		a.rejected++
		if e.Event != "reload.rejected" || !a.history.reloaded.empty() {
			a.t.Errorf("%s: a config with %s was not rejected: %s %+v", e.Time, invalid, e.Message,
				a.history.reloaded)
		}
		return
	}
	if e.Event != "jobs.unchanged" {
		a.t.Fatalf("%s: a reload failed: %s", e.Time, e.Message)
	}
	a.history.reloaded.unchanged = e.Count
	if got, want := a.history.reloaded, difference(a.config, next); !want.equal(got) {
		a.t.Errorf("%s: the reload reports %+v, want %+v", e.Time, got, want)
	}
	a.config = next
}

// kill kills gophd, now and then while it reloads, and starts it again.
func (a *attack) kill() {
	a.t.Helper()
	next := a.config
	if a.rng.IntN(2) == 0 {
		next = a.config.edited()
		a.write(next.text())
		a.signal(syscall.SIGHUP)
		time.Sleep(time.Duration(a.rng.IntN(200)) * time.Millisecond)
	}
	a.read()
	a.signal(syscall.SIGKILL)
	<-a.exited
	a.killed[a.cmd.Process.Pid] = time.Now()
	a.config = next.copy()
	a.config.defaults["on_leftover"] = []string{"wait", "kill"}[a.rng.IntN(2)]
	a.start()
}

// pauses are those of the server, in a goroutine of its own.
type pauses struct {
	once       sync.Once
	stop, done chan struct{}
	count      int
}

// end ends a pause, and all further ones.
func (p *pauses) end() {
	p.once.Do(func() { close(p.stop) })
	<-p.done
}

func (a *attack) pauseServer(rng *rand.Rand) *pauses {
	p := &pauses{stop: make(chan struct{}), done: make(chan struct{})}
	all := moments(rng, share(attackPauses))
	began := time.Now()
	wait := func(until time.Duration) bool {
		select {
		case <-time.After(until - time.Since(began)):
			return true
		case <-p.stop:
			return false
		}
	}
	go func() {
		defer close(p.done)
		for i, at := range all {
			if !wait(at) {
				return
			}
			length := time.Second + time.Duration(rng.Int64N(int64(2*time.Second)))
			if i%3 == 0 {
				length += attackLeaseTTL
			}
			begin, end := a.server.Pause, a.server.Resume
			if i%4 == 3 { // it forgets all
				begin, end = func() error { a.server.Stop(); return nil }, a.server.Restart
			}
			if err := begin(); err != nil {
				a.t.Error(err)
				return
			}
			p.count++
			wait(time.Since(began) + length)
			if err := end(); err != nil {
				a.t.Error(err)
				return
			}
		}
	}()
	return p
}

// settle reloads to a config with idle jobs only, and compares gophd with a fresh one.
func (a *attack) settle() {
	a.t.Helper()
	idle := newIdleConfig(a, a.path("log"), a.config.defaults["on_leftover"])
	a.write(idle)
	a.signal(syscall.SIGHUP)
	a.await("the reload to idle jobs", func(e logged) bool {
		if e.Event == "reload.rejected" {
			a.t.Fatalf("the reload to idle jobs was rejected: %s", e.Message)
		}
		return e.Event == "jobs.unchanged"
	})
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		a.read()
		left := processesOf(a.t, a.k.path("marks"))
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			a.t.Errorf("two minutes after the last job was removed, commands are left: %v", left)
			break
		}
	}
	// As the other, it was reloaded, and is long enough idle to have given back the memory of its start.
	if err := os.MkdirAll(a.path("fresh"), 0o700); err != nil {
		a.t.Fatal(err)
	}
	file, log := a.path("fresh/fresh.yaml"), a.path("fresh/log")
	if err := os.WriteFile(file, []byte(newIdleConfig(a, log, "wait")), 0o600); err != nil {
		a.t.Fatal(err)
	}
	fresh := exec.Command(a.k.path("gophd"), "run", "-q", "-c", file, "--standby", "-n", "fresh")
	fresh.Env = append(os.Environ(), "GOPHD_STATE_DIR="+a.path("fresh"), "GOPHD_RUNTIME_DIR="+a.path("fresh"))
	if err := fresh.Start(); err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = fresh.Process.Kill() }()
	waitFor(a.t, log, `"lease.acquired"`, 1)
	for _, pid := range []int{fresh.Process.Pid, a.cmd.Process.Pid} {
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			a.t.Fatal(err)
		}
	}
	a.await("the last reload", func(e logged) bool { return e.Event == "process.resumed" })
	waitFor(a.t, log, `"process.resumed"`, 1)
	time.Sleep(10 * time.Second)
	want, got := usageOf(a.t, fresh.Process.Pid), usageOf(a.t, a.cmd.Process.Pid)
	a.t.Logf("after the attack: %+v; a fresh daemon: %+v", got, want)
	if got.descriptors > want.descriptors+attackDescriptors || got.threads > want.threads+attackThreads ||
		got.children > want.children || got.rss > want.rss+attackRSS {
		a.t.Errorf("the daemon has %+v after the attack, a fresh one %+v\n%s\n%s", got, want,
			targets(a.cmd.Process.Pid), targets(fresh.Process.Pid))
	}
	_ = fresh.Process.Signal(syscall.SIGTERM)
	if err := fresh.Wait(); err != nil {
		a.t.Errorf("the fresh gophd: %v", err)
	}
	if got := processesOf(a.t, a.k.path("gophd")); len(got) != 1 {
		a.t.Errorf("processes of gophd: %v, want only %d", got, a.cmd.Process.Pid)
	}
	a.signal(syscall.SIGTERM)
	if err := <-a.exited; err != nil {
		a.t.Errorf("gophd: %v", err)
	}
	all, err := a.log.read()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, e := range all {
		a.history.add(e)
	}
	text, err := os.ReadFile(a.path("stderr"))
	if err != nil {
		a.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "{") { // a panic; not an event
			a.t.Fatalf("gophd has written to stderr:\n%s", line)
		}
	}
}

// usage is what a process needs, at the least of some samples.
type usage struct{ rss, descriptors, threads, children int }

func usageOf(tb testing.TB, pid int) usage {
	least := usage{1 << 30, 1 << 30, 1 << 30, 1 << 30}
	for range 50 {
		status := fmt.Sprintf("/proc/%d/status", pid)
		least.rss = min(least.rss, field(tb, status, "VmRSS"))
		least.descriptors = min(least.descriptors, descriptors(tb, pid))
		least.threads = min(least.threads, field(tb, status, "Threads"))
		least.children = min(least.children, len(children(tb, pid)))
		time.Sleep(20 * time.Millisecond)
	}
	return least
}

// targets lists what the descriptors of a process are.
func targets(pid int) string {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	var all []string
	for _, file := range files {
		target, _ := os.Readlink(file)
		all = append(all, filepath.Base(file)+" "+target)
	}
	return strings.Join(all, "\n")
}

// processesOf returns the processes of a program that are no zombies.
func processesOf(tb testing.TB, program string) (pids []int) {
	tb.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		tb.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == program {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link))) // the pattern has digits
			pids = append(pids, pid)
		}
	}
	return pids
}
