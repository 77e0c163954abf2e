package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func loaded(t *testing.T, text string, env ...string) *Config {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "x.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Request{Command: []string{"true"}, Dir: "/", UID: 1, NeedCommand: true, SystemDir: dir,
		Env: append(env, "GOPHD_CONFIG="+file, "GOPHD_STATE_DIR=/s", "GOPHD_RUNTIME_DIR=/r")})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const everyKind = `
config: {auto_restart_interval: 2h, pid_file: /run/x.pid}
job:
  name: x
  interval: 5s
  umask: "027"
  nice: 5
  rlimit: {nofile: unlimited, core: 0}
  env: {A: "b c", B: "f"}
  timeout: 1m
  stop_signals: [INT, TERM]
  retries: 2
  fatal_exit_codes: [3]
  memory_max: 1G
heartbeat: {url: "memcached://db:11211"}
log: {file: "/var/log/%Y.log", rotate_size: 3M, mode: "0600", level: debug}
database: {host: db1, password: s3cret}
`

// The new process decodes exactly the config that was validated.
func TestDecodeReturnsWhatWasEncoded(t *testing.T) {
	for _, text := range []string{"config: {auto_restart_interval: 1h}", everyKind,
		"config: {auto_restart_interval: 1h}\njob: {schedule: '0 ~ ~ L * ?', seconds: yes, timezone: Asia/Tokyo}",
		"config: {auto_restart_interval: 1h}\njob: {schedule: '@every 90s', between: '22:00-06:00', exclude: [12-24, 2027-01-01]}"} {
		c := loaded(t, text)
		got, err := Decode(c.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.read(), got.read(), cmp.AllowUnexported(Config{}, texts{}, entries{})); diff != "" {
			t.Error(diff)
		}
		if got.Shown("heartbeat.url") != c.Shown("heartbeat.url") {
			t.Errorf("shown %q", got.Shown("heartbeat.url"))
		}
	}
}

// A config that JSON would change is not handed off.
func TestEncodeIsExactOrNothing(t *testing.T) {
	for name, text := range map[string]string{
		"no UTF-8": "config: {auto_restart_interval: 1h}\njob: {env: {A: \"\\xe9\"}}",
		"large":    "config: {auto_restart_interval: 1h}\ndatabase: {a: " + strings.Repeat("x", 600_000) + "}",
	} {
		c := loaded(t, text)
		if name == "no UTF-8" {
			c.Jobs[0].Command = []string{"caf\xe9"}
		}
		if encoded := c.Encode(); encoded != nil {
			t.Errorf("%s: %.100s", name, encoded)
		}
	}
}

func TestDecodeRejectsInvalidText(t *testing.T) {
	const good = "{\"Config\":{},\"Jobs\":[\"x\"]}\n{\"Name\":\"x\"}"
	if _, err := Decode([]byte(good)); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"", "null", "{}", `{"Config":{}}`, `{"Config":{},"Jobs":["x"]}`, good + "\n{}",
		strings.Replace(good, "{}", `{"New":1}`, 1), strings.Replace(good, "Name", "New", 1),
		strings.Replace(good, `["x"]`, `"x"`, 1)} {
		if c, err := Decode([]byte(text)); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, %v", text, c, err)
		}
	}
}

func TestChangedNamesTheSettings(t *testing.T) {
	before := loaded(t, everyKind)
	edit := strings.NewReplacer("interval: 5s", "interval: 2s", `{A: "b c", B: "f"}`, "{A: d, C: e}",
		"password: s3cret", "password: other")
	after := loaded(t, edit.Replace(everyKind))
	want := []string{"job.interval", "job.env.A", "job.env.C", "database.password", "job.env.B"}
	got := Changed(before.Encode(), after.Encode())
	got = slices.DeleteFunc(got, func(key string) bool { return key == "config.file" })
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	content := *after
	content.Jobs = slices.Clone(after.Jobs)
	content.Jobs[0].Env = append(slices.Clone(after.Jobs[0].Env), "FROM_A_FILE=1")
	if got := Changed(after.Encode(), content.Encode()); !slices.Equal(got, []string{"job.env_file"}) {
		t.Errorf("changed content of an environment file: %q", got)
	}
	if same := Changed(after.Encode(), after.Encode()); len(same) > 0 {
		t.Errorf("%q differ from themselves", same)
	}
	without := loaded(t, "config: {auto_restart_interval: 1h}").Encode()
	with := loaded(t, "job: {env: {A: b}}\nconfig: {auto_restart_interval: 1h}").Encode()
	if got := Changed(without, with); !slices.Contains(got, "job.env.A") || slices.Contains(got, "job.env") {
		t.Errorf("first variable added: %q", got)
	}
	if strings.Contains(strings.Join(got, " "), "other") {
		t.Error("a secret is named")
	}
}
