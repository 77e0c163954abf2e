package daemon

import (
	"cmp"
	"io"
	"os"

	"github.com/rs/zerolog"

	"gophd/internal/event"
	"gophd/internal/eventlog"
	"gophd/internal/goroutine"
	"gophd/internal/logging"
	"gophd/internal/pidfile"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/supervisor"
)

// Abandon stops the runs of a process that cannot continue with its handoff. It logs why to the log
// of the old process or to stderr. It blocks until the runs have ended, for their grace at most.
// nil is a first start: nothing was handed off.
func Abandon(h *restart.Handoff, why error) {
	if h == nil {
		return
	}
	s, err := decodeState(h)
	if err != nil {
		AbandonUnknown(err)
		return
	}
	abandon(s, h.Files, why)
}

// AbandonUnknown is Abandon for a handoff that cannot be read: it stops all children that seem to
// be commands.
func AbandonUnknown(why error) {
	var s handedState
	s.Jobs = []supervisor.JobState{{Runs: supervisor.UnknownRuns()}}
	abandon(s, nil, why)
}

func abandon(s handedState, files map[string]*os.File, why error) {
	options := logging.Options{File: s.Log.File, Format: cmp.Or(s.Log.Format, "simple"), Level: zerolog.InfoLevel,
		PID: os.Getpid()}
	if len(s.Jobs) == 1 {
		options.Job = s.Jobs[0].Name
	}
	log, err := logging.Open(options)
	if err != nil || s.Log.File == "" {
		options.File, options.Echo, options.EchoLevel, options.EchoCommand = "", os.Stderr, zerolog.InfoLevel, true
		if log, err = logging.Open(options); err != nil {
			return // a handoff with an unknown format has none of our runs
		}
	}
	loggers := func(job string) eventlog.Loggers {
		of := log.Job(job)
		return eventlog.Loggers{Failures: of.Logger(), Rest: of.Logger(), Echo: of.EchoLogger()}
	}
	reader := eventlog.New(loggers(""), options.Format == "json")
	read, many := reader.Read, len(s.Jobs) > 1
	if many {
		var names []string
		for _, j := range s.Jobs {
			names = append(names, j.Name)
		}
		read = reader.Jobs(names, loggers).Read
	}
	events := event.NewStream(read)
	events.Publish(event.NotResumed(why))
	if spawner, err := process.New(); err != nil {
		events.Publish(event.Problem(err))
	} else {
		jobLog := log.Job
		if !many {
			jobLog = func(string) logging.Job { return log.Job("") }
		}
		spawner.AdoptStreams(supervisor.TakePipes(s.Escaped, files), func(s process.HandedStream) io.WriteCloser {
			return supervisor.ResumeInLog(jobLog(s.Job), s)
		})
		var all goroutine.Group // each waits for the grace of its runs
		for _, j := range s.Jobs {
			all.Go(func() { supervisor.StopHanded(j, files, spawner, jobLog(j.Name), events) })
		}
		_ = goroutine.Catch(all.Wait) // there is nothing left that could act on a panic
		_ = spawner.Close()           // escaped processes have written their last output
		for _, j := range s.Jobs {
			supervisor.SweepCgroups(j.ID, func(pid int) bool { return pid == os.Getpid() })
		}
	}
	if f := files[pidFileName]; f != nil {
		if f, err := pidfile.Adopt(s.PIDFile, f); err == nil {
			_ = f.Remove() // otherwise it is stale, as its lock shows
		}
	}
	_ = log.Close() // there is nowhere left to report an error
}
