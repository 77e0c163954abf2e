package main

import (
	"errors"
	"fmt"
	"strings"

	"gophd/internal/heartbeat"
	"gophd/internal/job"
)

// The exit codes. README.md and the help of run show this table.
const (
	codeDone     = 0
	codeFailed   = 1
	codeUsage    = 2
	codeLost     = 5
	exitCodeHelp = `Exit codes:
  0    done: stopped in order, or another's heartbeat was heard (--held-exit-code changes that)
  1    failed, or the command's folder, stdin, user or limits could not be had
  2    usage or config: nothing was done
  5    the heartbeat was lost to another
  126  the command cannot be executed
  127  the command was not found
  --once leaves with the command's own code, or 128 + the number of the signal that ended it.
  A run that ended with 0 because its timeout had come leaves 124.
`
)

// usageError is what the user must mend in the words or the config.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// startError is a command that cannot be started: found out before anything else was done.
type startError struct{ err error }

func (e *startError) Error() string { return e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

// saidError is what the log has said already on the stderr that is ours too.
type saidError struct{ err error }

func (e *saidError) Error() string { return e.err.Error() }
func (e *saidError) Unwrap() error { return e.err }

// codeError leaves with a code and without a word, since the word was said where it belongs.
type codeError int

func (e codeError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// leave prints what err has to say and returns the code to leave with.
func (p *program) leave(err error) int {
	text, code := p.explain(err)
	if text == "" {
		return code
	}
	to := p.stderr
	if code == codeDone {
		to = p.stdout // nothing is wrong: cron must not be made to send mail about it by 2>&1 alone
	}
	for line := range strings.Lines(text) {
		fmt.Fprintf(to, "gophd: %s\n", strings.TrimSuffix(line, "\n"))
	}
	return code
}

// explain is the one place where an error becomes text and code.
func (p *program) explain(err error) (text string, code int) {
	var (
		silent codeError
		said   *saidError
		usage  *usageError
		start  *startError
		held   *heartbeat.HeldError
		lost   *heartbeat.LostError
	)
	switch {
	case err == nil:
		return "", codeDone
	case errors.As(err, &silent):
		return "", int(silent)
	case errors.As(err, &said):
		_, code = p.explain(said.err)
		return "", code
	case errors.As(err, &usage):
		return err.Error(), codeUsage
	case errors.As(err, &start):
		return err.Error(), job.StartCode(err)
	case errors.As(err, &held):
		return err.Error() + " to run both", p.held
	case errors.As(err, &lost):
		return err.Error(), codeLost
	}
	return err.Error(), codeFailed
}
