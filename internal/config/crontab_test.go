package config

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// crontabOf writes a crontab, and returns the request of `gophd run --crontab` for it.
func crontabOf(t testing.TB, text string, flags ...string) Request {
	r := request(t)
	write(t, filepath.Join(r.Dir, "jobs.cron"), text)
	return parsed(t, r, append([]string{"--crontab", "jobs.cron"}, flags...)...)
}

func TestCrontabHasTheEnvironmentOfCron(t *testing.T) {
	own, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	r := crontabOf(t, "* * * * * echo a | cat\nSHELL=/bin/bash\nPATH=/opt/bin\nLOGNAME=other\nX = \" y \"\n"+
		"CRON_TZ=Europe/Berlin\nRANDOM_DELAY=30\nHOME=/tmp\n# name: second\n-30 2 * * mon b 100\\%%in%put\n")
	r.Env = []string{"SECRET=1", "PATH=/own", "TZ=Asia/Tokyo"}
	c := load(t, r)
	if !c.Many || c.Name != "jobs" || c.Crontab != filepath.Join(r.Dir, "jobs.cron") || len(c.Files) != 1 || c.Files[0].Path != c.Crontab {
		t.Errorf("%v %s %s %v", c.Many, c.Name, c.Crontab, c.Files)
	}
	first, second := c.Jobs[0], c.Jobs[1]
	sorted := func(env []string) []string { return slices.Sorted(slices.Values(env)) }
	want := []string{"HOME=" + own.HomeDir, "LOGNAME=" + own.Username, "PATH=/usr/bin:/bin", "SHELL=/bin/sh", "TZ=Asia/Tokyo",
		"USER=" + own.Username}
	if got := sorted(first.Env); !slices.Equal(got, want) || !first.ClearEnv {
		t.Errorf("%q, want %q", got, want)
	}
	want = []string{"CRON_TZ=Europe/Berlin", "HOME=/tmp", "LOGNAME=" + own.Username, "PATH=/opt/bin", "RANDOM_DELAY=30", "SHELL=/bin/bash",
		"TZ=Asia/Tokyo", "USER=" + own.Username, "X= y "}
	if got := sorted(second.Env); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := fmt.Sprint(first.Command, first.Dir, first.Cadence(), first.RunAtStart, first.Overlap, first.User, first.StdinText); got !=
		"[/bin/sh -c echo a | cat]"+own.HomeDir+"on * * * * *falsequeue" {
		t.Error(got)
	}
	if got := fmt.Sprint(second.Name, second.Command, second.Dir, second.Cadence(), second.StdinText); got !=
		"second[/bin/bash -c b 100%]/tmpon 30 2 * * mon Europe/Berlinin\nput\n" {
		t.Errorf("%q", got)
	}
	if second.Splay <= 0 || second.Splay >= 30*time.Minute {
		t.Error(second.Splay)
	}
	same, err := Decode(c.Encode())
	if err != nil || !reflect.DeepEqual(same.read(), c.read()) {
		t.Errorf("a handoff loses something: %v", err)
	}
}

// A config file, the environment and flags say what the crontab does not.
func TestCrontabWithASettingForAllJobs(t *testing.T) {
	r := crontabOf(t, "* * * * * a\nX=crontab\n* * * * * b\n", "--timeout", "5m", "--overlap", "skip", "--env", "X=flag", "--env", "PATH=/flag",
		"-c", "gophd.yaml", "--chdir", "/usr")
	r.Env = []string{"GOPHD_JOB_RETRIES=3"}
	write(t, filepath.Join(r.Dir, "gophd.yaml"), minimal+"job: {grace: 3s, retry_delay: 9s}\nconfig.name: all\nlog.level: warn\n")
	c := load(t, r)
	for i, x := range []string{"X=flag", "X=crontab"} {
		j := c.Jobs[i]
		if j.Timeout != 5*time.Minute || j.Overlap != "skip" || j.Retries != 3 || j.Grace != 3*time.Second || j.Dir != "/usr" ||
			!slices.Contains(j.Env, x) || !slices.Contains(j.Env, "PATH=/flag") {
			t.Errorf("%+v", j)
		}
	}
	if c.Name != "all" || c.Log.Level != "warn" || len(c.Files) != 2 {
		t.Errorf("%s %s %v", c.Name, c.Log.Level, c.Files)
	}
	r = crontabOf(t, "X=crontab\n* * * * * a\n")
	r.Env = []string{"GOPHD_JOB_CLEAR_ENV=false", "PATH=/own"}
	if j := load(t, r).Jobs[0]; j.ClearEnv || !slices.Equal(j.Env, []string{"X=crontab"}) {
		t.Errorf("%+v", j)
	}
}

// As root, gophd runs the crontab of a user with --user.
func TestCrontabOfAnotherUser(t *testing.T) {
	j := load(t, crontabOf(t, "* * * * * x\n", "--user", "nobody:nogroup")).Jobs[0]
	if j.User != "nobody:nogroup" || j.MailTo != "nobody" || !slices.Contains(j.Env, "LOGNAME=nobody") || !slices.Contains(j.Env, "USER=nobody") ||
		slices.Contains(j.Env, "HOME="+os.Getenv("HOME")) {
		t.Errorf("%+v", j)
	}
}

func TestCrontabMails(t *testing.T) {
	own, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	const text = "* * * * * a\nMAILTO=bob,ops@example.com\nMAILFROM=cron@example.com\n* * * * * b\nMAILTO=\"\"\n* * * * * c\n"
	for flags, first := range map[string]string{"": own.Username, "-c mail.yaml": "all@example.com", "-c none.yaml": ""} {
		r := crontabOf(t, text, strings.Fields(flags)...)
		write(t, filepath.Join(r.Dir, "mail.yaml"), minimal+"job: {mail_to: all@example.com}\n")
		write(t, filepath.Join(r.Dir, "none.yaml"), minimal+"job: {mail_to: ''}\n")
		jobs := load(t, r).Jobs
		if jobs[0].MailTo != first || jobs[0].MailFrom != "" || jobs[1].MailTo != "bob,ops@example.com" ||
			jobs[1].MailFrom != "cron@example.com" || jobs[2].MailTo != "" {
			t.Errorf("%s: %+v, %+v, %+v", flags, jobs[0].Mail, jobs[1].Mail, jobs[2].Mail)
		}
	}
	r := crontabOf(t, "MAILTO=-oQ/tmp\n* * * * * a\n")
	want := ":1: MAILTO -oQ/tmp: not an address; write one such as root or ops@example.com"
	if _, err := Load(r); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
}

func TestCrontabWithUsersAndSeconds(t *testing.T) {
	r := crontabOf(t, "*/5 * * * * * * root a b\n0 0 1 1 * 2030 nobody c\n@daily nosuchuser d\n", "--system", "--crontab-seconds")
	r.UID = 0
	c := load(t, r)
	if len(c.Jobs) != 3 {
		t.Fatal(c.Jobs)
	}
	var got []string
	for _, j := range c.Jobs {
		got = append(got, fmt.Sprint(j.User, " ", j.Cadence(), " ", j.Command[2]))
	}
	want := []string{" on */5 * * * * * * a b", "nobody on 0 0 1 1 * 2030 c", "nosuchuser on @daily d"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if c.Jobs[2].Dir != "/" || !slices.Contains(c.Jobs[1].Env, "LOGNAME=nobody") {
		t.Errorf("%s %q", c.Jobs[2].Dir, c.Jobs[1].Env)
	}
}

func TestCrontabErrors(t *testing.T) {
	for _, c := range []struct {
		text  string
		flags string
		want  string // a line of the error
	}{
		{"0 25 * * * x\n* * * *\n", "", "jobs.cron:1: column 3: hour \"25\": expected 0 to 23\nDIR/jobs.cron:2: column 8: the line ends: " +
			"expected the day of week"},
		{"\n   0 0 30 2 * x\n", "", "jobs.cron:2: column 8: never matches"},
		{"@dayly x\n", "", `jobs.cron:1: column 1: "@dayly": expected @daily`},
		{"CRON_TZ=Europe/Berln\n* * * * * x\n", "", `jobs.cron:1: CRON_TZ Europe/Berln: time zone "Europe/Berln" is not known; did you mean Europe/Berlin?`},
		{"RANDOM_DELAY=soon\n* * * * * x\n* * * * * y\n", "", "jobs.cron:1: RANDOM_DELAY soon: not a number of minutes; write one from 0 to 65535"},
		{"GOPHD_NAME=x\n* * * * * x\n", "", "jobs.cron:1: GOPHD_NAME is gophd's own; rename it"},
		{"# name: a.b\n* * * * * x\n", "", "jobs.cron:1: name: a.b: " + jobNameFix},
		{"# nothing\n", "", "jobs.cron: no job; write a line such as 17 3 * * * /usr/local/bin/backup"},
		{"* * * * * x\n", "-i 5", "--interval 5: each line of the crontab says that; leave it out"},
		{"* * * * * x\n", "--schedule @daily", "--schedule @daily: each line of the crontab says that; leave it out"},
		{"* * * * * x\n", "--once", "--once true: each line of the crontab says that; leave it out"},
		{"* * * * * x\n", "-- echo y", `command line ["echo","y"]: the jobs of DIR/jobs.cron have their own commands; leave it out`},
		{"* * * * * x\n", "-c jobs.yaml", "--crontab jobs.cron: DIR/jobs.yaml:2 has jobs: too; leave one of them out"},
		{"* * * * * x\n", "-c command.yaml", "DIR/command.yaml:2: job.command y: each line of the crontab says that; leave it out"},
		{"* * * * * * * x\n", "", `jobs.cron:1: column 11: "*": expected a command, after five fields; --crontab-seconds allows six and seven`},
		{"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\n", "", "and more: fix these first"},
	} {
		r := crontabOf(t, c.text, strings.Fields(c.flags)...)
		write(t, filepath.Join(r.Dir, "jobs.yaml"), minimal+"jobs: {a: {command: x}}\n")
		write(t, filepath.Join(r.Dir, "command.yaml"), minimal+"job: {command: y}\n")
		_, err := Load(r)
		if want := strings.ReplaceAll(c.want, "DIR", r.Dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q %s: %v\nwant %s", c.text, c.flags, err, want)
		}
	}
	for flags, want := range map[string]string{
		"--crontab none":            "--crontab none: no such file or directory; check its path",
		"--crontab .":               "--crontab .: a directory; name one of the crontabs in it",
		"--system -- x":             "--system true: there is no crontab; set config.crontab, or leave it out",
		"--crontab-seconds -- x":    "--crontab-seconds true: there is no crontab; set config.crontab, or leave it out",
		"--crontab /dev/stdin":      "--crontab /dev/stdin: a descriptor of gophd itself",
		"--crontab $HOME/x":         "--crontab $HOME/x: variables are expanded by shells only",
		"--crontab /dev/null":       "--crontab /dev/null: not a regular file; name a crontab",
		"--crontab=jobs.cron -n a/": "--name a/: contains a slash",
	} {
		r := request(t)
		write(t, filepath.Join(r.Dir, "jobs.cron"), "* * * * * x\n")
		if _, err := Load(parsed(t, r, strings.Fields(flags)...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", flags, err, want)
		}
	}
}

// A config file that happens to be in the working directory changes no crontab, and a root that is the
// command may be a user.
func TestCrontabDoubts(t *testing.T) {
	r := crontabOf(t, "17 * * * * root run-parts /etc\n")
	write(t, filepath.Join(r.Dir, "gophd.yaml"), "not: valid: yaml")
	c := load(t, r)
	want := filepath.Join(r.Dir, "jobs.cron") + ":1: root is the command here; if it is the user, add --system"
	if !slices.Contains(c.Warnings, want) || c.File != "" {
		t.Errorf("%q, want %s", c.Warnings, want)
	}
	if err := os.Chmod(c.Crontab, 0o666); err != nil {
		t.Fatal(err)
	}
	if c = load(t, r); !strings.Contains(strings.Join(c.Warnings, "\n"), "writable by every user") {
		t.Errorf("%q", c.Warnings)
	}
}
