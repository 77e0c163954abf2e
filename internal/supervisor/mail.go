package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gophd/internal/credentials"
	"gophd/internal/goroutine"
	"gophd/internal/job"
	"gophd/internal/process"
)

// Mailer sends the output of runs by sendmail, as cron does. It is for all jobs of a daemon. A run never
// waits for it: what cannot be sent soon is not sent, and that is reported.
type Mailer struct {
	program string
	spawner *process.Spawner
	places  chan struct{} // holds one element for each mail that is being sent
	group   goroutine.Group

	mu     sync.Mutex
	closed bool               // no mail is sent any more
	silent bool               // and nobody reads a report any more
	kill   context.CancelFunc // ends the sendmails
	ctx    context.Context    // until then
	starts sync.WaitGroup     // the sendmails that are being started
}

const (
	mailPlaces = 8               // mails at a time: each has a process, and up to 256 KiB of output
	mailLimit  = 2 * time.Minute // for one mail
	mailGrace  = 5 * time.Second // for all mails at a shutdown
	mailErrors = 1 << 10         // how much of what sendmail writes is reported
	mailStart  = 2 * time.Second // how long a re-exec waits for a start
)

// NewMailer returns a Mailer that starts program with the options of sendmail.
func NewMailer(program string, spawner *process.Spawner) *Mailer {
	m := &Mailer{program: program, spawner: spawner, places: make(chan struct{}, mailPlaces)}
	m.ctx, m.kill = context.WithCancel(context.Background())
	return m
}

// Leave is for a process that is about to re-exec. It waits, in bounded time, until the sendmails of all mails
// have been started: each has its mail in a file, and needs this process no more.
func (m *Mailer) Leave() {
	m.end(true)
	started := make(chan struct{})
	m.group.Go(func() {
		m.starts.Wait()
		close(started)
	})
	select {
	case <-started:
	case <-time.After(mailStart):
	}
}

// Close waits for the mails that are being sent, in bounded time, and kills what is left.
func (m *Mailer) Close() error {
	m.end(false)
	timer := time.AfterFunc(mailGrace, m.kill)
	defer timer.Stop()
	m.group.Wait()
	m.kill()
	return nil
}

func (m *Mailer) end(silent bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.silent = true, m.silent || silent
}

// message is a mail and the user who sends it.
type message struct {
	text   string
	from   string // for the envelope; "" for the default of sendmail
	env    []string
	sender *credentials.Credentials // nil for gophd's own user
}

// send sends a mail, and calls report if that fails. It does not block.
func (m *Mailer) send(mail message, report func(error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		report(errors.New("gophd is ending"))
		return
	}
	select {
	case m.places <- struct{}{}:
	default:
		report(fmt.Errorf("%d mails are being sent", mailPlaces))
		return
	}
	m.starts.Add(1)
	m.group.Go(func() {
		defer func() { <-m.places }()
		if err := m.deliver(mail); err != nil && !m.left() {
			report(err)
		}
	})
}

// left returns true if nobody reads a report any more.
func (m *Mailer) left() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.silent
}

// deliver starts sendmail and waits for it. The options are those that cron passes: the end of the input is
// the end of the mail, and the mail is delivered before sendmail exits, if that is possible.
func (m *Mailer) deliver(mail message) error {
	ctx, cancel := context.WithTimeout(m.ctx, mailLimit)
	defer cancel()
	argv := []string{m.program, "-i", "-odi", "-oem", "-oi", "-t"}
	if mail.from != "" {
		argv = append(argv, "-f", mail.from)
	}
	said, err := process.TextFile("") // what sendmail writes; a pipe would make a re-exec wait for its end
	if err != nil {
		m.starts.Done()
		return err
	}
	defer said.Close()
	p, err := m.start(ctx, process.Command{Argv: argv, Dir: "/", Env: mail.env, Credentials: mail.sender,
		Stdout: process.Output{File: said}, Stderr: process.Output{Same: true}}, mail.text)
	if err != nil {
		return err
	}
	release := context.AfterFunc(ctx, func() { p.Stop(0) })
	defer release()
	result := p.Wait()
	text := make([]byte, mailErrors)
	n, _ := said.ReadAt(text, 0) // at the end of the file there is no more
	switch words := strings.ToValidUTF8(strings.Join(strings.Fields(string(text[:n])), " "), ""); {
	case ctx.Err() != nil:
		return fmt.Errorf("%s did not end in time", m.program)
	case result.Outcome == job.Exited && result.Code == 0:
		return nil
	case words != "":
		return fmt.Errorf("%s: %s: %s", m.program, result, words)
	default:
		return fmt.Errorf("%s: %s", m.program, result)
	}
}

// start starts sendmail with the mail as its input.
func (m *Mailer) start(ctx context.Context, c process.Command, text string) (*process.Process, error) {
	defer m.starts.Done()
	in, err := process.TextFile(text)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	c.Stdin = in
	return m.spawner.Start(ctx, c)
}

// mail sends the output of a run, if it has one, to job.mail_to.
func (r *runner) mail(at slot, result job.Result) {
	kept := at.tail
	if kept == nil {
		kept = at.buffer
	}
	if r.mailer == nil || r.spec.MailTo == "" || kept == nil || result.PID == 0 { // PID 0: it was handed off
		return
	}
	if at.buffer != nil && r.spec.Judge(result) == job.Success { // on-failure
		return
	}
	var body bytes.Buffer
	_ = kept.Dump(&body) // a buffer accepts everything
	if body.Len() == 0 {
		return
	}
	mail := message{text: r.mailHeader() + "\n" + body.String(), from: r.spec.MailFrom, env: r.shared()}
	if c := r.credentials; c != nil && c.User != nil {
		mail.sender = &credentials.Credentials{User: c.User}
	}
	number := at.run.Number
	r.mailer.send(mail, func(err error) {
		r.hooks.problem(fmt.Errorf("the output of run %d%s was not mailed to %s: %w; it is in the log if there is one", number,
			r.ofJob, r.spec.MailTo, err))
	})
}

// mailHeader returns the header of a mail, as cron writes it.
func (r *runner) mailHeader() string {
	get := func(name string) string {
		i := slices.IndexFunc(r.spec.Env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
		if i < 0 {
			return ""
		}
		return r.spec.Env[i][len(name)+1:]
	}
	user := get("LOGNAME")
	switch c := r.credentials; {
	case user != "":
	case c != nil && c.User != nil:
		user = c.User.Name
	default:
		user = strconv.Itoa(os.Getuid())
		if u, err := credentials.LookupUser(user); err == nil {
			user = u.Name
		}
	}
	host, _ := os.Hostname() // without one the subject has none
	host, _, _ = strings.Cut(host, ".")
	from := r.spec.MailFrom
	if from == "" {
		from = user
	}
	kind := get("CONTENT_TYPE")
	if kind == "" {
		kind = "text/plain; charset=UTF-8"
	}
	command := r.spec.Command[len(r.spec.Command)-1]
	if len(r.spec.Command) != 3 || r.spec.Command[1] != "-c" {
		command = strings.Join(r.spec.Command, " ")
	}
	lines := []string{"From: " + from + " (Cron Daemon)", "To: " + r.spec.MailTo,
		"Subject: Cron <" + user + "@" + host + "> " + command, "MIME-Version: 1.0", "Content-Type: " + kind}
	if encoding := get("CONTENT_TRANSFER_ENCODING"); encoding != "" {
		lines = append(lines, "Content-Transfer-Encoding: "+encoding)
	}
	lines = append(lines, "Auto-Submitted: auto-generated", "Precedence: bulk")
	for _, kv := range r.spec.Env {
		lines = append(lines, "X-Cron-Env: <"+kv+">")
	}
	var header strings.Builder
	for _, line := range lines {
		header.WriteString(oneLine(line) + "\n")
	}
	return header.String()
}

// maxHeader is the longest line of a mail: RFC 5322, section 2.1.1.
const maxHeader = 998

// oneLine returns a text that is one line of a header: what would begin another one is a blank.
func oneLine(text string) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), maxHeader)], "")
}

// mailed makes gophd's own output a pipe, so that the output of a run can be mailed too.
func (r *runner) mailed(o process.Output, number int) process.Output {
	to := o.File
	if to != os.Stdout && to != os.Stderr {
		return o
	}
	return process.Output{Open: func(pid int) io.WriteCloser {
		return r.outlet(process.HandedStream{Number: number, PID: pid}, to.Name(), to, nil)
	}}
}
