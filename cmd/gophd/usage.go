package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// groupUsage gives a command with the flags of run a usage text with these flags below headings.
func groupUsage(cmd *cobra.Command) {
	cmd.SetUsageFunc(func(c *cobra.Command) error {
		_, err := fmt.Fprintf(c.OutOrStderr(), "Usage:\n  %s\n\nExamples:\n%s\n%s\nHelp:\n%s", c.UseLine(),
			c.Example, withHeadings(c.LocalFlags().FlagUsages()), c.InheritedFlags().FlagUsages())
		return err
	})
}

// withHeadings inserts headings into a list of flags, each before the flag in the map. The flags
// are in the order of the table of settings.
func withHeadings(list string) string {
	headings := map[string]string{
		"config":    "The daemon",
		"shell":     "The command and its exec environment",
		"interval":  "When it runs",
		"timeout":   "Timeouts, stops and retries",
		"output":    "Output",
		"heartbeat": "Lease: one instance in the cluster",
		"log-file":  "The log",
		"no-socket": "The socket for gophd list and status",
	}
	var b strings.Builder
	for line := range strings.Lines(list) {
		_, flag, _ := strings.Cut(line, "--")
		flag, _, _ = strings.Cut(flag, " ")
		if title := headings[flag]; title != "" {
			b.WriteString("\n" + title + ":\n")
		}
		b.WriteString(line)
	}
	return b.String()
}
