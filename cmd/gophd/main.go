// Command gophd turns any command into a solid daemon.
//
// This package answers: what did the user type, and which code do we leave? It parses the words, hands
// them to config and the daemon to supervisor, and carries out what that decided: the exit code, or the
// exec of the next image. One file is one command; every error becomes text and code in exit.go.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"gophd/internal/self"
)

// version is that of the program; a release sets it by -ldflags "-X main.version=1.2.3".
var version = "0.1.0"

func main() { os.Exit(start()) }

func start() int {
	me, err := self.Catch()
	if err != nil {
		return (&program{stdout: os.Stdout, stderr: os.Stderr}).leave(err)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25) // measured: a third less memory after thousands of runs, for 10 % more CPU of ours
	}
	p := &program{self: me, stdout: os.Stdout, stderr: os.Stderr}
	return p.leave(p.execute(context.Background(), me.Args[1:]))
}
