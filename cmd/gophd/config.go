package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gophd/internal/config"
)

func newConfig(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Get a setting, print a starter file, show the effective settings",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.Flags().SetInterspersed(false)
	cmd.AddCommand(newConfigGet(p), newConfigInit(p), newConfigShow(p))
	return cmd
}

func newConfigGet(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get [-c FILE] SECTION.KEY",
		Short: "Print the value of one setting, gophd's or your own",
		Long: `Print the value of one setting. That of a job of jobs: is jobs.NAME.KEY, also if the job inherits it.
gophd sets GOPHD_RUN_CONFIG to its config file for the command that it runs; there config get reads
that file.`,
		DisableFlagsInUseLine: true,

		Example: `  host=$(gophd config get database.host)
  gophd config get -c job.yaml job.interval
  gophd config get -c jobs.yaml jobs.nightly.interval`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{fmt.Errorf("config get needs one SECTION.KEY, as in gophd config get job.interval")}
			}
			return p.configGet(cmd, args[0])
		},
	}
	config.AddFileFlag(cmd.Flags())
	return cmd
}

func (p *program) configGet(cmd *cobra.Command, key string) error {
	if f := cmd.Flags().Lookup("config"); !f.Changed {
		if file := os.Getenv(config.RunVariable); file != "" {
			f.Changed = true
			if err := f.Value.Set(file); err != nil {
				return &usageError{err}
			}
		}
	}
	c, err := p.load(cmd, nil, false)
	if err != nil {
		return err
	}
	text, ok := c.Get(key)
	if !ok {
		if near := c.Nearest(key); near != "" {
			return fmt.Errorf("no setting %s; did you mean %s?", key, near)
		}
		return fmt.Errorf("no setting %s: gophd config show lists all", key)
	}
	_, err = fmt.Fprintln(p.stdout, text)
	return err
}

func newConfigInit(p *program) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "init [--format yaml|toml|json|ini]",
		Short: "Print a commented starter file",

		DisableFlagsInUseLine: true,

		Example: `  gophd config init > gophd.yaml`,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := config.Starter(format)
			if err != nil {
				return &usageError{err}
			}
			_, err = p.stdout.Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", "yaml", "yaml, toml, json or ini")
	return cmd
}

func newConfigShow(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [-c FILE] [flags of run] [-- COMMAND [ARG...]]",
		Short: "Show each effective setting and its source; secrets are hidden",

		DisableFlagsInUseLine: true,

		SuggestFor: []string{"list", "ls", "print"},
		Example: `  gophd config show -c job.yaml
  GOPHD_JOB_INTERVAL=2 gophd config show -- ./job.sh`,
		RunE: func(cmd *cobra.Command, args []string) error { return p.configShow(cmd, args) },
	}
	config.AddFlags(cmd.Flags())
	groupUsage(cmd)
	return cmd
}

func (p *program) configShow(cmd *cobra.Command, command []string) error {
	if len(command) == 1 && config.IsFile(command[0]) {
		return &usageError{fmt.Errorf("%s looks like a config file and not like a command: write gophd config show -c %s",
			command[0], command[0])}
	}
	c, err := p.load(cmd, command, false)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, v := range c.Values() {
		fmt.Fprintf(w, "%s\t%s\t%s\n", v.Key, v.Text, v.Source)
	}
	return w.Flush()
}
