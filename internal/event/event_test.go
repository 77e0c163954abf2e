package event

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gophd/internal/goroutine"
	"gophd/internal/job"
)

var update = flag.Bool("update", false, "write the reference instead of comparing it")

var (
	day     = time.Date(2026, 11, 27, 3, 17, 0, 0, time.UTC)
	run     = job.Run{Number: 17, Due: day}
	retry   = job.Run{Number: 18, Due: day, Attempt: 1}
	errDisk = errors.New("no space left on device")
	store   = "memcached://10.0.0.5"
	holder  = "PID 812 on db1"
)

func tick(change func(*job.Tick)) job.Tick {
	t := TickOfRun(run, 901)
	t.Started, t.Ended, t.Interval, t.Outcome = day, day.Add(5*time.Second), time.Minute, job.Exited
	change(&t)
	return t
}

// samples has one or more events of each constructor.
var samples = map[string][]Event{
	"Started":     {Started("0.2.0", 812)},
	"Resumed":     {Resumed("0.2.1", 812)},
	"NotResumed":  {NotResumed(errors.New("the handoff cannot be read"))},
	"Exiting":     {Exiting(nil), Exiting(errors.New("a forced stop was requested"))},
	"Reexecuting": {Reexecuting()},
	"Fatal": {Fatal(&goroutine.Panic{Value: "index out of range", Stack: []byte("goroutine 7 [running]:")}),
		Fatal(errors.New("run 17 ended with exit code 70, which is in job.fatal_exit_codes"))},
	"State":   {State("serving", "draining")},
	"Problem": {Problem(fmt.Errorf("12 lines of the command's output to /var/log/nightly.out are lost: %w", errDisk))},
	"Warning": {Warning(`cannot notify the service manager of "READY=1": dial unixgram /run/systemd/notify: ` +
		"connect: no such file or directory: start gophd from the service manager, or unset NOTIFY_SOCKET")},
	"Request":       {Request("stop", "signal TERM", "serving")},
	"RequestForJob": {RequestForJob("nightly", "pause", "user root, pid 4711")},
	"RequestRejected": {RequestRejected("run now", "signal CONT", "draining", nil),
		RequestRejected("run now", "signal CONT", "serving", errors.New("a signal names none of the 12 jobs"))},
	"JobSteered":      {JobSteered("nightly", true, false, 0), JobSteered("nightly", false, false, 2)},
	"RunSkipped":      {RunSkipped("nightly", run, 1, 0), RunSkipped("nightly", run, 1, 2)},
	"ReloadValidated": {ReloadValidated()},
	"ReloadDelayed": {ReloadDelayed(time.Minute, errors.New("the log writes to a disk that does not answer")),
		ReloadDelayed(0, errors.New("run 12 is being started"))},
	"ReloadRejected": {ReloadRejected(errors.New("x.yaml:3: job.intervall: no such setting; did you mean job.interval?"))},
	"ReloadApplied":  {ReloadApplied([]string{"job.interval", "log.level"}), ReloadApplied(nil)},
	"LogReopened":    {LogReopened(nil), LogReopened(errDisk)},
	"LogLost":        {LogLost("", 12, errDisk)},
	"LogMisplaced": {LogMisplaced("", errors.New("cannot open log file /srv/log/nightly.log: directory /srv/log "+
		"does not exist: create it or choose another --log-file"))},
	"LogSuppressed": {LogSuppressed("240 failure")},
	"Dump":          {Dump([]Variable{{"state", "serving"}})},

	"LeaseAcquired":     {LeaseAcquired("nightly", store, 41, false), LeaseAcquired("nightly", store, 42, true)},
	"LeaseStandby":      {LeaseStandby("nightly", store, holder)},
	"LeaseProving":      {LeaseProving("nightly", store, 8*time.Second)},
	"LeaseProvingStill": {LeaseProvingStill("nightly", store, 4*time.Second)},
	"LeaseUnreachable":  {LeaseUnreachable("nightly", store, "outage", errors.New("i/o timeout"))},
	"LeaseReachable":    {LeaseReachable("nightly", store)},
	"LeaseIgnored":      {LeaseIgnored("nightly", store, errors.New("i/o timeout"))},
	"LeaseDoubtful": {LeaseDoubtful("nightly", store, errors.New("i/o timeout")),
		LeaseDoubtful("nightly", store, nil)},
	"LeaseEnding":        {LeaseEnding("nightly", store, errors.New("i/o timeout"))},
	"LeaseExpired":       {LeaseExpired("nightly", store)},
	"LeaseLost":          {LeaseLost("nightly", store, holder), LeaseLost("nightly", store, "")},
	"LeaseHeldElsewhere": {LeaseHeldElsewhere(errors.New("nightly runs as " + holder))},
	"LeaseReleased":      {LeaseReleased("nightly")},

	"JobState":   {JobState("nightly", job.Running, run, day, day.Add(time.Minute))},
	"JobServing": {JobServing("nightly", "every 1m")},
	"RunStarted": {RunStarted("nightly", run, 901, day)},
	"RunAdopted": {RunAdopted("nightly", run, 901, day)},
	"RunNotAdopted": {RunNotAdopted("nightly", run, 901),
		RunNotAdopted("nightly", job.Run{}, 901)},
	"RunAbandoned": {RunAbandoned("nightly", run, tick(func(*job.Tick) {}).Result)},
	"RunEnded": {
		RunEnded("nightly", tick(func(t *job.Tick) {})),
		RunEnded("nightly", tick(func(t *job.Tick) { t.Code = 3 })),
		RunEnded("nightly", tick(func(t *job.Tick) { t.Verdict, t.Ended = job.TooEarly, day.Add(time.Millisecond) })),
		RunEnded("nightly", tick(func(t *job.Tick) { t.Missed = 1; t.Ended = day.Add(61 * time.Second) })),
		RunEnded("nightly", tick(func(t *job.Tick) { t.Missed = 1 })),
		RunEnded("nightly", tick(func(t *job.Tick) {
			t.Outcome, t.Signal, t.Cause = job.Signaled, syscall.SIGTERM, job.ErrReplaced
		})),
		RunEnded("nightly", tick(func(t *job.Tick) { t.Ended = day.Add(55 * time.Second) })),
		RunEnded("nightly", tick(func(t *job.Tick) {
			t.Outcome, t.Signal, t.Cause = job.Signaled, syscall.SIGTERM, job.ErrTimeout
		})),
		RunEnded("nightly", tick(func(t *job.Tick) {
			t.Outcome, t.Signal, t.Cause = job.Signaled, syscall.SIGTERM, job.ErrStopped
		})),
		RunEnded("nightly", tick(func(t *job.Tick) { t.PID, t.Outcome, t.Err = 0, job.Unstarted, syscall.EAGAIN })),
	},
	"JobFailed":     {JobFailed("nightly", errors.New("5 runs failed within 1m, the last one with exit code 1: giving up (job.start_limit)"))},
	"JobRecovers":   {JobRecovers("nightly", 7*time.Second)},
	"JobScheduled":  {JobScheduled("nightly", "every 1h")},
	"JobsUnchanged": {JobsUnchanged(40), JobsUnchanged(1)},
	"JobAdded":      {JobAdded("nightly")},
	"JobRemoved":    {JobRemoved("nightly", false), JobRemoved("nightly", true)},
	"JobChanged": {JobChanged("nightly", []string{"interval", "command"}, false),
		JobChanged("web", []string{"command"}, true)},
	"ServiceEnded": {
		ServiceEnded("nightly", tick(func(t *job.Tick) {})),
		ServiceEnded("nightly", tick(func(t *job.Tick) { t.Code = 3 })),
	},
	"ServiceExitsOften": {ServiceExitsOften("nightly", tick(func(t *job.Tick) {}), 601, 10*time.Minute)},
	"RunLeft":           {RunLeft("web", tick(func(t *job.Tick) {}), ""), RunLeft("nightly", tick(func(t *job.Tick) {}), "--service")},
	"RunsFailed":        {RunsFailed("nightly", "18-40, 43")},
	"RunLate": {RunLate("nightly", run, 55*time.Second, time.Minute, 0),
		RunLate("nightly", run, 61*time.Second, time.Minute, 1),
		RunLate("nightly", run, 12*time.Second, time.Minute, 1)},
	"RunNotStarted": {RunNotStarted("nightly", run, 61*time.Second, 1)},
	"RunDelayed": {RunDelayed("nightly", retry, time.Second, 2, false),
		RunDelayed("nightly", run, 2*time.Second, 0, true),
		RunDelayed("nightly", run, 2*time.Second, 0, false)},
	"RunMessage":      {RunMessage("nightly", run, 903, []string{"it is ready", "status: 40 %"})},
	"TicksMissed":     {TicksMissed("nightly", run, 3)},
	"RunStatus":       {RunStatus("nightly", run, "40 %")},
	"RunExtended":     {RunExtended("nightly", run, time.Minute, 20*time.Second)},
	"RunNotExtended":  {RunNotExtended("nightly", run)},
	"RunNotStoppable": {RunNotStoppable("nightly", run, 901)},
	"RunSuspended": {RunSuspended("nightly", run, 901, Process{}, syscall.SIGTTIN, 901),
		RunSuspended("nightly", run, 901, Process{}, syscall.SIGTTOU, 901),
		RunSuspended("nightly", run, 901, Process{}, syscall.SIGSTOP, 901),
		RunSuspended("nightly", run, 901, Process{904, "ssh"}, syscall.SIGTTIN, 903),
		RunSuspended("nightly", run, 901, Process{904, "ssh"}, 0, 903)},
	"RunContinued": {RunContinued("nightly", run, 901, Process{}),
		RunContinued("nightly", run, 901, Process{904, "ssh"})},
	"RunWaitedFor": {RunWaitedFor("nightly", "draining", run, 901, time.Minute, "send TERM to pid 812 to stop it now"),
		RunWaitedFor("nightly", "draining", run, 0, 0, "")},
	"TickQueued":   {TickQueued("nightly", day)},
	"TickHeld":     {TickHeld("nightly", day)},
	"TicksSkipped": {TicksSkipped("nightly", run, 3)},
	"RunMissed": {RunMissed("nightly", day, 1, job.MissedOverlap, "run 17 was active"),
		RunMissed("nightly", day, 3, job.MissedNotRunning, "gophd did not run when they were due")},
	"MessageOfUnknown":     {MessageOfUnknown("nightly", 903, 1000)},
	"MessageNotUnderstood": {MessageNotUnderstood("nightly", run, 903, errors.New("no = in it"))},
	"ProcessEscaped": {ProcessEscaped("nightly", run, 907, "sleep", true, "--service"),
		ProcessEscaped("nightly", run, 907, "sleep", false, "--service"),
		ProcessEscaped("nightly", run, 907, "nginx", true, ""),
		ProcessEscaped("", job.Run{}, 907, "sleep", true, "--service")},
	"ProcessesEscaped": {ProcessesEscaped("nightly", run, 2, "pid 908 (sleep), pid 909 (sleep)", false),
		ProcessesEscaped("nightly", run, 1, "pid 910 (sleep)", true)},
	"Leftover":       {Leftover("nightly", "pid 901 (backup.sh)", "waiting for it to exit")},
	"LeftoverUnseen": {LeftoverUnseen("nightly")},
}

// docs/events.md matches the constructors, and each constructor has samples.
func TestReferenceIsCurrent(t *testing.T) {
	const path = "../../docs/events.md"
	want := reference(t)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s is stale, or %v; run go test ./internal/event -run Reference -update", path, err)
	}
}

func reference(t *testing.T) string {
	docs := constructors(t)
	for name := range samples {
		if docs[name] == "" {
			t.Errorf("%s is not a constructor", name)
		}
	}
	types := map[Type]*strings.Builder{}
	for name, doc := range docs {
		if len(samples[name]) == 0 {
			t.Errorf("%s has no sample", name)
			continue
		}
		first := samples[name][0]
		if first.Level == Never {
			continue
		}
		b := types[first.Type]
		if b == nil {
			b = &strings.Builder{}
			types[first.Type] = b
		}
		fmt.Fprintf(b, "\n%s%s\n", strings.ToUpper(doc[:1]), doc[1:])
		b.WriteString("\n| level | message | fields |\n|---|---|---|\n")
		for _, e := range samples[name] {
			if e.Type != first.Type {
				t.Errorf("%s returns events of types %s and %s", name, first.Type, e.Type)
			}
			var names []string
			e.Fields(func(name string, _ any) { names = append(names, "`"+name+"`") })
			level := [...]string{Debug: "debug", Info: "info", Warn: "warn", Error: "error", Always: ""}[e.Level]
			fmt.Fprintf(b, "| %s | %s | %s |\n", level, strings.ReplaceAll(e.Message(), "|", `\|`),
				strings.Join(names, ", "))
		}
	}
	var page strings.Builder
	page.WriteString(head)
	for _, f := range fields {
		fmt.Fprintf(&page, "| `%s` | %s |\n", f.name, f.meaning)
	}
	var names []Type
	for name := range types {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&page, "\n## %s\n%s", name, sorted(types[name].String()))
	}
	return page.String()
}

// sorted sorts the constructors of one type, because a map has no order.
func sorted(text string) string {
	parts := strings.Split(text, "|\n\n")
	for i := range parts {
		parts[i] = "\n" + strings.Trim(strings.TrimSuffix(parts[i], "|\n"), "\n")
		if !strings.HasSuffix(parts[i], "|") {
			parts[i] += "|"
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "\n") + "\n"
}

const head = `# Events

<!-- Made from the code by: make docs -->

gophd reports what it does as events. Each event is a line in the log. With ` + "`log.format: json`" + ` the line is an object
with the type in ` + "`event`" + `, the fields below and the message; in the other formats it is the message alone. Types and
fields are stable: match them, not the message. A line of the command's output has no type.

` + "`process.escaped` and `process.escaped_more`" + ` are about processes of a run. Every other ` + "`process`" + ` type is about gophd's
own process.

` + "```json" + `
{"time":"2026-11-27T03:17:05.002000Z","pid":812,"job":"nightly","level":"warn","event":"run.ended","run":17,"due":"2026-11-27T03:17:00Z","run_pid":901,"outcome":"failure","exit_code":3,"duration_seconds":5,"message":"run 17 failed after 5s: exit code 3"}
` + "```" + `

After a burst of ten, an event that repeats many times a second is logged only every ten seconds, with the number of
suppressed events. A later line lists the numbers of the failed runs among them; another lists the escaped processes of
a run.

` + "`time`, `pid` (gophd's own), `job`, `level` and `message`" + ` are in every line. The other fields:

| field | meaning |
|---|---|
`

// constructors returns the doc comments of the exported functions that return an Event, by name.
func constructors(t *testing.T) map[string]string {
	docs := map[string]string{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !fn.Name.IsExported() || fn.Type.Results == nil {
				continue
			}
			if result, ok := fn.Type.Results.List[0].Type.(*ast.Ident); ok && result.Name == "Event" {
				text := strings.Join(strings.Fields(fn.Doc.Text()), " ")
				text = strings.TrimPrefix(strings.TrimPrefix(text, fn.Name.Name+" "), "says ")
				docs[fn.Name.Name] = strings.TrimPrefix(text, "that ")
			}
		}
	}
	return docs
}

// TestFailures checks that all errors are failures, and which warnings are. A user who prints
// failures only must get each failed run, and nothing that may still succeed.
func TestFailures(t *testing.T) {
	var got []string
	for _, events := range samples {
		for _, e := range events {
			switch {
			case e.Level == Error && !e.Failure():
				t.Errorf("%s (%s) is no failure", e.Type, e.Message())
			case e.Level < Warn && e.Failure(), e.Level == Always && e.Failure():
				t.Errorf("%s (%s) is a failure", e.Type, e.Message())
			case e.Level == Warn && e.Failure():
				got = append(got, e.Message())
			}
		}
	}
	slices.Sort(got)
	got = slices.Compact(got)
	want := []string{
		"more failed runs: 18-40, 43",
		"run 17 ended after 1ms, too early for a service: exit code 0; the command must stay in the foreground",
		"run 17 failed after 5s: exit code 3",
		"run 17 failed after 5s: not started: resource temporarily unavailable",
		"run 17 stopped after 5s because it exceeded its timeout: signal TERM",
		"run 17 stopped after 5s because the next tick was due: signal TERM",
	}
	if !slices.Equal(got, want) {
		t.Errorf("warnings that are failures:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// An event is a value: making, publishing and reading one does not allocate, and formats no text.
func TestEventsAreMadeWithoutAllocation(t *testing.T) {
	var seen uint64
	s := NewStream(func(e Event) { seen += e.Tick.Number })
	ended := tick(func(t *job.Tick) { t.Code = 3 })
	n := testing.AllocsPerRun(1000, func() {
		s.Publish(JobState("nightly", job.Running, run, day, day))
		s.Publish(RunStarted("nightly", run, 901, day))
		s.Publish(RunEnded("nightly", ended))
	})
	if n > 0 || seen == 0 {
		t.Errorf("%v allocations", n)
	}
}

// The JSON log has the fields time, pid, job, level, event and message already.
func TestFieldNamesAreDistinct(t *testing.T) {
	seen := map[string]bool{"time": true, "pid": true, "job": true, "level": true, "event": true, "message": true}
	for _, f := range fields {
		if seen[f.name] || strings.ToLower(f.name) != f.name || strings.ContainsAny(f.name, "- ") {
			t.Errorf("%s is not unique, or not in snake_case", f.name)
		}
		seen[f.name] = true
	}
}
