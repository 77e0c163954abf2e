// Command gophd runs any command as a daemon.
//
// This package answers: what is on the command line, and what is the exit code? It parses the
// arguments, loads the config with package config and runs the daemon with package daemon. Then it
// does what the daemon returned: exit with a code, or re-exec. Each command has its own file;
// exit.go converts every error to a message and an exit code.
package main

import (
	"context"
	"errors"
	"os"
	"runtime"

	"gophd/internal/daemon"
	"gophd/internal/fault"
	"gophd/internal/restart"
	"gophd/internal/self"
	"gophd/internal/signals"
)

// version is the version of gophd. A release sets it with -ldflags "-X main.version=1.2.3".
var version = "0.1.0"

func main() { os.Exit(start()) }

func start() int {
	me, err := self.Catch()
	if err != nil {
		return (&program{stdout: os.Stdout, stderr: os.Stderr}).printError(err)
	}
	p := &program{self: me, stdout: os.Stdout, stderr: os.Stderr}
	if me.Handoff != "" {
		// This must come first: an earlier TERM kills gophd, see restart.Exec. Inherit comes before
		// Listen, because it undoes what Exec did to INT and HUP.
		p.handoff, p.handoffErr = restart.Inherit(me)
		fault.At("inherited")
		p.signals = signals.Listen()
		fault.At("listening")
	}
	// Two on any machine: a fork blocks one until the command has started, and the other continues
	// to renew the lease. More would cost memory without any gain.
	runtime.GOMAXPROCS(2)
	err = p.execute(context.Background(), me.Args[1:])
	switch {
	case p.handoff != nil: // no daemon has taken it over
		daemon.Abandon(p.handoff, err)
	case errors.Is(p.handoffErr, restart.ErrUnreadable):
		daemon.AbandonUnknown(p.handoffErr)
	}
	return p.printError(err)
}
