package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"gophd/internal/preflight"
	"gophd/internal/restart"
)

// newProbe is called by a running gophd before it re-execs this program: see preflight.Command. It
// has no side effects.
func newProbe(p *program) *cobra.Command {
	return &cobra.Command{
		Use:                preflight.Command + " VERSION ARG...",
		Short:              "Check whether this program could take over from a running one",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{fmt.Errorf("%s needs the version of the handoff", preflight.Command)}
			}
			return p.probe(cmd.Context(), args[0], args[1:])
		},
	}
}

func (p *program) probe(ctx context.Context, handoffVersion string, args []string) error {
	if v, err := strconv.Atoi(handoffVersion); err != nil || v != restart.Version {
		return &usageError{fmt.Errorf("handoff version %q cannot be read by gophd %s, which reads %d: "+
			"stop the running gophd and start this one", handoffVersion, version, restart.Version)}
	}
	root := newRoot(p)
	addCommands(root, p)
	cmd, rest, err := root.Find(args)
	if err != nil {
		return &usageError{err}
	}
	if cmd.Name() != "run" {
		return &usageError{fmt.Errorf("the command line %q is not a gophd run", args)}
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return &usageError{err}
	}
	c, err := p.load(cmd, cmd.Flags().Args(), true)
	if err != nil {
		return err
	}
	if err := preflight.CheckNext(ctx, c, p.self); err != nil {
		return &startError{err} // another holder is one too, which is a success elsewhere
	}
	_, err = fmt.Fprint(p.stdout, preflight.Answer(handoffVersion, c.Encode()))
	return err
}
