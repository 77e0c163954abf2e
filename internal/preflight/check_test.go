package preflight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gophd/internal/config"
	"gophd/internal/heartbeat"
	"gophd/internal/heartbeat/file"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/pidfile"
	"gophd/internal/process"
	"gophd/internal/self"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == process.ShimCommand {
		if err := process.Shim(); err != nil {
			panic(err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// configured loads a config with the settings, in a directory of the test.
func configured(t *testing.T, dir string, settings ...string) *config.Config {
	t.Helper()
	c, err := config.Load(config.Request{Command: []string{"true"}, Dir: dir, UID: 1, NeedCommand: true, SystemDir: dir,
		Env: append([]string{"GOPHD_STATE_DIR=" + dir, "GOPHD_CONFIG_AUTO_RESTART_INTERVAL=24h"}, settings...)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCheckAcceptsUsablePathsWithoutSideEffects checks that all paths which a start can open or
// create are accepted, and that Check creates nothing.
func TestCheckAcceptsUsablePathsWithoutSideEffects(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Symlink(dir+"/nothing", dir+"/dangling"), os.Symlink("/dev/stdout", dir+"/stdout")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"there", "there2"} {
		if err := os.WriteFile(dir+"/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, settings := range map[string][]string{
		"all new":    {"GOPHD_LOG_FILE=a", "GOPHD_CONFIG_PID_FILE=b", "GOPHD_JOB_OUTPUT=c"},
		"all there":  {"GOPHD_LOG_FILE=there", "GOPHD_CONFIG_PID_FILE=there2", "GOPHD_JOB_STDIN=there"},
		"a dangling": {"GOPHD_LOG_FILE=dangling"},
		"a device":   {"GOPHD_LOG_FILE=/dev/null", "GOPHD_JOB_STDIN=/dev/zero"},
		"descriptors": {"GOPHD_LOG_FILE=/dev/stderr", "GOPHD_JOB_OUTPUT=/dev/fd/1",
			"GOPHD_JOB_STDIN=/dev/stdin"},
		"links to descriptors": {"GOPHD_LOG_FILE=stdout", "GOPHD_JOB_OUTPUT=stdout"},
		"directories to be": {"GOPHD_LOG_FILE=" + dir + "/new/state/x.log",
			"GOPHD_CONFIG_PID_FILE=" + dir + "/new/state/p"},
		"a service": {"GOPHD_LOG_FILE=journald:"},
	} {
		c := configured(t, dir, settings...)
		if name == "directories to be" {
			c.StateDir, c.LogDir = dir+"/new/state", dir+"/new/state"
		}
		if program, err := Check(c, os.Environ()); err != nil || filepath.Base(program) != "true" {
			t.Errorf("%s: %q, %v", name, program, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 4 {
		t.Errorf("the directory has %v; want the four entries that were there before", entries)
	}
}

// TestCheckRejectsWhatAStartNeeds checks the error and the exit code of a start for each thing that
// is missing here, that all are reported at once, and that nothing is created.
func TestCheckRejectsWhatAStartNeeds(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"file": "", "crlf": "#!/bin/sh\r\n", "naked": "echo\n", "plain": ""} {
		mode := os.FileMode(0o755)
		if name == "plain" {
			mode = 0o644
		}
		if err := os.WriteFile(dir+"/"+name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		command  string
		settings []string
		code     int
		want     []string
	}{
		"command":               {"./none", nil, 127, []string{"cannot start ./none: no such file"}},
		"command, PATH":         {"none", nil, 127, []string{"cannot start none: not found in PATH"}},
		"interpreter":           {"./crlf", nil, 127, []string{"have Windows ends"}},
		"format":                {"./naked", nil, 126, []string{"must start with a line like #!/bin/sh"}},
		"not executable":        {"./plain", nil, 126, []string{"chmod +x"}},
		"PATH of the job":       {"true", []string{"GOPHD_JOB_ENV=PATH=/none"}, 127, []string{"not found in PATH"}},
		"directory":             {"true", []string{"GOPHD_JOB_CHDIR=none"}, 1, []string{"does not exist: create it, or choose another --chdir"}},
		"directory and command": {"./none", []string{"GOPHD_JOB_CHDIR=none"}, 1, []string{"does not exist"}},
		"user":                  {"true", []string{"GOPHD_JOB_USER=no-such-user"}, 1, []string{"there is no user no-such-user"}},
		"limit":                 {"true", []string{"GOPHD_JOB_RLIMIT=nofile=unlimited"}, 1, []string{"the limit nofile=unlimited"}},
		"input":                 {"true", []string{"GOPHD_JOB_STDIN=missing"}, 1, []string{"job.stdin " + dir + "/missing: no such file"}},
		"no input":              {"true", []string{"GOPHD_JOB_STDIN=none"}, 1, []string{"/none: no such file or directory: for no input use null"}},
		"input from stdin":      {"true", []string{"GOPHD_JOB_STDIN=stdin"}, 1, []string{"/stdin: no such file or directory: for gophd's stdin use -"}},
		"log, no descriptor":    {"true", []string{"GOPHD_LOG_FILE=/proc/1/fd/77777"}, 1, []string{"log.file /proc/1/fd/77777: "}},
		"output, no descriptor": {"true", []string{"GOPHD_JOB_OUTPUT=/proc/1/fd/77777"}, 1, []string{"job.output /proc/1/fd/77777: "}},
		"input, no descriptor":  {"true", []string{"GOPHD_JOB_STDIN=/proc/1/fd/77777"}, 1, []string{"job.stdin /proc/1/fd/77777: "}},
		"log":                   {"true", []string{"GOPHD_LOG_FILE=none/x"}, 1, []string{"log.file " + dir + "/none/x: directory"}},
		"output":                {"true", []string{"GOPHD_JOB_OUTPUT=none/x"}, 1, []string{"job.output " + dir + "/none/x"}},
		"PID file":              {"true", []string{"GOPHD_CONFIG_PID_FILE=none/x"}, 1, []string{"choose another --pid-file"}},
		"two of one file":       {"true", []string{"GOPHD_CONFIG_PID_FILE=x", "GOPHD_LOG_FILE=x"}, 1, []string{"have the same file"}},
		"state directory": {"true", []string{"GOPHD_STATE_DIR=" + dir + "/file/x"}, 1,
			[]string{"cannot create the state directory " + dir + "/file/x", "set GOPHD_STATE_DIR"}},
		"log directory": {"true", []string{"GOPHD_STATE_DIR=" + dir + "/file/x", "GOPHD_HEARTBEAT_URL=none:",
			"GOPHD_CONFIG_DAEMON=yes"}, 1, []string{"cannot create the log directory " + dir + "/file/x", "set --log-file"}},
		"all at once": {"./none", []string{"GOPHD_JOB_STDIN=missing", "GOPHD_LOG_FILE=none/x"}, 1,
			[]string{"cannot start ./none", "job.stdin", "log.file"}},
	} {
		c := configured(t, dir, tc.settings...)
		c.Jobs[0].Command = []string{tc.command}
		program, err := Check(c, []string{"PATH=" + os.Getenv("PATH")})
		if err == nil {
			t.Errorf("%s: %s was found", name, program)
			continue
		}
		if code := job.StartCode(err); code != tc.code {
			t.Errorf("%s: a start exits with %d, want %d: %v", name, code, tc.code, err)
		}
		if strings.Contains(err.Error(), "\n") != (name == "all at once") {
			t.Errorf("%s: not one line for each cause: %v", name, err)
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q", name, err, want)
			}
		}
		if strings.Contains(err.Error(), os.Getenv("PATH")) {
			t.Errorf("%s: the whole PATH is in %v", name, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 4 {
		t.Errorf("the directory has %v; want what was there before", entries)
	}
}

// TestNoStateDirectoryIsNeededWithoutALock checks that none: creates and checks no directory,
// unless the default log is there.
func TestNoStateDirectoryIsNeededWithoutALock(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	none := []string{"GOPHD_STATE_DIR=" + dir + "/file/x", "GOPHD_HEARTBEAT_URL=none:"}
	for name, settings := range map[string][]string{
		"foreground":      nil,
		"daemon, own log": {"GOPHD_CONFIG_DAEMON=yes", "GOPHD_LOG_FILE=own.log"},
		"daemon, journal": {"GOPHD_CONFIG_DAEMON=yes", "GOPHD_LOG_FILE=journald:"},
	} {
		c := configured(t, dir, append(settings, none...)...)
		if _, err := Check(c, os.Environ()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := CreateDirectories(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The variable that chose the state directory is named beside the one that chooses another.
func TestErrorNamesTheVariableOfTheStateDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, settings := range map[string][]string{
		"state directory": nil,
		"log directory":   {"GOPHD_CONFIG_DAEMON=yes", "GOPHD_HEARTBEAT_URL=none:"},
	} {
		for from, named := range map[string]bool{"XDG_STATE_HOME": true, "GOPHD_STATE_DIR": false, "": false} {
			c := configured(t, dir, append(settings, "GOPHD_STATE_DIR="+dir+"/file/x")...)
			c.StateFrom = from
			_, err := Check(c, os.Environ())
			if err == nil || !strings.Contains(err.Error(), "cannot create the "+name) || !strings.Contains(err.Error(), "set GOPHD_STATE_DIR") ||
				strings.HasSuffix(err.Error(), ", or correct XDG_STATE_HOME") != named {
				t.Errorf("%s of %q: %v", name, from, err)
			}
			if err := CreateDirectories(c); err == nil || strings.HasSuffix(err.Error(), ", or correct XDG_STATE_HOME") != named {
				t.Errorf("%s of %q at a start: %v", name, from, err)
			}
		}
	}
}

// TestCheckStoreNeedsAnAnswer checks that a server that does not answer is an error, unless the job
// runs without it.
func TestCheckStoreNeedsAnAnswer(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "GOPHD_HEARTBEAT_URL=memcached://" + closed.Addr().String()
	closed.Close()
	for _, tc := range []struct {
		settings []string
		accepted bool
	}{
		{nil, false},
		{[]string{"GOPHD_HEARTBEAT_STANDBY=yes"}, false},
		{[]string{"GOPHD_HEARTBEAT_ON_UNREACHABLE=continue"}, true},
	} {
		c := configured(t, t.TempDir(), append(tc.settings, url, "GOPHD_HEARTBEAT_ACQUIRE_TIMEOUT=10ms", "GOPHD_JOB_NAME=x")...)
		_, err := CheckStore(t.Context(), c)
		if tc.accepted != (err == nil) || err != nil && !strings.Contains(err.Error(), "the store did not answer") {
			t.Errorf("%q: %v", tc.settings, err)
		}
	}
}

// TestCheckNextRejectsWhatAnotherProcessHolds checks that CheckNext rejects a lock, PID file or
// lease of another process, accepts those of the running gophd, and ignores holders without
// AskerVariable.
func TestCheckNextRejectsWhatAnotherProcessHolds(t *testing.T) {
	dir := t.TempDir()
	lock, err := file.Open(dir + "/held.heartbeat")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := lock.Add(t.Context(), "held", []byte(`pid 7`), 0); err != nil {
		t.Fatal(err)
	}
	pid, err := pidfile.Take(dir + "/held.pid")
	if err != nil {
		t.Fatal(err)
	}
	defer pid.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	downURL := "memcached://" + closed.Addr().String()
	closed.Close()
	brief := "GOPHD_HEARTBEAT_ACQUIRE_TIMEOUT=10ms"

	isHeld := func(err error) bool { return errors.As(err, new(*heartbeat.HeldError)) }
	isPID := func(err error) bool { return errors.As(err, new(*pidfile.HeldError)) }
	isUnreachable := func(err error) bool { return errors.As(err, new(*heartbeat.UnreachableError)) }
	isNil := func(err error) bool { return err == nil }
	for name, tc := range map[string]struct {
		a        Running
		settings []string
		want     func(error) bool
	}{
		"lock":          {Running{}, []string{"GOPHD_JOB_NAME=held"}, isHeld},
		"lock, standby": {Running{}, []string{"GOPHD_JOB_NAME=held", "GOPHD_HEARTBEAT_STANDBY=yes"}, isNil},
		"lock, standby, but it runs the job": {Running{Serves: true},
			[]string{"GOPHD_JOB_NAME=held", "GOPHD_HEARTBEAT_STANDBY=yes"}, isHeld},
		"lock and PID file, standby": {Running{},
			[]string{"GOPHD_JOB_NAME=held", "GOPHD_HEARTBEAT_STANDBY=yes", "GOPHD_CONFIG_PID_FILE=held.pid"}, isNil},
		"lock of the running gophd": {Running{Lock: lease.FileID(lock.Descriptor())},
			[]string{"GOPHD_JOB_NAME=held"}, isNil},
		"lock, but none: configured": {Running{},
			[]string{"GOPHD_JOB_NAME=held", "GOPHD_HEARTBEAT_URL=none:"}, isNil},
		"PID file": {Running{}, []string{"GOPHD_CONFIG_PID_FILE=held.pid"}, isPID},
		"PID file of another process": {Running{PIDFile: "1:2"},
			[]string{"GOPHD_CONFIG_PID_FILE=held.pid"}, isPID},
		"PID file of the running gophd": {Running{PIDFile: lease.PathID(dir + "/held.pid")},
			[]string{"GOPHD_CONFIG_PID_FILE=held.pid"}, isNil},
		"PID file, without a lock": {Running{},
			[]string{"GOPHD_CONFIG_PID_FILE=held.pid", "GOPHD_HEARTBEAT_URL=none:"}, isPID},
		"unreachable": {Running{},
			[]string{brief, "GOPHD_HEARTBEAT_URL=" + downURL}, isUnreachable},
		"unreachable, standby": {Running{},
			[]string{brief, "GOPHD_HEARTBEAT_URL=" + downURL, "GOPHD_HEARTBEAT_STANDBY=yes"}, isUnreachable},
		"unreachable, continue": {Running{},
			[]string{brief, "GOPHD_HEARTBEAT_URL=" + downURL, "GOPHD_HEARTBEAT_ON_UNREACHABLE=continue"}, isNil},
		"unreachable, handed off": {Running{URL: downURL, Key: "n_process_heartbeat", Holds: true},
			[]string{brief, "GOPHD_JOB_NAME=n", "GOPHD_HEARTBEAT_URL=" + downURL}, isNil},
		"unreachable, same store": {Running{URL: downURL, Key: "n_process_heartbeat"},
			[]string{brief, "GOPHD_JOB_NAME=n", "GOPHD_HEARTBEAT_URL=" + downURL}, isNil},
		"unreachable, another name": {Running{URL: downURL, Key: "m_process_heartbeat", Holds: true},
			[]string{brief, "GOPHD_JOB_NAME=n", "GOPHD_HEARTBEAT_URL=" + downURL}, isUnreachable},
	} {
		c := configured(t, dir, tc.settings...)
		err := CheckNext(t.Context(), c, self.Self{Env: []string{tc.a.Variable()}})
		if !tc.want(err) {
			t.Errorf("%s: %v", name, err)
		}
		if err := CheckNext(context.Background(), c, self.Self{}); err != nil {
			t.Errorf("%s, without %s: %v", name, AskerVariable, err)
		}
	}
	c := configured(t, dir, "GOPHD_JOB_NAME=held", "GOPHD_CONFIG_PID_FILE=held.pid")
	if file, lock, err := Holders(c); err != nil || !strings.HasPrefix(file, "PID ") || !strings.HasPrefix(lock, "PID 7 ") {
		t.Errorf("held by %q and %q", file, lock)
	}
}

// TestCautionsAreAboutOutputThatMayBeLost checks that a start which goes on, although output is
// lost or each run fails, is cautioned against.
func TestCautionsAreAboutOutputThatMayBeLost(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(syscall.Mkfifo(dir+"/fifo", 0o600), os.Symlink("fifo", dir+"/link"),
		os.WriteFile(dir+"/file", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		settings []string
		want     string
	}{
		"files":           {[]string{"GOPHD_JOB_OUTPUT=file", "GOPHD_LOG_FILE=new"}, ""},
		"words":           {[]string{"GOPHD_JOB_OUTPUT=inherit"}, ""},
		"stdout":          {[]string{"GOPHD_JOB_OUTPUT=-", "GOPHD_LOG_FILE=/dev/stderr"}, ""},
		"output":          {[]string{"GOPHD_JOB_OUTPUT=fifo"}, "job.output " + dir + "/fifo is a FIFO: start its reader"},
		"output, a link":  {[]string{"GOPHD_JOB_OUTPUT=link"}, "job.output " + dir + "/link is a FIFO: start its reader"},
		"log":             {[]string{"GOPHD_LOG_FILE=fifo"}, "log.file " + dir + "/fifo is a FIFO: start its reader first"},
		"input":           {[]string{"GOPHD_JOB_STDIN=fifo"}, ""}, // empty without a writer
		"missing journal": {[]string{"GOPHD_LOG_FILE=journald:"}, "log.file journald:: cannot reach journald at"},
		"missing syslog":  {[]string{"GOPHD_LOG_FILE=syslog:tag"}, "log.file syslog:tag: cannot reach syslog at"},
	} {
		c := configured(t, dir, tc.settings...)
		if strings.HasPrefix(name, "missing") && logging.CheckService(c.Log.File) == nil {
			tc.want = "" // this host has it
		}
		texts := Cautions(c)
		if len(texts) > 1 || (len(texts) == 0) != (tc.want == "") || len(texts) == 1 && !strings.HasPrefix(texts[0], tc.want) {
			t.Errorf("%s: %q; want %q", name, texts, tc.want)
		}
		if _, err := Check(c, os.Environ()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDistinctFindsOneFileInTwoSettings checks that a file which gophd replaces is in one setting
// only, by whatever path it is named.
func TestDistinctFindsOneFileInTwoSettings(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Symlink(dir, dir+"/alias"), os.Symlink("x", dir+"/to-x"), os.Symlink("old", dir+"/to-old"),
		os.WriteFile(dir+"/old", nil, 0o600), os.Link(dir+"/old", dir+"/hard"),
		os.WriteFile(dir+"/j.heartbeat", nil, 0o600), os.Link(dir+"/j.heartbeat", dir+"/lock")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ settings, want string }{
		"log and PID file": {"GOPHD_LOG_FILE=x GOPHD_CONFIG_PID_FILE=alias/x",
			"config.pid_file and log.file have the same file"},
		"output and PID file": {"GOPHD_JOB_OUTPUT=x GOPHD_CONFIG_PID_FILE=x", "config.pid_file and job.output"},
		"PID file and lock":   {"GOPHD_CONFIG_PID_FILE=j.heartbeat", "config.pid_file and the lock of job j"},
		"PID file and state":  {"GOPHD_CONFIG_PID_FILE=j.heartbeat.state", "config.pid_file and the lock of job j"},
		"log and record":      {"GOPHD_LOG_FILE=j.record", "the lock of job j and log.file"},
		"password and PID file": {"GOPHD_HEARTBEAT_URL=memcached://a GOPHD_CONFIG_PID_FILE=x " +
			"GOPHD_HEARTBEAT_PASSWORD_FILE=alias/x", "config.pid_file and heartbeat.password_file"},
		"stdin and PID file": {"GOPHD_CONFIG_PID_FILE=x GOPHD_JOB_STDIN=x", "config.pid_file and job.stdin"},
		"output and lock":    {"GOPHD_JOB_OUTPUT=alias/j.heartbeat", "the lock of job j and job.output"},
		"no lock":            {"GOPHD_JOB_OUTPUT=j.heartbeat GOPHD_HEARTBEAT_URL=none:", ""},
		"a link to the PID file": {"GOPHD_LOG_FILE=to-x GOPHD_CONFIG_PID_FILE=x",
			"config.pid_file and log.file have the same file"},
		"output and log":                 {"GOPHD_JOB_OUTPUT=x GOPHD_LOG_FILE=x", "/x is the log file itself: use job.output log"},
		"output is a link to it":         {"GOPHD_JOB_OUTPUT=to-old GOPHD_LOG_FILE=alias/old", "is the log file itself"},
		"a hard link to it":              {"GOPHD_JOB_OUTPUT=hard GOPHD_LOG_FILE=old", "is the log file itself"},
		"a dangling link to it":          {"GOPHD_JOB_OUTPUT=to-x GOPHD_LOG_FILE=x", "is the log file itself"},
		"output and the name of the log": {"GOPHD_JOB_OUTPUT=x% GOPHD_LOG_FILE=x%%", "/x% is the log file itself"},
		"another file":                   {"GOPHD_JOB_OUTPUT=x GOPHD_LOG_FILE=old", ""},
		"hard links: PID file and log": {"GOPHD_CONFIG_PID_FILE=old GOPHD_LOG_FILE=hard",
			"config.pid_file and log.file have the same file " + dir + "/hard under two names (hard links)"},
		"hard links: PID file and output": {"GOPHD_CONFIG_PID_FILE=old GOPHD_JOB_OUTPUT=hard", "config.pid_file and job.output"},
		"hard links: PID file and stdin":  {"GOPHD_CONFIG_PID_FILE=alias/old GOPHD_JOB_STDIN=hard", "config.pid_file and job.stdin"},
		"hard links: PID file and password": {"GOPHD_HEARTBEAT_URL=memcached://a GOPHD_CONFIG_PID_FILE=hard " +
			"GOPHD_HEARTBEAT_PASSWORD_FILE=old", "config.pid_file and heartbeat.password_file"},
		"hard links: PID file and lock": {"GOPHD_CONFIG_PID_FILE=lock", "config.pid_file and the lock of job j"},
		"hard links: lock and log":      {"GOPHD_LOG_FILE=lock", "the lock of job j and log.file"},
		"PID file and log are devices":  {"GOPHD_CONFIG_PID_FILE=/dev/null GOPHD_LOG_FILE=/dev/zero", ""},
		"both are stdout":               {"GOPHD_JOB_OUTPUT=- GOPHD_LOG_FILE=-", ""},
		"both are a device":             {"GOPHD_JOB_OUTPUT=/dev/null GOPHD_LOG_FILE=/dev/null", ""},
		"words":                         {"GOPHD_JOB_OUTPUT=inherit GOPHD_LOG_FILE=journald:", ""},
	} {
		err := Distinct(configured(t, dir, append(strings.Fields(c.settings), "GOPHD_JOB_NAME=j")...))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

// TestStreamsAreComparedByWhatTheyAre checks that the stdout and stderr of a gophd are compared with
// each file that it, or the command, writes or replaces. A process stands for that gophd.
func TestStreamsAreComparedByWhatTheyAre(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"x", "y", "j.heartbeat"} {
		if err := os.WriteFile(dir+"/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Link(dir+"/x", dir+"/hard"), os.Symlink("x", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	const (
		itself = "is the log file itself: use job.output log"
		lost   = " is the file of gophd's stdout too, and what is written there overwrites it: redirect stdout to another file, " +
			"or append to it (>>)"
	)
	for _, c := range []struct {
		redirect, settings string
		want               string
	}{
		{">x", "LOG_FILE=x JOB_OUTPUT=-", "job.output /dev/stdout " + itself},
		{">x", "LOG_FILE=x JOB_OUTPUT=inherit", "job.output inherit " + itself},
		{"2>>x", "LOG_FILE=link JOB_OUTPUT=inherit", "job.output inherit " + itself},
		{">>x", "LOG_FILE=hard JOB_OUTPUT=/dev/fd/1", "job.output /dev/fd/1 " + itself},
		{"2>x", "LOG_FILE=x JOB_OUTPUT=/dev/stderr", "job.output /dev/stderr " + itself},
		{">x", "LOG_FILE=- JOB_OUTPUT=x", "job.output " + dir + "/x " + itself},
		{"2>>x", "LOG_FILE=/dev/stderr JOB_OUTPUT=hard", "job.output " + dir + "/hard " + itself},
		{">x", "LOG_FILE=x", "log.file " + dir + "/x" + lost},
		{">x", "JOB_OUTPUT=link", "job.output " + dir + "/link" + lost},
		{">x", "CONFIG_PID_FILE=hard", "config.pid_file and gophd's stdout have the same file: redirect stdout to another file"},
		{"2>>x", "CONFIG_PID_FILE=x", "config.pid_file and gophd's stderr have the same file: redirect stderr to another file"},
		{">>j.heartbeat", "JOB_OUTPUT=-", "the lock of job j and job.output have the same file: redirect the output of gophd to another file"},
		{">x 2>&1", "LOG_FILE=- JOB_OUTPUT=/dev/stderr", ""},
		{">x", "LOG_FILE=- JOB_OUTPUT=inherit", ""},
		{">x", "LOG_FILE=- JOB_OUTPUT=log", ""},
		{">x", "LOG_FILE=y JOB_OUTPUT=-", ""},
		{">>x 2>&1", "LOG_FILE=x JOB_OUTPUT=log", ""},
		{">>x", "JOB_OUTPUT=x", ""},
		{">/dev/null 2>&1", "LOG_FILE=/dev/null JOB_OUTPUT=inherit", ""},
	} {
		stands := exec.Command("sh", "-c", "exec sleep 600 "+c.redirect)
		stands.Dir = dir
		if err := stands.Start(); err != nil {
			t.Fatal(err)
		}
		proc := fmt.Sprintf("/proc/%d/", stands.Process.Pid)
		for {
			if comm, err := os.ReadFile(proc + "comm"); err != nil || string(comm) == "sleep\n" {
				break
			}
			time.Sleep(time.Millisecond)
		}
		env := []string{"GOPHD_JOB_NAME=j"}
		for _, kv := range strings.Fields(c.settings) {
			env = append(env, "GOPHD_"+kv)
		}
		conf := configured(t, dir, env...)
		f := filesOf(conf, streamsOf(strconv.Itoa(stands.Process.Pid)))
		err := cmp.Or(f.job(conf, conf.Jobs[0]), f.daemon(conf))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v; want %q", c.settings, c.redirect, err, c.want)
		}
		_ = stands.Process.Kill()
		_ = stands.Wait()
	}
}

// TestCheckReadsThePasswordFile checks that the file of a shared heartbeat must have a user and a
// password, and that no other heartbeat needs it.
func TestCheckReadsThePasswordFile(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"good": "user:secret\n", "bad": "secret\n"} {
		if err := os.WriteFile(dir+"/"+name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct{ url, file, want string }{
		{"memcached:///run/m.sock", "good", ""},
		{"memcached:///run/m.sock", "bad", "heartbeat.password_file " + dir + "/bad: not one line user:password"},
		{"memcached://db1", "missing", "heartbeat.password_file " + dir + "/missing: no such file or directory"},
		{"file:", "missing", ""},
		{"none:", "missing", ""},
	} {
		c := configured(t, dir, "GOPHD_JOB_NAME=x", "GOPHD_HEARTBEAT_URL="+tc.url, "GOPHD_HEARTBEAT_PASSWORD_FILE="+tc.file)
		_, err := Check(c, nil)
		if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) ||
			strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s with password file %s: %v; want %q", tc.url, tc.file, err, tc.want)
		}
		if err := Valid(c); (err == nil) != (tc.want == "" || tc.file != "bad") {
			t.Errorf("%s with password file %s: Valid: %v", tc.url, tc.file, err)
		}
	}
}

// An existing file that the permissions allow to open, and open(2) does not: here the program of a
// running process.
func TestCheckOpensWhatExists(t *testing.T) {
	dir := t.TempDir()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	busy := filepath.Join(dir, "sleep")
	if err := os.WriteFile(busy, program, 0o755); err != nil {
		t.Fatal(err)
	}
	running := exec.Command(busy, "3600")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = running.Process.Kill()
		_ = running.Wait()
	}()
	for _, setting := range []string{"GOPHD_JOB_OUTPUT", "GOPHD_LOG_FILE"} {
		_, err := Check(configured(t, dir, setting+"="+busy, "GOPHD_JOB_NAME=j"), os.Environ())
		if !errors.Is(err, syscall.ETXTBSY) && (err == nil || !strings.Contains(err.Error(), "text file busy")) {
			t.Errorf("%s: %v, want an error with text file busy", setting, err)
		}
	}
}
