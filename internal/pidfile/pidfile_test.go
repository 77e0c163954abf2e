package pidfile_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/pidfile"
)

// role is the environment variable that makes the test binary act as another gophd.
const role = "PIDFILE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "take":
		os.Exit(takeAndHold(os.Args[1]))
	}
}

// maxWait is much longer than any wait of a test should take, on a machine of any speed.
const maxWait = 10 * time.Minute

// takeAndHold takes the file, prints the result, and holds the file until EOF on stdin.
func takeAndHold(path string) int {
	if wait := os.Getenv("PIDFILE_TEST_WAIT"); wait != "" {
		_, _ = io.ReadFull(os.Stdin, make([]byte, 1)) // so that several processes start to take it at once
	}
	pidfile.SetReplaceTime(maxWait) // the winner may be slow to replace a stale PID by its own
	f, err := pidfile.Take(path)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("taken")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := f.Remove(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// other is another process that takes the file.
type other struct {
	*exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func startOther(t *testing.T, path string, env ...string) *other {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe, path)
	c.Env = append(append(os.Environ(), role+"=take", "GORACE=atexit_sleep_ms=0"), env...)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = c.Wait() // many tests have waited already
	})
	return &other{Cmd: c, in: in, lines: bufio.NewScanner(out)}
}

// output returns the next line that the other process prints.
func (o *other) output(t *testing.T) string {
	t.Helper()
	if !o.lines.Scan() {
		t.Fatal("the other process prints nothing")
	}
	return o.lines.Text()
}

// stop makes the other process remove the file and exit.
func (o *other) stop(t *testing.T) {
	t.Helper()
	_ = o.in.Close()
	if err := o.Wait(); err != nil {
		t.Error(err)
	}
}

func take(t *testing.T, path string) *pidfile.File {
	t.Helper()
	f, err := pidfile.Take(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

var ours = strconv.Itoa(os.Getpid()) + "\n"

// wantFiles fails the test unless dir contains exactly the named files.
func wantFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("the directory contains %q, want %q", got, names)
	}
}

func TestTakeWritesThePIDAndRemoveRemovesIt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.pid")
	old := unix.Umask(0o027)
	f, err := pidfile.Take(path)
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != ours {
		t.Errorf("the file contains %q, want %q", got, ours)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode is %v (%v), want 0640", info.Mode(), err)
	}
	wantFiles(t, dir, "x.pid")
	if err := f.Remove(); err != nil {
		t.Error(err)
	}
	wantFiles(t, dir)
	if err := f.Close(); err != nil {
		t.Errorf("Close after Remove: %v", err)
	}
}

func TestSecondInstanceReportsTheHolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.pid")
	o := startOther(t, path)
	if got := o.output(t); got != "taken" {
		t.Fatal(got)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := pidfile.Take(path)
		var held *pidfile.HeldError
		if !errors.As(err, &held) || held.PID != o.Process.Pid || held.Path != path {
			t.Fatalf("got %v, want it held by %d", err, o.Process.Pid)
		}
		if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), strconv.Itoa(o.Process.Pid)) {
			t.Errorf("got %q, want a message with file and holder", err)
		}
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was replaced: %v", err)
	}
	wantFiles(t, dir, "x.pid")

	writeFile(t, path, "garbage") // in the same file: only the lock counts
	_, err = pidfile.Take(path)
	var held *pidfile.HeldError
	if !errors.As(err, &held) || held.PID != 0 {
		t.Errorf("got %v, want it held by an unknown process", err)
	}
	writeFile(t, path, strconv.Itoa(o.Process.Pid)) // otherwise it is not a PID file and not removed
	o.stop(t)
	wantFiles(t, dir)
}

func TestOneProcessCannotTakeItTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pid")
	take(t, path)
	_, err := pidfile.Take(path)
	var held *pidfile.HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Errorf("got %v, want it held by this process", err)
	}
}

func TestStaleFileIsReplacedRegardlessOfItsPID(t *testing.T) {
	// A running process that would receive any signal that is sent to the PID in the file.
	bystander := exec.Command("/bin/sleep", "infinity")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bystander.Process.Kill() })
	for name, text := range map[string]string{
		"dead PID":          "4194303\n",
		"another program's": strconv.Itoa(bystander.Process.Pid) + "\n",
		"init's":            "1\n",
		"our own":           ours,
		"empty":             "",
		"a newline":         "\n",
		"no newline":        "4194303",
		"what a crash left": "\x00\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x.pid")
			writeFile(t, path, text)
			take(t, path)
			if got := content(t, path); got != ours {
				t.Errorf("the file contains %.20q, want %q", got, ours)
			}
			wantFiles(t, dir, "x.pid")
		})
	}
	if err := bystander.Process.Signal(unix.SIGTERM); err != nil {
		t.Errorf("the bystander has exited: %v", err)
	}
	err := bystander.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(interface{ Signal() unix.Signal }).Signal() != unix.SIGTERM {
		t.Errorf("the bystander exited with %v, not by the TERM of this test", err)
	}
}

func TestFileThatIsNotAPIDFileIsRejectedAndKept(t *testing.T) {
	for name, text := range map[string]string{
		"script":       "#!/bin/sh\necho precious\n",
		"a PID and":    "4711\nand more\n",
		"two PIDs":     "4711 4712\n",
		"bytes":        "\x00\xffhello\n",
		"negative":     "-1\n",
		"signed":       "+77\n",
		"zero":         "0",
		"10 MiB":       strings.Repeat("12345678\n", 10<<20/9),
		"many spaces":  strings.Repeat(" ", 40) + "notes",
		"a big number": "99999999999999999999",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, link := filepath.Join(dir, "x.pid"), filepath.Join(dir, "link.pid")
			writeFile(t, path, text)
			if err := os.Symlink("x.pid", link); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{path, link} {
				_, err := pidfile.Take(name)
				if err == nil || !strings.Contains(err.Error(), "is not a PID file") {
					t.Errorf("Take: %v", err)
				}
				if checked := pidfile.Check(name); checked == nil || checked.Error() != err.Error() {
					t.Errorf("Check: %v, and Take: %v", checked, err)
				}
			}
			if got := content(t, path); got != text {
				t.Errorf("the file contains %.20q, want %.20q", got, text)
			}
			wantFiles(t, dir, "link.pid", "x.pid")
		})
	}
}

func TestFileOfKilledProcessIsFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pid")
	o := startOther(t, path)
	if got := o.output(t); got != "taken" {
		t.Fatal(got)
	}
	if err := o.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = o.Wait()
	take(t, path)
	if got := content(t, path); got != ours {
		t.Errorf("the file contains %q, want %q", got, ours)
	}
}

func TestReaderNeverGetsAnEmptyOrPartialFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pid")
	for _, remove := range []bool{false, true} { // Take finds a stale file, or none
		if !remove {
			writeFile(t, path, "4194303\n")
		}
		done := make(chan struct{})
		bad := make(chan string, 1)
		go func() {
			defer close(bad)
			for {
				select {
				case <-done:
					return
				default:
				}
				data, err := os.ReadFile(path)
				if s := string(data); err == nil && s != ours && s != "4194303\n" {
					bad <- s
					return
				}
			}
		}()
		for range 200 {
			f, err := pidfile.Take(path)
			if err != nil {
				t.Fatal(err)
			}
			if remove {
				err = f.Remove()
			} else {
				err = f.Close() // the next Take finds a stale file
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		close(done)
		if s, ok := <-bad; ok {
			t.Errorf("a reader got %q", s)
		}
	}
}

func TestSimultaneousStartsHaveOneWinner(t *testing.T) {
	for round := range 6 {
		dir := t.TempDir()
		path := filepath.Join(dir, "x.pid")
		if round%2 == 1 {
			writeFile(t, path, "4194303\n")
		}
		var all []*other
		for range 5 {
			all = append(all, startOther(t, path, "PIDFILE_TEST_WAIT=1"))
		}
		for _, o := range all {
			if _, err := o.in.Write([]byte{'!'}); err != nil {
				t.Fatal(err)
			}
		}
		var winners []*other
		outputs := map[*other]string{}
		for _, o := range all {
			if outputs[o] = o.output(t); outputs[o] == "taken" {
				winners = append(winners, o)
			}
		}
		if len(winners) != 1 {
			t.Fatalf("round %d: %d processes have it: %q", round, len(winners), outputs)
		}
		w := strconv.Itoa(winners[0].Process.Pid)
		if got := content(t, path); got != w+"\n" {
			t.Errorf("round %d: the file contains %q, the winner is %s", round, got, w)
		}
		for o, output := range outputs {
			if o != winners[0] && !strings.Contains(output, "held by a running process "+w+":") {
				t.Errorf("round %d: a loser prints %q, the winner is %s", round, output, w)
			}
		}
		for _, o := range all {
			_ = o.in.Close()
			_ = o.Wait()
		}
		wantFiles(t, dir)
	}
}

// Goroutines of one process take and remove the file many times, concurrently.
func TestConcurrentTakeAndRemoveHaveOneOwner(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.pid")
	owners := make(chan struct{}, 1)
	failures := make(chan error, 8)
	for range 4 {
		go func() {
			failures <- func() error {
				for range 150 {
					f, err := pidfile.Take(path)
					var held *pidfile.HeldError
					if errors.As(err, &held) {
						runtime.Gosched()
						continue
					}
					if err != nil {
						return err
					}
					select {
					case owners <- struct{}{}:
					default:
						return errors.New("two owners at once")
					}
					<-owners
					if err := f.Remove(); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range 4 {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
	wantFiles(t, dir)
}

func TestAdoptKeepsLockAndFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.pid")
	first := take(t, path)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := first.Descriptor()
	if err != nil {
		t.Fatal(err)
	}
	if flags, err := unix.FcntlInt(kept.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("a command would inherit the descriptor: flags %d, %v", flags, err)
	}
	if err := first.Leave(); err != nil {
		t.Error(err)
	}
	if o := startOther(t, path); !strings.Contains(o.output(t), "held by") {
		t.Error("the lock was lost by Leave")
	}
	second, err := pidfile.Adopt(path, kept)
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Adopt left the descriptor open: %v", err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was replaced: %v", err)
	}
	if o := startOther(t, path); !strings.Contains(o.output(t), "held by") {
		t.Error("the lock was lost by Adopt")
	}
	if err := second.Remove(); err != nil {
		t.Error(err)
	}
	wantFiles(t, dir)
}

func TestReplacedFileIsNotRemovedOrAdopted(t *testing.T) {
	overwrite := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o644) }
	}
	for name, c := range map[string]struct {
		change        func(path string) error
		left          []string
		adopt, remove string // in the error; "" for none
	}{
		"replaced": {
			func(p string) error { return errors.Join(os.Remove(p), overwrite("7\n")(p)) },
			[]string{"x.pid"}, "replaced", "replaced",
		},
		"renamed": {func(p string) error { return os.Rename(p, p+".old") }, []string{"x.pid.old"}, "removed", ""},
		"removed": {os.Remove, nil, "removed", ""},
		"a directory": {
			func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o755)) },
			[]string{"x.pid"}, "replaced", "replaced",
		},
		"overwritten with a PID": {overwrite("7\n"), nil, "", ""},
		"overwritten with text":  {overwrite("precious\n"), []string{"x.pid"}, "", "is not a PID file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x.pid")
			f := take(t, path)
			kept, err := f.Descriptor()
			if err != nil {
				t.Fatal(err)
			}
			defer kept.Close()
			if err := c.change(path); err != nil {
				t.Fatal(err)
			}
			_, err = pidfile.Adopt(path, kept)
			if got := fmt.Sprint(err); (err == nil) != (c.adopt == "") || !strings.Contains(got, c.adopt) {
				t.Errorf("Adopt: %v, want %q", err, c.adopt)
			}
			err = f.Remove()
			if got := fmt.Sprint(err); (err == nil) != (c.remove == "") || !strings.Contains(got, c.remove) {
				t.Errorf("Remove: %v, want %q", err, c.remove)
			}
			wantFiles(t, dir, c.left...)
		})
	}
}

func TestAdoptRejectsWrongDescriptors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.pid")
	f := take(t, path)
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := pidfile.Adopt(path, null); err == nil {
		t.Error("Adopt accepted /dev/null")
	}
	same, err := os.Open(path) // another open file description, which does not have the lock
	if err != nil {
		t.Fatal(err)
	}
	defer same.Close()
	var held *pidfile.HeldError
	if _, err := pidfile.Adopt(path, same); !errors.As(err, &held) {
		t.Errorf("got %v, want a *HeldError", err)
	}
	if err := f.Remove(); err != nil {
		t.Error(err)
	}
	if err := same.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pidfile.Adopt(path, same); err == nil {
		t.Error("Adopt accepted a closed descriptor")
	}
}

func TestLockSurvivesGC(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pid")
	if _, err := pidfile.Take(path); err != nil { // no variable refers to the File
		t.Fatal(err)
	}
	for range 5 {
		runtime.GC()
	}
	if o := startOther(t, path); !strings.Contains(o.output(t), "held by a running process "+strings.TrimSpace(ours)) {
		t.Error("the garbage collection released the lock")
	}
}

func TestCloseFreesTheLockWhileADescriptorIsOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pid")
	f := take(t, path)
	kept, err := f.Descriptor()
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	take(t, path)
}

func TestFileThatIsNotRegularIsRejectedAtOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, "socket")}); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "file"), "")
	for path, want := range map[string]string{
		filepath.Join(dir, "directory"):  "is not a regular file",
		filepath.Join(dir, "fifo"):       "is not a regular file",
		filepath.Join(dir, "socket"):     "is not a regular file",
		"/dev/null":                      "is not a regular file",
		filepath.Join(dir, "none/x"):     "directory " + dir + "/none/ does not exist: create it",
		filepath.Join(dir, "file/x"):     "not a directory: choose another --pid-file",
		"/proc/gophd.pid":                "cannot create pid file /proc/gophd.pid",
		dir + "/":                        "",
		"":                               "",
		dir + "/a\x00b":                  "",
		dir + strings.Repeat("/a", 3000): "",
	} {
		if f, err := pidfile.Take(path); err == nil {
			t.Errorf("%.60q was taken", path)
			_ = f.Remove()
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60q: got %q, want one line with %q", path, err, want)
		}
	}
	wantFiles(t, dir, "directory", "fifo", "file", "socket")
}

func TestLongestFileNameWorks(t *testing.T) {
	take(t, filepath.Join(t.TempDir(), strings.Repeat("x", 255)))
}

func TestOwnLinksAreFollowed(t *testing.T) {
	dir, far := t.TempDir(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(far, "a", "b"), 0o755))
	must(os.Symlink(filepath.Join(far, "a", "b"), filepath.Join(dir, "b"))) // dir/b/.. is far/a
	must(os.Symlink("../two", filepath.Join(far, "a", "b", "one")))
	must(os.Symlink("three", filepath.Join(far, "a", "two")))
	f := take(t, filepath.Join(dir, "b", "one"))
	target := filepath.Join(far, "a", "three")
	if got := content(t, target); got != ours {
		t.Errorf("%s contains %q, want %q", target, got, ours)
	}
	if info, err := os.Lstat(filepath.Join(far, "a", "two")); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v", err)
	}
	must(f.Remove())
	wantFiles(t, filepath.Join(far, "a"), "b", "two")

	must(os.Symlink("loop", filepath.Join(dir, "loop")))
	_, err := pidfile.Take(filepath.Join(dir, "loop"))
	if err == nil || !strings.Contains(err.Error(), "link to itself") {
		t.Errorf("a loop: %v", err)
	}
}

func TestCheckReturnsTheErrorOfTakeAndChangesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/directory", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/stale", []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	held := take(t, dir+"/held")
	for name, want := range map[string]string{
		"free": "", "stale": "", "held": "is held by a running process " + strconv.Itoa(os.Getpid()),
		"directory":    "is not a regular file",
		"missing/file": "does not exist: create it", "stale/file": "not a directory: choose another",
	} {
		err := pidfile.Check(filepath.Join(dir, name))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
		var other *pidfile.HeldError
		if errors.As(err, &other) != (name == "held") {
			t.Errorf("%s: %v; want a *HeldError only for the held file", name, err)
		}
	}
	if text, err := os.ReadFile(dir + "/stale"); err != nil || string(text) != "1\n" {
		t.Errorf("the stale file contains %q, %v", text, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("the directory contains %v, %v; want the 3 files from before", entries, err)
	}
	if err := held.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := pidfile.Check(dir + "/held"); err != nil {
		t.Errorf("after Remove: %v", err)
	}
	if err := take(t, dir+"/stale").Remove(); err != nil { // Check has left no lock
		t.Error(err)
	}
}
