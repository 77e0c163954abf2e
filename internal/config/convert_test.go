package config

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gophd/internal/job"
)

const converted = `# Made from FILE by gophd convert crontab. Run it with gophd run -c FILE.
config:
  auto_restart_interval: 24h
  name: "jobs"
job:
  chdir: "/"
  clear_env: true
  env:
    HOME: "/"
    PATH: "/usr/bin:/bin"
    SHELL: "/bin/sh"
    LOGNAME: "OWN"
    USER: "OWN"
jobs:
  # The jobs of the team.
  # Backups:	nightly
  nightly:
    schedule: "17 3 * * 1-5"
    command: '/opt/backup.sh "a b" \x'
    mail_to: "OWN"
  # again
  backup-HASH1:
    schedule: "@reboot"
    timezone: "Europe/Berlin"
    command: "/opt/backup.sh 'x' 100%"
    stdin_text: "one\n$two\n"
    env:
      MAILTO: ""
      CRON_TZ: "Europe/Berlin"
    mail_to: ""
# the end
`

func TestConvertedCrontabKeepsComments(t *testing.T) {
	r := crontabOf(t, "HOME=/\n# The jobs of the team.\n\n# Backups:\tnightly\n# name: nightly\n17 3 * * 1-5 /opt/backup.sh \"a b\" \\x\n"+
		"MAILTO=\n# again\nCRON_TZ=Europe/Berlin\n@reboot /opt/backup.sh 'x' 100\\%%one%$two\n# the end")
	write(t, filepath.Join(r.Dir, "gophd.yaml"), "not read")
	r.Env = []string{"GOPHD_JOB_TIMEOUT=5", "GOPHD_CONFIG=gophd.yaml", "SECRET=x"}
	c := load(t, crontabOf(t, "* * * * * /opt/backup.sh 'x' 100\\%%one%$two\n"))
	yaml, warnings, err := ConvertCrontab(r)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	own := c.Jobs[0].MailTo
	want := strings.NewReplacer("FILE by", filepath.Join(r.Dir, "jobs.cron")+" by", "OWN", own, "backup-HASH1", c.Jobs[0].Name).Replace(converted)
	if string(yaml) != want {
		t.Errorf("%s\nwant %s", yaml, want)
	}
}

// runsOf returns the next runs of a job.
func runsOf(j job.Spec, n int) (all []time.Time) {
	for due, ok := j.Calendar.Next(time.Date(2026, 11, 30, 1, 2, 3, 0, time.UTC)); ok && len(all) < n; due, ok = j.Calendar.Next(due) {
		all = append(all, due)
	}
	return all
}

// A converted crontab has the same jobs, with the same next 50 runs.
func TestConvertedCrontabIsEquivalent(t *testing.T) {
	dir := t.TempDir()
	field := func(low, high int, names ...string) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			a := rapid.IntRange(low, high).Draw(t, "from")
			b := rapid.IntRange(a, high).Draw(t, "to")
			all := append(names, "*", fmt.Sprint(a), fmt.Sprintf("%d-%d", a, b), fmt.Sprintf("%d,%d", a, b),
				fmt.Sprintf("*/%d", max(1, (high-low)/3)), fmt.Sprintf("%d-%d/2", a, b), fmt.Sprintf("%d~%d", a, b))
			return rapid.SampledFrom(all).Draw(t, "field")
		})
	}
	text := rapid.StringMatching(`[a-zA-Z0-9"'\\$#:{}\[\]&*!|>%@ ,é-]{0,20}`)
	schedule := rapid.Custom(func(t *rapid.T) string {
		fields := []string{field(0, 59).Draw(t, "minute"), field(0, 23).Draw(t, "hour"), field(1, 28, "L", "15W").Draw(t, "day"),
			field(1, 12, "feb", "jan-mar").Draw(t, "month"), field(0, 7, "mon-fri", "5L", "sun#2").Draw(t, "weekday")}
		five := strings.Join(fields, rapid.SampledFrom([]string{" ", "\t", "  "}).Draw(t, "blank"))
		return rapid.SampledFrom([]string{five, five, five, five + " *", "*/7 " + five + " 2026-2040", "@daily", "@every 90s", "@reboot"}).Draw(t, "schedule")
	})
	line := rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 5).Draw(t, "line") {
		case 0:
			return "# " + text.Draw(t, "comment")
		case 1:
			return rapid.SampledFrom([]string{"A", "B", "MAILTO", "MAILFROM"}).Draw(t, "name") + " = '" +
				strings.NewReplacer("'", "", "$", "").Replace(rapid.StringMatching(`[a-z@#: ",$é]{0,9}`).Draw(t, "value")) + "'"
		case 2:
			return rapid.SampledFrom([]string{"CRON_TZ=America/New_York", "CRON_TZ=Australia/Lord_Howe", "CRON_TZ=", "RANDOM_DELAY=45", "RANDOM_DELAY=0",
				"SHELL=/bin/bash", "SHELL=/bin/sh", "HOME=/tmp", "PATH=/opt/bin", ""}).Draw(t, "variable")
		}
		return schedule.Draw(t, "schedule") + " x" + text.Draw(t, "command")
	})
	rapid.Check(t, func(t *rapid.T) {
		lines := append(rapid.SliceOfN(line, 0, 12).Draw(t, "lines"), "17 3 * * * last")
		path := filepath.Join(dir, "jobs.cron")
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		request := func(name, value string) Request {
			return Request{Dir: dir, Home: "/", UID: os.Getuid(), SystemDir: dir, NeedCommand: true, Env: []string{name + "=" + value}}
		}
		r := request(variable(crontabKey), path)
		r.Env = append(r.Env, "GOPHD_CONFIG_CRONTAB_SECONDS=true")
		want, err := Load(r)
		if err != nil {
			t.Fatal(err)
		}
		l := newLoader(r)
		_, files, err := l.load()
		if err != nil {
			t.Fatal(err)
		}
		w := &converter{file: path, jobs: files.entries, table: files.parsed}
		w.write(want.Name)
		yaml := filepath.Join(dir, "jobs.yaml")
		if err := os.WriteFile(yaml, w.b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Load(request(configVariable, yaml))
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, strings.Join(lines, "\n"), w.b.Bytes())
		}
		if got.Name != want.Name || len(got.Jobs) != len(want.Jobs) {
			t.Fatalf("%s with %d jobs, want %s with %d\n%s", got.Name, len(got.Jobs), want.Name, len(want.Jobs), w.b.Bytes())
		}
		for i, j := range want.Jobs {
			same := got.Jobs[i]
			if !same.Calendar.Equal(j.Calendar) || !slices.EqualFunc(runsOf(same, 50), runsOf(j, 50), time.Time.Equal) {
				t.Fatalf("%s: other runs\n%s", j.Name, w.b.Bytes())
			}
			for _, spec := range []*job.Spec{&same, &j} {
				spec.Calendar = nil
				spec.Env = slices.SortedFunc(slices.Values(spec.Env), cmp.Compare[string])
			}
			if a, b := fmt.Sprintf("%+v", same), fmt.Sprintf("%+v", j); a != b {
				t.Fatalf("%s\nwant %s\n%s", a, b, w.b.Bytes())
			}
		}
	})
}

func TestConvertRefusesWhatYAMLCannotHave(t *testing.T) {
	_, _, err := ConvertCrontab(crontabOf(t, "* * * * * echo \xff\n"))
	if err == nil || !strings.HasPrefix(err.Error(), "jobs.cron: ") || !strings.Contains(err.Error(), "is not UTF-8") {
		t.Error(err)
	}
	_, _, err = ConvertCrontab(crontabOf(t, "0 25 * * * x\n"))
	if err == nil || !strings.HasSuffix(err.Error(), `jobs.cron:1: column 3: hour "25": expected 0 to 23`) {
		t.Error(err)
	}
}

// Any crontab is either refused, or the config file that is made of it has the same jobs.
func FuzzConvertedCrontab(f *testing.F) {
	for _, text := range []string{"* * * * * x", "A=b\nMAILTO=\"\"\n@daily x%y%\n", "# name: x\n-*/5 * * * * x 'y' \"z\" \\ # é\r\n",
		"SHELL=/bin/bash\nCRON_TZ=Asia/Tokyo\nRANDOM_DELAY=5\nHOME=/tmp\n0 0 1 1 * 2030 x\n*/2 0 0 1 1 * 2030 y: {} [] & *\n# end",
		"* * * * * echo \xff", "A='\t'\n@reboot x\x7f\u2028\u0085y"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		path := write(t, filepath.Join(dir, "x.cron"), text)
		r := Request{Dir: dir, Home: "/", UID: os.Getuid(), SystemDir: dir, NeedCommand: true,
			Env: []string{"GOPHD_CONFIG_CRONTAB=" + path, "GOPHD_CONFIG_CRONTAB_SECONDS=true", "GOPHD_STATE_DIR=/s"}}
		want, err := Load(r)
		if err != nil {
			return
		}
		r.Flags = parsed(t, r, "--crontab", path, "--crontab-seconds").Flags
		yaml, _, err := ConvertCrontab(r)
		if err != nil {
			if strings.Contains(err.Error(), "not UTF-8") {
				return
			}
			t.Fatal(err)
		}
		r.Flags, r.Env = nil, []string{"GOPHD_CONFIG=" + write(t, filepath.Join(dir, "x.yaml"), string(yaml)), "GOPHD_STATE_DIR=/s"}
		got, err := Load(r)
		if err != nil {
			t.Fatalf("%v\n%s", err, yaml)
		}
		if len(got.Jobs) != len(want.Jobs) {
			t.Fatalf("%d jobs, want %d\n%s", len(got.Jobs), len(want.Jobs), yaml)
		}
		for i, j := range want.Jobs {
			same := got.Jobs[i]
			slices.Sort(j.Env)
			slices.Sort(same.Env)
			if !same.Calendar.Equal(j.Calendar) {
				t.Fatalf("%s: %s, want %s", j.Name, same.Calendar, j.Calendar)
			}
			same.Calendar, j.Calendar = nil, nil
			if a, b := fmt.Sprintf("%+v", same), fmt.Sprintf("%+v", j); a != b {
				t.Fatalf("%s\nwant %s\n%s", a, b, yaml)
			}
		}
	})
}
