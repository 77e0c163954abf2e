package main

import (
	"errors"
	"fmt"
	"strings"

	"gophd/internal/daemon"
	"gophd/internal/heartbeat"
	"gophd/internal/job"
)

// The exit codes. README.md and the help of run show this table.
const (
	codeSuccess = 0
	codeFailed  = 1
	codeUsage   = 2
	codeLost    = 5

	// Of status and of the verbs that need a daemon (LSB, init script actions).
	codeNotRunning = 3
	codeUnknown    = 4

	exitCodeHelp = `Exit codes:
  0    success, or another instance holds the lease (--held-exit-code changes that)
  1    gophd failed; job.start_limit or a fatal exit code ended it; or a directory, file, user, limit or store is missing
  2    invalid usage, or a config that cannot be understood; nothing was done
  5    the lease was lost to another instance
  126  the command cannot be executed
  127  the command was not found
  --once exits with the command's own code, or with 128 + the number of the signal that ended it.
  It exits with 124 if the timeout stopped the run and the command exited with a success code.
  For check, 1 also means that the command is missing.
`
)

// usageError is an error in the command line or the config, which the user must fix.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// startError is why a start failed: the command, or what it needs, is missing here or cannot be
// used.
type startError struct{ err error }

func (e *startError) Error() string { return e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

// loggedError is an error that the log has already printed on stderr.
type loggedError struct{ err error }

func (e *loggedError) Error() string { return e.err.Error() }
func (e *loggedError) Unwrap() error { return e.err }

// codeError is an exit code without a message, because the message was already printed or logged.
type codeError int

func (e codeError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// printError prints the message of err, if it has one, and returns the exit code.
func (p *program) printError(err error) int {
	text, code := p.explain(err)
	if text == "" || code == codeSuccess && p.quiet {
		return code
	}
	to := p.stderr
	if code == codeSuccess {
		to = p.stdout // nothing is wrong, and a cron job with >/dev/null must not send mail
	}
	for line := range strings.Lines(text) {
		fmt.Fprintf(to, "gophd: %s\n", strings.TrimSuffix(line, "\n"))
	}
	return code
}

// warn prints a warning of a start or a check.
func (p *program) warn(text string) { fmt.Fprintf(p.stderr, "gophd: warning: %s\n", text) }

// explain returns the message and the exit code of an error. All errors are converted here.
func (p *program) explain(err error) (text string, code int) {
	var (
		silent codeError
		logged *loggedError
		usage  *usageError
		start  *startError
		held   *heartbeat.HeldError
		lost   *heartbeat.LostError
		none   *notRunningError
		which  *unknownError
	)
	switch {
	case err == nil:
		return "", codeSuccess
	case errors.As(err, &silent):
		return "", int(silent)
	case errors.As(err, &logged):
		_, code = p.explain(logged.err)
		return "", code
	case errors.As(err, &usage):
		return err.Error(), codeUsage
	case errors.As(err, &start), errors.As(err, new(*daemon.UnfitError)):
		return err.Error(), job.StartCode(err)
	case errors.As(err, &held):
		return err.Error() + " to run both", p.heldCode
	case errors.As(err, &lost):
		return err.Error(), codeLost
	case errors.As(err, &none):
		return err.Error(), codeNotRunning
	case errors.As(err, &which):
		return err.Error(), codeUnknown
	}
	return err.Error(), codeFailed
}
