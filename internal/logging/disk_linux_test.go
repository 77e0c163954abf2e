package logging

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gophd/internal/goroutine"
)

// disk is a file on a full disk, and the function that frees space.
type disk struct {
	log  string
	free func(*Log) error
}

// fullDevice is a symlink to /dev/full. A full file system is tested as root.
func fullDevice(t *testing.T) disk {
	t.Helper()
	link := filepath.Join(t.TempDir(), "log")
	if err := os.Symlink("/dev/full", link); err != nil {
		t.Fatal(err)
	}
	return disk{link, func(l *Log) error { return errors.Join(os.Remove(link), l.Reopen()) }}
}

func TestDiskFullThenFreed(t *testing.T) { testDiskFullThenFreed(t, fullDevice(t)) }

// The log drops and counts lines that do not fit on the disk. When there is space it reports how
// many.
func testDiskFullThenFreed(t *testing.T, disk disk) {
	l := open(t, Options{File: disk.log, Format: simple})
	w := l.Capture("stdout")(4720)
	for range 100 {
		if _, err := w.Write(bytes.Repeat([]byte("0123456789\n"), 1000)); err != nil {
			t.Fatal(err)
		}
		flush(l)
	}
	s := l.Stats()
	if !errors.Is(s.Err, syscall.ENOSPC) || s.Dropped == 0 || s.Lines+s.Dropped != 100_000 || s.Pending > 0 {
		t.Errorf("full: %+v", s)
	}
	dropped := s.Dropped
	if info, err := os.Stat(disk.log); err != nil {
		t.Error(err)
	} else if info.Mode().IsRegular() { // /dev/full has no end
		if text := read(t, disk.log); !strings.HasSuffix(text, "\n") {
			t.Errorf("the file ends in the middle of a line: %q", text[max(0, len(text)-100):])
		}
	}
	if err := disk.free(l); err != nil {
		t.Fatal(err)
	}
	logLine(t, l, "hello")
	closeLog(t, l)
	s = l.Stats()
	if s.Err != nil || s.Dropped != dropped || s.Lines+s.Dropped != 100_001 {
		t.Errorf("freed: %+v", s)
	}
	text := read(t, disk.log)
	if lost(t, text) != dropped || !strings.Contains(text, `error="no space left on device"`) {
		t.Errorf("the log reports %d lost lines, want %d", lost(t, text), dropped)
	}
	for line := range strings.Lines(text) {
		whole := strings.HasSuffix(line, "out: 0123456789\n") || strings.HasSuffix(line, "hello\n")
		if !whole && !strings.Contains(line, "log lines were lost") {
			t.Errorf("a line is torn: %q", line)
		}
	}
	whole := uint64(strings.Count(text, "out: 0123456789\n"))
	if whole != s.Lines-1 || !strings.HasSuffix(untimed([]byte(text)), "\n [0] hello\n") && whole > 0 {
		t.Errorf("%d lines are whole, %d are counted; the end is %q", whole, s.Lines-1, text[len(text)-100:])
	}
}

func TestDiskFullBlocks(t *testing.T) { testDiskFullBlocks(t, fullDevice(t)) }

// With the policy block nothing of the command is lost. The command waits, gophd's own lines do
// not, memory is bounded, and the log continues by itself when there is space.
func testDiskFullBlocks(t *testing.T, disk disk) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Options{File: disk.log, Format: simple, OnFull: onFullBlock})
		in := bytes.Repeat([]byte("0123456789\n"), 100_000)
		var command goroutine.Group
		command.Go(func() {
			w := l.Capture("stdout")(4720)
			for _, c := range slicesOf(in, 65536) {
				if _, err := w.Write(c); err != nil {
					t.Error(err)
				}
			}
		})
		time.Sleep(time.Minute) // the command waits
		if s := l.Stats(); !errors.Is(s.Err, syscall.ENOSPC) || s.Stalled != time.Minute || s.Dropped != 0 {
			t.Errorf("the disk is not full, or lines were lost: %+v", s)
		}
		z := l.Logger()
		const own = 50_000
		for range own {
			z.Info().Msg("never waits")
		}
		s := l.Stats()
		if s.Pending > ownLimit || s.Dropped == 0 || s.Stalled == 0 {
			t.Errorf("full: %+v", s)
		}
		if err := disk.free(l); err != nil {
			t.Fatal(err)
		}
		command.Wait()
		closeLog(t, l)
		s = l.Stats()
		text := read(t, disk.log)
		if s.Err != nil || lost(t, text) != s.Dropped || s.Lines+s.Dropped != 100_000+own {
			t.Errorf("freed: %+v, the log reports %d lost lines", s, lost(t, text))
		}
		var commands []byte
		for line := range strings.Lines(text) {
			if !strings.Contains(line, " [0] ") {
				commands = append(commands, line...)
			}
		}
		if got := restored(t, simple, commands); !bytes.Equal(got, in) {
			t.Errorf("%d of %d bytes arrived, or they differ", len(got), len(in))
		}
	})
}

// A full disk makes no progress: SetStopRequests releases a command that waits for it.
func TestHurryReleasesTheCommandFromAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openTimed(t, Options{File: "/dev/full", Format: simple, OnFull: onFullBlock})
		start := time.Now()
		var waited time.Duration
		var command goroutine.Group
		command.Go(func() {
			w := l.Capture("stdout")(4720)
			for range 20 {
				_, _ = w.Write(bytes.Repeat([]byte("0123456789\n"), 6000))
			}
			waited = time.Since(start)
		})
		time.Sleep(5 * time.Second)
		l.SetStopRequests(1)
		time.Sleep(time.Minute)
		synctest.Wait()
		if waited != 5*time.Second+readerTime {
			t.Errorf("the command waited for %v", waited)
		}
		if s := l.Stats(); s.Dropped == 0 || !errors.Is(s.Lost, errStuck) {
			t.Errorf("%+v", s)
		}
		if err := l.Close(); err == nil {
			t.Error("Close does not report the lines that it gave up")
		}
		command.Wait()
	})
}

// Close gives up in the end and releases the command.
func TestCloseOfALogThatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openTimed(t, Options{File: "/dev/full", Format: simple, OnFull: onFullBlock})
		var command goroutine.Group
		command.Go(func() {
			w := l.Capture("stdout")(4720)
			for range 20 {
				_, _ = w.Write(bytes.Repeat([]byte("0123456789\n"), 6000))
			}
		})
		synctest.Wait() // the command waits
		start := time.Now()
		if err := l.Close(); err == nil || !strings.Contains(err.Error(), "log file /dev/full accepted no more data") {
			t.Errorf("got error %v", err)
		}
		if d := time.Since(start); d != readerTime {
			t.Errorf("it took %v", d)
		}
		command.Wait()
		if s := l.Stats(); s.Dropped != 120_000 || s.Lines != 0 {
			t.Errorf("%+v", s)
		}
	})
}
