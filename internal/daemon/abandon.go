package daemon

import (
	"cmp"
	"os"

	"github.com/rs/zerolog"

	"gophd/internal/event"
	"gophd/internal/eventlog"
	"gophd/internal/logging"
	"gophd/internal/pidfile"
	"gophd/internal/process"
	"gophd/internal/restart"
	"gophd/internal/supervisor"
)

// Abandon is for a process that cannot continue with what was handed off to it, for the reason why: it
// stops the runs, and logs that to the log of the old process or to stderr. It blocks until they have
// ended, for their grace at most. nil is a first start: nothing was handed off.
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

// AbandonUnknown is Abandon for a handoff that cannot be read: it stops all children that are commands,
// as far as that can be told.
func AbandonUnknown(why error) {
	var s handedState
	s.Job.Runs = supervisor.UnknownRuns()
	abandon(s, nil, why)
}

func abandon(s handedState, files map[string]*os.File, why error) {
	options := logging.Options{File: s.Log.File, Format: cmp.Or(s.Log.Format, "simple"), Level: zerolog.InfoLevel, Job: s.Job.Name, PID: os.Getpid()}
	log, err := logging.Open(options)
	if err != nil || s.Log.File == "" {
		options.File, options.Echo, options.EchoLevel, options.EchoCommand = "", os.Stderr, zerolog.InfoLevel, true
		if log, err = logging.Open(options); err != nil {
			return // a config in which the formats have other names has none of our runs
		}
	}
	events := event.NewStream(eventlog.New(log.Logger(), log.EchoLogger(), options.Format == "json").Read)
	events.Publish(event.NotResumed(why))
	if spawner, err := process.New(); err != nil {
		events.Publish(event.Problem(err))
	} else {
		supervisor.StopHanded(s.Job, files, spawner, log, events)
		_ = spawner.Close() // what escaped has said its last word
		supervisor.SweepCgroups(s.Job.Name, func(pid int) bool { return pid == os.Getpid() })
	}
	if f := files[pidFileName]; f != nil {
		if f, err := pidfile.Adopt(s.PIDFile, f); err == nil {
			_ = f.Remove() // else it is stale, which its lock says too
		}
	}
	_ = log.Close() // there is nobody left to tell
}
