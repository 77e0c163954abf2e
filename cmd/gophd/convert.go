package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"gophd/internal/config"
)

func newConvert(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "convert",
		Short: "Print a config file that is equivalent to a crontab",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.Flags().SetInterspersed(false)
	cmd.AddCommand(newConvertCrontab(p))
	return cmd
}

func newConvertCrontab(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "crontab FILE [--system] [--crontab-seconds]",
		Short: "Print a YAML config file with the jobs of a crontab",
		Long: `Print a YAML config file with the jobs of a crontab, as gophd run --crontab runs them: the same names, schedules,
commands, variables and users. Comments are kept. What depends on the user, such as HOME, is that of the
user who converts.`,
		DisableFlagsInUseLine: true,

		Example: `  gophd convert crontab /etc/crontab > jobs.yaml
  crontab -l > my.cron && gophd convert crontab my.cron > jobs.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{fmt.Errorf("convert crontab needs one FILE, as in gophd convert crontab /etc/crontab")}
			}
			return p.convertCrontab(cmd, args[0])
		},
	}
	config.AddCrontabFlags(cmd.Flags())
	cmd.Flags().Lookup("crontab").Hidden = true // FILE is its value
	return cmd
}

func (p *program) convertCrontab(cmd *cobra.Command, file string) error {
	if err := cmd.Flags().Set("crontab", file); err != nil {
		return &usageError{err}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // that of the user database is used
	}
	yaml, warnings, err := config.ConvertCrontab(config.Request{Flags: cmd.Flags(), Env: p.self.Env, Dir: p.self.Dir,
		Home: home, UID: os.Getuid()})
	if err != nil {
		return &usageError{err}
	}
	for _, text := range warnings {
		p.warn(text)
	}
	_, err = p.stdout.Write(yaml)
	return err
}
