package signals

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/request"
	"gophd/internal/self"
)

// role makes the test binary act as gophd.
const role = "SIGNALS_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "":
		// So that the tests and their children do not count as started by nohup or in the
		// background.
		signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGHUP)
		os.Exit(m.Run())
	case "requests":
		err = printRequests()
	case "job":
		err = runJob()
	case "control":
		err = compareControlSignals()
	case "pipe":
		err = breakPipe()
	case "continued":
		err = unix.Kill(os.Getpid(), unix.SIGCONT) // blocked in every thread: it stays pending
		if err == nil {
			err = printRequests()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// printRequests prints the requests that arrive, until a stop.
func printRequests() error {
	s := Listen()
	fmt.Println("listening")
	for r := range s.C() {
		fmt.Println(r)
		if r.Verb == request.Stop {
			break
		}
	}
	for _, r := range s.Close() {
		fmt.Println("left:", r)
	}
	return nil
}

func command(t *testing.T, as string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe)
	c.Env = append(os.Environ(), role+"="+as, "GORACE=atexit_sleep_ms=0")
	c.Stderr = os.Stderr
	return c
}

// ignoring runs c from a shell that ignores the signals.
func ignoring(c *exec.Cmd, names string) {
	c.Args = []string{"/bin/sh", "-c", "trap '' " + names + `; exec "$0"`, c.Path}
	c.Path = "/bin/sh"
}

func kill(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := unix.Kill(os.Getpid(), sig); err != nil {
		t.Fatal(err)
	}
}

// next blocks until a request comes.
func next(s *Signals) request.Request { return <-s.C() }

func TestEverySignalOfTheTableBecomesItsRequest(t *testing.T) {
	s := Listen()
	for sig, want := range map[syscall.Signal]request.Request{
		unix.SIGINT:  {Verb: request.Stop, From: "signal INT"},
		unix.SIGTERM: {Verb: request.Stop, From: "signal TERM"},
		unix.SIGHUP:  {Verb: request.Reload, From: "signal HUP"},
		unix.SIGUSR1: {Verb: request.Dump, From: "signal USR1"},
		unix.SIGUSR2: {Verb: request.Reopen, From: "signal USR2"},
	} {
		kill(t, sig)
		if got := next(s); got != want {
			t.Errorf("%v is %v, want %v", sig, got, want)
		}
	}
	if left := s.Close(); len(left) > 0 {
		t.Errorf("%v is left over", left)
	}
	s = Listen() // a CONT that comes with another is no request
	kill(t, unix.SIGCONT)
	if got, want := next(s), (request.Request{Verb: request.RunNow, From: "signal CONT"}); got != want {
		t.Errorf("CONT is %v, want %v", got, want)
	}
	if left := s.Close(); len(left) > 0 {
		t.Errorf("%v is left over", left)
	}
}

// A CONT less than 100 ms before or after another signal is no request.
func TestContWithAnotherSignalIsNoRequest(t *testing.T) {
	const intr, term, hup, usr1, usr2, cont = 0, 1, 2, 3, 4, 5
	const unused = -1
	type at struct {
		ms  time.Duration
		row int
	}
	for name, c := range map[string]struct {
		arrive []at
		want   string
	}{
		"after a stop":                    {[]at{{0, term}, {1, cont}}, "[stop (signal TERM)]"},
		"before a stop":                   {[]at{{0, cont}, {1, term}}, "[stop (signal TERM)]"},
		"twice, as of timeout(1)":         {[]at{{0, term}, {1, term}, {2, cont}, {3, cont}}, "[stop (signal TERM)]"},
		"HUP of timeout(1)":               {[]at{{0, hup}, {19, hup}, {20, cont}, {21, cont}}, "[reload (signal HUP)]"},
		"USR1 of timeout(1)":              {[]at{{0, usr1}, {19, usr1}, {20, cont}, {21, cont}}, "[dump (signal USR1)]"},
		"USR2 of timeout(1)":              {[]at{{0, usr2}, {19, usr2}, {20, cont}, {21, cont}}, "[reopen (signal USR2)]"},
		"one of timeout(1) in a series":   {[]at{{0, usr1}, {1, hup}, {2, usr1}, {3, cont}}, "[dump (signal USR1) reload (signal HUP)]"},
		"HUP twice by hand":               {[]at{{0, hup}, {21, hup}}, "[reload (signal HUP) reload (signal HUP)]"},
		"after an unused signal":          {[]at{{0, unused}, {99, cont}}, "[]"},
		"before an unused signal":         {[]at{{0, cont}, {99, unused}}, "[]"},
		"long after an unused signal":     {[]at{{0, unused}, {100, cont}}, "[run now (signal CONT)]"},
		"after a reload":                  {[]at{{0, hup}, {99, cont}}, "[reload (signal HUP)]"},
		"before an INT":                   {[]at{{0, cont}, {99, intr}}, "[stop (signal INT)]"},
		"long after a reload":             {[]at{{0, hup}, {100, cont}}, "[reload (signal HUP) run now (signal CONT)]"},
		"long before a stop":              {[]at{{0, cont}, {101, term}}, "[run now (signal CONT) stop (signal TERM)]"},
		"with a dump":                     {[]at{{0, usr1}, {1, cont}}, "[dump (signal USR1)]"},
		"two are one":                     {[]at{{0, cont}, {50, cont}}, "[run now (signal CONT)]"},
		"again after it became a request": {[]at{{0, cont}, {150, cont}}, "[run now (signal CONT) run now (signal CONT)]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Signals{rows: table, others: make(chan os.Signal), out: make(chan request.Request), close: make(chan struct{})}
				for i := range s.rows {
					s.arrived[i] = make(chan os.Signal, 1)
				}
				var got []request.Request
				done := make(chan struct{})
				var reader goroutine.Group
				reader.Go(func() {
					for {
						select {
						case r := <-s.out:
							got = append(got, r)
						case <-done:
							return
						}
					}
				})
				s.reader.Go(s.read)
				started := time.Now()
				for _, a := range c.arrive {
					time.Sleep(time.Until(started.Add(a.ms * time.Millisecond)))
					if a.row == unused {
						s.others <- unix.SIGALRM
					} else {
						s.arrived[a.row] <- s.rows[a.row].signal
					}
					synctest.Wait()
				}
				time.Sleep(time.Second)
				synctest.Wait()
				close(done)
				reader.Wait()
				if left := s.Close(); len(left) > 0 || fmt.Sprint(got) != c.want {
					t.Errorf("%v, left over %v, want %s", got, left, c.want)
				}
			})
		})
	}
}

func TestEveryRowIsRead(t *testing.T) {
	s := &Signals{rows: slices.Concat(table, initTable), out: make(chan request.Request), close: make(chan struct{})}
	for i := range s.rows {
		s.rows[i].verb = request.Dump // so that the stops by the terminal and CONT are requests too
		s.arrived[i] = make(chan os.Signal, 1)
	}
	s.reader.Go(s.read)
	for i, row := range s.rows {
		s.arrived[i] <- row.signal
		if got, want := next(s).From, "signal "+name(row.signal); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	s.Close()
}

func TestControlSignalsMatchTheTable(t *testing.T) {
	var inTable []syscall.Signal
	for _, row := range table {
		if row.verb != 0 {
			inTable = append(inTable, row.signal)
		}
	}
	if d := cmp.Diff(self.ControlSignals(), inTable); d != "" {
		t.Errorf("package self has other signals (-self +table):\n%s", d)
	}
}

// compareControlSignals prints, as process 1, how the list of package self differs from the tables.
func compareControlSignals() error {
	var inTables []syscall.Signal
	for _, row := range append(table, initTable...) {
		if row.verb != 0 {
			inTables = append(inTables, row.signal)
		}
	}
	fmt.Print(cmp.Diff(self.ControlSignals(), inTables))
	return nil
}

func TestBurstOfOneSignalLosesNoOther(t *testing.T) {
	s := Listen()
	defer s.Close()
	for i := range 3000 {
		kill(t, unix.SIGINT)
		if i == 1000 {
			for _, sig := range self.ControlSignals() {
				kill(t, sig)
			}
		}
	}
	seen := map[string]bool{}
	for len(seen) < len(self.ControlSignals())-1 { // CONT comes with a stop, and is no request
		seen[next(s).From] = true
	}
}

// The test calls take itself, so no signal is in flight.
func TestQueueKeepsOneOfAKindInTheOrderOfArrival(t *testing.T) {
	const intr, term, hup, cont = 0, 1, 2, 5
	for name, c := range map[string]struct {
		stopped bool
		rows    []int
		want    string
	}{
		"order of arrival": {rows: []int{hup, intr}, want: "[reload (signal HUP) stop (signal INT)]"},
		"one of a kind": {rows: []int{intr, hup, intr, intr, hup},
			want: "[stop (signal INT) reload (signal HUP)]"},
		"kinds with equal verbs": {rows: []int{term, intr}, want: "[stop (signal TERM) stop (signal INT)]"},
		"CONT ends a stop":       {stopped: true, rows: []int{cont}, want: "[]"},
	} {
		s := &Signals{rows: table, stopped: c.stopped}
		for _, i := range c.rows {
			s.take(i)
		}
		if got := fmt.Sprint(s.queue); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestCloseReturnsWhatWasNotRead(t *testing.T) {
	s := Listen()
	var want []string
	for i, row := range table[:5] {
		s.arrived[i] <- row.signal // as os/signal may do at any moment before Close
		want = append(want, "signal "+job.SignalName(row.signal))
	}
	var got []string
	for _, r := range s.Close() {
		got = append(got, r.From)
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("left over (-want +got):\n%s", d)
	}
	s = Listen()
	s.arrived[5] <- unix.SIGCONT // whether it waits already or was not read
	if got := fmt.Sprint(s.Close()); got != "[run now (signal CONT)]" {
		t.Errorf("left over is %s", got)
	}
}

func TestCommandUnderNohupStartsWithDefaultDispositions(t *testing.T) {
	c := command(t, "job")
	ignoring(c, "HUP INT QUIT TERM USR1 USR2 PIPE CHLD TSTP TTIN TTOU CONT ALRM WINCH URG")
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(string(out), "--\n")
	masks := 0
	for _, line := range strings.Split(strings.TrimSpace(first), "\n") {
		name, mask, _ := strings.Cut(line, ":\t")
		if slices.Contains([]string{"SigIgn", "SigBlk", "SigCgt", "SigPnd", "ShdPnd"}, name) {
			masks++
			set, err := strconv.ParseUint(mask, 16, 64)
			// Signals 32 to 34 belong to the C library. Go cannot change them, and they stay as the
			// process that started these tests had them.
			if set &^= 7 << 31; err != nil || set != 0 {
				t.Errorf("the command starts with %s %s, want none", name, mask)
			}
		}
	}
	if masks != 5 {
		t.Errorf("%d of 5 masks were printed", masks)
	}
	want := "dump (signal USR1)\nHUP is ignored again\nINT is ignored again\nQUIT is ignored again\n"
	if rest != want {
		t.Errorf("gophd itself printed %q, want %q", rest, want)
	}
}

// runJob prints the signal state of a command, and then that ignored signals are still no requests.
func runJob() error {
	s := Listen()
	job := exec.Command("/bin/cat", "/proc/self/status") // unlike grep, cat catches no signals
	job.Stdout = os.Stdout
	if err := job.Run(); err != nil {
		return err
	}
	fmt.Println("--")
	// The kernel delivers the lower number first, and QUIT, INT and HUP are lower than USR1.
	for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1} {
		if err := unix.Kill(os.Getpid(), sig); err != nil {
			return err
		}
	}
	fmt.Println(<-s.C())
	for _, r := range s.Close() {
		fmt.Println("left:", r)
	}
	for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT} {
		if signal.Ignored(sig) {
			fmt.Println(strings.TrimPrefix(unix.SignalName(sig), "SIG"), "is ignored again")
		}
	}
	return nil
}

func TestBrokenPipeIsAnErrorAndDoesNotEndTheProcess(t *testing.T) {
	c := command(t, "pipe")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	c.Stdout = w
	if err := c.Run(); err != nil {
		t.Error(err)
	}
}

func breakPipe() error {
	s := Listen()
	for _, when := range []string{"while it listens", "after Close"} {
		if _, err := os.Stdout.WriteString("x"); !errors.Is(err, unix.EPIPE) {
			return fmt.Errorf("%s a write to a broken pipe returns %v, want EPIPE", when, err)
		}
		if when == "while it listens" {
			s.Close()
		}
	}
	return nil
}

func TestStopByTheTerminalStopsAndItsContIsNoRequest(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		c := command(t, "requests")
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		lines := startReading(t, c)
		if !lines.Scan() {
			t.Fatal("the process does not listen")
		}
		send := func(sig syscall.Signal) {
			t.Helper()
			if err := unix.Kill(c.Process.Pid, sig); err != nil {
				t.Fatal(err)
			}
		}
		send(sig)
		var status unix.WaitStatus
		if _, err := unix.Wait4(c.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
			t.Fatalf("%v: the process is not stopped: %v, status %#x", sig, err, status)
		}
		send(unix.SIGCONT)
		send(unix.SIGTERM)
		var got []string
		for lines.Scan() {
			got = append(got, lines.Text())
		}
		if d := cmp.Diff([]string{"stop (signal TERM)"}, got); d != "" {
			t.Errorf("%v: requests (-want +got):\n%s", sig, d)
		}
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestSignalsThatGophdDoesNotUseAreSeen(t *testing.T) {
	s := Listen()
	close(s.close)
	s.reader.Wait()
	seeUnused()
	for _, sig := range unused {
		kill(t, sig)
		if got := <-s.others; got != os.Signal(sig) {
			t.Errorf("%v was seen as %v", sig, got)
		}
	}
	for _, c := range s.arrived {
		signal.Stop(c)
	}
}

func TestSignalsThatGophdDoesNotUseAreSeenAfterTheStart(t *testing.T) {
	defer func(f func()) { seeUnused = f }(seeUnused)
	seen := make(chan struct{})
	seeUnused = func() { close(seen) }
	s := Listen()
	<-seen
	s.Close()
}

func TestStopByTheTerminalDoesNotStopASessionLeader(t *testing.T) {
	c := command(t, "requests")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	lines := startReading(t, c)
	var got []string
	for lines.Scan() {
		got = append(got, lines.Text())
		var sigs []syscall.Signal
		switch len(got) {
		case 1:
			sigs = []syscall.Signal{unix.SIGTSTP, unix.SIGUSR1}
		case 2:
			time.Sleep(together) // a CONT that comes with USR1 or TSTP is no request
			sigs = []syscall.Signal{unix.SIGCONT}
		case 3:
			sigs = []syscall.Signal{unix.SIGTERM}
		}
		for _, sig := range sigs {
			if err := unix.Kill(c.Process.Pid, sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := []string{"listening", "dump (signal USR1)", "run now (signal CONT)", "stop (signal TERM)"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("requests (-want +got):\n%s", d)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

func TestContPendingDuringARestartRequestsARun(t *testing.T) {
	c := command(t, "continued")
	release, err := self.HoldSignals()
	if err != nil {
		t.Fatal(err)
	}
	lines := startReading(t, c)
	release()
	for _, want := range []string{"listening", "run now (signal CONT)"} {
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("got %q, want %q", lines.Text(), want)
		}
	}
	if err := unix.Kill(c.Process.Pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		if got := lines.Text(); got != "stop (signal TERM)" {
			t.Errorf("got %q, want only the stop", got)
		}
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// Only process 1 stops on QUIT.
func TestQuitIsTheStackDumpOfTheRuntimeExceptInProcessOne(t *testing.T) {
	c := command(t, "requests")
	c.Stderr = nil // the stacks
	lines := startReading(t, c)
	if !lines.Scan() {
		t.Fatal("the process does not listen")
	}
	if err := unix.Kill(c.Process.Pid, unix.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		t.Errorf("it printed %q", lines.Text())
	}
	if err := c.Wait(); err == nil || c.ProcessState.ExitCode() != 2 {
		t.Errorf("it exited with %v, want exit 2", err)
	}
}

// startReading starts c and reads its lines.
func startReading(t *testing.T, c *exec.Cmd) *bufio.Scanner {
	t.Helper()
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return bufio.NewScanner(out)
}
