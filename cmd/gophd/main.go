// Command gophd turns any command into a solid daemon.
//
// This package answers: what did the user type, and which code do we leave? It parses the words, hands
// them to config and the daemon to supervisor, and carries out what that decided: the exit code, or the
// exec of the next image. One file is one command; every error becomes text and code in exit.go.
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

// version is that of the program; a release sets it by -ldflags "-X main.version=1.2.3".
var version = "0.1.0"

func main() { os.Exit(start()) }

func start() int {
	me, err := self.Catch()
	if err != nil {
		return (&program{stdout: os.Stdout, stderr: os.Stderr}).leave(err)
	}
	p := &program{self: me, stdout: os.Stdout, stderr: os.Stderr}
	if me.Handoff != "" {
		// Before all else: a TERM that comes earlier ends us, see restart.Exec. In this order, since Inherit
		// undoes what Exec did to INT and HUP.
		p.handoff, p.handoffErr = restart.Inherit(me)
		fault.At("inherited")
		p.signals = signals.Listen()
		fault.At("listening")
	}
	// Two, on any machine: a fork holds one until the command has begun, and with the other the lease goes
	// on being renewed; more would cost memory for each and gain gophd nothing.
	runtime.GOMAXPROCS(2)
	err = p.execute(context.Background(), me.Args[1:])
	switch {
	case p.handoff != nil: // it never came to a daemon
		daemon.Abandon(p.handoff, err)
	case errors.Is(p.handoffErr, restart.ErrUnreadable):
		daemon.AbandonUnknown(p.handoffErr)
	}
	return p.leave(err)
}
