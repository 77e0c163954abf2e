package preflight

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gophd/internal/config"
	"gophd/internal/job"
)

// Sendmail returns the program that mails the output of runs: the sendmail in PATH of env, or in one of its
// usual directories, which a PATH may not have. It returns "" if there is none, or if no job needs it.
func Sendmail(c *config.Config, env []string) string {
	if !slices.ContainsFunc(c.Jobs, func(spec job.Spec) bool { return spec.MailTo != "" }) {
		return ""
	}
	var dirs []string
	for _, kv := range env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			dirs = filepath.SplitList(path)
		}
	}
	for _, dir := range append(dirs, "/usr/sbin", "/usr/lib", "/sbin") {
		path := filepath.Join(dir, "sendmail")
		if info, err := os.Stat(path); filepath.IsAbs(dir) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// MailCautions warns once if output that should be mailed is only in the log.
func MailCautions(c *config.Config, env []string) []string {
	for _, spec := range c.Jobs {
		if spec.MailTo != "" && Sendmail(c, env) == "" {
			return []string{"there is no sendmail, so no output is mailed to " + spec.MailTo + ": install one, or write " +
				"MAILTO=\"\" in the crontab, or leave out job.mail_to"}
		}
	}
	return nil
}
