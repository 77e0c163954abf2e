package supervisor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gophd/internal/job"
	"gophd/internal/process"
)

// mailer returns a Mailer whose sendmail is a script.
func mailer(t *testing.T, script string) *Mailer {
	t.Helper()
	program := filepath.Join(t.TempDir(), "sendmail")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := process.New()
	if err != nil {
		t.Fatal(err)
	}
	m := NewMailer(program, s)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestMailIsTheInputOfSendmail(t *testing.T) {
	got := filepath.Join(t.TempDir(), "mail")
	m := mailer(t, `echo "$@" >"$OUT"; cat >>"$OUT"`)
	m.send(message{text: "To: bob\n\n.\nend", from: "cron@example.com", env: []string{"PATH=/usr/bin:/bin", "OUT=" + got}},
		func(err error) { t.Error(err) })
	m.group.Wait()
	text, err := os.ReadFile(got)
	if want := "-i -odi -oem -oi -t -f cron@example.com\nTo: bob\n\n.\nend"; err != nil || string(text) != want {
		t.Errorf("%q %v, want %q", text, err, want)
	}
}

func TestFailureOfSendmailIsReported(t *testing.T) {
	for script, want := range map[string]string{
		"echo no such; echo recipient >&2; exit 67": "/sendmail: exit code 67: no such recipient",
		"exit 1":          "/sendmail: exit code 1",
		"kill -9 $$":      "/sendmail: signal KILL",
		"cat >/dev/null ": "",
	} {
		m := mailer(t, script)
		text := ""
		m.send(message{text: strings.Repeat("x", 1<<20), env: []string{"PATH=/usr/bin:/bin"}}, func(err error) { text = err.Error() })
		m.group.Wait()
		if !strings.HasSuffix(text, want) || want == "" && text != "" {
			t.Errorf("%s: %q, want %q", script, text, want)
		}
	}
	m := mailer(t, "exit 0")
	m.program = "/none/sendmail"
	text := ""
	m.send(message{}, func(err error) { text = err.Error() })
	m.group.Wait()
	if !strings.Contains(text, "/none/sendmail") {
		t.Errorf("%q", text)
	}
}

// A sendmail that hangs delays neither the next mail nor a run, is not started without limit, and does not
// outlive its Mailer.
func TestHangingSendmail(t *testing.T) {
	m := mailer(t, "exec sleep 1000")
	reported := make(chan string, 100)
	for range mailPlaces + 3 {
		m.send(message{text: "x", env: []string{"PATH=/usr/bin:/bin"}}, func(err error) { reported <- err.Error() })
	}
	for range 3 {
		if text := <-reported; text != "8 mails are being sent" {
			t.Error(text)
		}
	}
	m.kill() // as Close does after a while
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for range mailPlaces { // what is not sent is reported
		if text := <-reported; !strings.HasSuffix(text, "/sendmail did not end in time") && !strings.Contains(text, "cannot start") {
			t.Error(text)
		}
	}
	m.send(message{}, func(err error) { reported <- err.Error() })
	if text := <-reported; text != "gophd is ending" {
		t.Error(text)
	}
}

// A re-exec waits for no mail, and the mails are sent.
func TestLeave(t *testing.T) {
	dir := t.TempDir()
	m := mailer(t, `cat >"$DIR/new"; until test -e "$DIR/go"; do sleep 0.01; done; mv "$DIR/new" "$DIR/mail"`)
	m.send(message{text: "x", env: []string{"PATH=/usr/bin:/bin", "DIR=" + dir}}, func(err error) { t.Error(err) })
	m.Leave()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.group.Wait()
	if text, err := os.ReadFile(filepath.Join(dir, "mail")); err != nil || string(text) != "x" {
		t.Errorf("%q %v", text, err)
	}
}

// No text that a user controls can begin another line of the header.
func TestMailHeader(t *testing.T) {
	spec := &job.Spec{Mail: job.Mail{MailTo: "bob@example.com"}}
	spec.Command = []string{"/bin/sh", "-c", "echo a\nBcc: eve@example.com\n\nbody"}
	spec.Env = []string{"LOGNAME=al\nTo: eve", "CONTENT_TYPE=text/html\r\nX: y", "CONTENT_TRANSFER_ENCODING=8bit\n",
		"A=b\nBcc: eve", "LONG=" + strings.Repeat("é", 1000), "BAD=\xff"}
	header := (&runner{spec: spec}).mailHeader()
	lines := strings.Split(strings.TrimSuffix(header, "\n"), "\n")
	want := []string{"From: al To: eve (Cron Daemon)", "To: bob@example.com", "Subject: Cron <al To: eve@", "MIME-Version: 1.0",
		"Content-Type: text/html  X: y", "Content-Transfer-Encoding: 8bit ", "Auto-Submitted: auto-generated", "Precedence: bulk",
		"X-Cron-Env: <LOGNAME=al To: eve>", "X-Cron-Env: <CONTENT_TYPE=text/html  X: y>", "X-Cron-Env: <CONTENT_TRANSFER_ENCODING=8bit >",
		"X-Cron-Env: <A=b Bcc: eve>", "X-Cron-Env: <LONG=éé", "X-Cron-Env: <BAD=\uFFFD>"}
	if len(lines) != len(want) {
		t.Fatalf("%q", lines)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) || len(line) > maxHeader {
			t.Errorf("%q, want %q", line, want[i])
		}
	}
	if !strings.HasSuffix(lines[2], "> echo a Bcc: eve@example.com  body") {
		t.Error(lines[2])
	}
	spec.Command, spec.MailFrom, spec.Env = []string{"/bin/x", "y"}, "cron@example.com", nil
	if header = (&runner{spec: spec}).mailHeader(); !strings.Contains(header, "From: cron@example.com (Cron Daemon)\n") ||
		!strings.Contains(header, "> /bin/x y\n") {
		t.Error(header)
	}
}
