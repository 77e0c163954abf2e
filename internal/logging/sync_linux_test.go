package logging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// The log really syncs: a file that cannot be synced, as those of proc(5), is an error with the
// policies second and always, and not with never. So is stdin, here for stdout, that is such a file:
// like any regular file it can hang with its disk, and Pause stops writes to it.
func TestSyncErrorsAreReported(t *testing.T) {
	const file = "/proc/self/comm"
	name := strings.TrimSpace(read(t, file))
	defer func() {
		if err := os.WriteFile(file, []byte(name), 0); err != nil {
			t.Error(err)
		}
	}()
	stdin, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stdin)
	defer unix.Dup2(stdin, 0)
	opened, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if err := unix.Dup2(int(opened.Fd()), 0); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{file, "/dev/stdin"} {
		for policy, fails := range map[string]bool{syncNever: false, syncSecond: true, syncAlways: true} {
			l := open(t, Options{Format: simple, File: file, Sync: policy})
			if !l.sinks[0].regular {
				t.Errorf("%s is not treated as a regular file", file)
			}
			fmt.Fprintln(l.Capture("stdout")(1), "a line")
			if err := l.Close(); (err != nil) != fails {
				t.Errorf("%s, %s: got error %v", file, policy, err)
			}
		}
	}
}

// descriptors returns the open files of this process in the directory, and the directory itself.
func descriptors(t *testing.T, dir string) (open []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if to, err := os.Readlink(fd); err == nil && (to == dir || strings.HasPrefix(to, dir+"/")) {
			open = append(open, to)
		}
	}
	return open
}

// A change of the file, Reopen, and a rejected Open leave no descriptor open.
func TestNoDescriptorIsKept(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Options{File: dir + "/%S", Format: simple})
		z := l.Logger()
		if err := l.CrashOutput(); err != nil {
			t.Error(err)
		}
		for range 20 {
			if err := errors.Join(l.Reopen(), l.Reopen()); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
			z.Info().Msg("hello")
		}
		synctest.Wait() // until the file is changed
		if got := descriptors(t, dir); len(got) == 0 {
			t.Error("the descriptor of the file in use was not found")
		}
		closeLog(t, l)
		if err := l.Reopen(); !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
		_, err := Open(Options{File: dir, Format: simple})
		if err == nil {
			t.Error("a directory was opened")
		}
	})
	if got := descriptors(t, dir); len(got) > 0 {
		t.Errorf("%d descriptors are left open: %q", len(got), got)
	}
}
