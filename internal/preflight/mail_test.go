package preflight

import (
	"os"
	"path/filepath"
	"testing"

	"gophd/internal/config"
	"gophd/internal/job"
)

func TestSendmailIsSearchedIfAJobNeedsIt(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "sendmail")
	c := &config.Config{Jobs: []job.Spec{{}, {Mail: job.Mail{MailTo: "bob"}}}}
	env := []string{"PATH=relative:" + dir}
	before := Sendmail(c, env) // that of this system, if there is one
	if err := os.WriteFile(program, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Sendmail(c, env); got != before {
		t.Errorf("%s is not executable", got)
	}
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := Sendmail(c, env); got != program || MailCautions(c, env) != nil {
		t.Errorf("%s, %q", got, MailCautions(c, env))
	}
	if got := len(MailCautions(c, nil)); (got == 1) != (before == "") {
		t.Errorf("%d cautions, and the system has %q", got, before)
	}
	c.Jobs = c.Jobs[:1]
	if got := Sendmail(c, env); got != "" || MailCautions(c, nil) != nil {
		t.Errorf("%s, although nothing is mailed", got)
	}
}
