package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"gophd/internal/api"
)

type eventsFlags struct {
	follow bool
	after  uint64
}

func newEvents(p *program) *cobra.Command {
	var f eventsFlags
	cmd := &cobra.Command{
		Use:        "events [NAME]",
		SuggestFor: []string{"tail", "watch"},
		Short:      "Print the events of a daemon or of one job, as JSON lines",
		Long: `Print the events of a daemon or of one job as JSON lines: the last 256 that the daemon keeps, and with
--follow those to come. Each has an id; --after continues where another reader has stopped. With
--follow it continues over a reload, a re-exec and an upgrade, and ends with the daemon.

docs/events.md has all types and fields. If events were lost in between, there is an event events.lost.`,
		Example: `  gophd events -f nightly
  gophd events -f | jq 'select(.type == "run.ended" and .outcome != "success")'`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.printEvents(cmd.Context(), strings.Join(args, ""), f)
		},
	}
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "print those to come too, until the daemon exits")
	cmd.Flags().Uint64Var(&f.after, "after", 0, "only events after the one with this `ID`")
	return cmd
}

func (p *program) printEvents(ctx context.Context, name string, f eventsFlags) error {
	t, err := p.target(ctx, name)
	if err != nil {
		return err
	}
	all := t.job == "" || len(t.daemon.Status.Jobs) == 1
	var failed error
	err = api.NewClient(t.daemon.Socket).Events(ctx, f.after, f.follow, func(e api.Event, line []byte) bool {
		if all || e.Job == t.job || e.ID == 0 {
			_, failed = p.stdout.Write(append(line, '\n'))
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	return err
}
