package logging

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gophd/internal/goroutine"
)

// disk is a file on a full disk and what frees it.
type disk struct {
	log  string
	free func(*Log) error
}

// fullDisks are /dev/full behind a link, and for root a small tmpfs that a second file fills.
func fullDisks(t *testing.T) map[string]disk {
	dir := t.TempDir()
	link := filepath.Join(dir, "log")
	if err := os.Symlink("/dev/full", link); err != nil {
		t.Fatal(err)
	}
	disks := map[string]disk{"device": {link, func(l *Log) error {
		return errors.Join(os.Remove(link), l.Reopen())
	}}}
	mount := filepath.Join(dir, "disk")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	if syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=8m") == nil {
		t.Cleanup(func() {
			if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		ballast := filepath.Join(mount, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 7_500_000), 0o600); err != nil {
			t.Fatal(err)
		}
		disks["tmpfs"] = disk{filepath.Join(mount, "log"), func(*Log) error { return os.Remove(ballast) }}
	}
	return disks
}

// T61 disk_full_then_freed.
func TestDiskFullThenFreed(t *testing.T) {
	for name, disk := range fullDisks(t) {
		t.Run(name, func(t *testing.T) {
			l := open(t, Options{File: disk.log, Format: simple})
			w := l.Capture("stdout")(4720)
			for range 100 {
				if _, err := w.Write(bytes.Repeat([]byte("0123456789\n"), 1000)); err != nil {
					t.Fatal(err)
				}
				flush(t, l)
			}
			s := l.Stats()
			if !errors.Is(s.Err, syscall.ENOSPC) || s.Dropped == 0 || s.Lines+s.Dropped != 100_000 || s.Pending > 0 {
				t.Errorf("full: %+v", s)
			}
			dropped := s.Dropped
			if err := disk.free(l); err != nil {
				t.Fatal(err)
			}
			say(t, l, "hello")
			closeLog(t, l)
			s = l.Stats()
			if s.Err != nil || s.Dropped != dropped || s.Lines+s.Dropped != 100_001 {
				t.Errorf("freed: %+v", s)
			}
			text := read(t, disk.log)
			if lost(t, text) != dropped || !strings.Contains(text, `error="no space left on device"`) {
				t.Errorf("%d lines were told to be lost, want %d", lost(t, text), dropped)
			}
			whole := uint64(strings.Count(text, "out: 0123456789\n"))
			if whole != s.Lines-1 || !strings.HasSuffix(untimed([]byte(text)), "\n [0] hello\n") && whole > 0 {
				t.Errorf("%d lines are whole, %d are counted; the end is %q", whole, s.Lines-1, text[len(text)-100:])
			}
		})
	}
}

// T61 with the policy block: nothing is lost, the command waits, gophd's own lines do not, memory is
// bounded, and it goes on by itself when there is room.
func TestDiskFullBlocks(t *testing.T) {
	for name, disk := range fullDisks(t) {
		t.Run(name, func(t *testing.T) {
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
			full(t, l)
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
				t.Errorf("freed: %+v, %d were told to be lost", s, lost(t, text))
			}
			var commands []byte
			for line := range strings.Lines(text) {
				if !strings.Contains(line, " [0] ") {
					commands = append(commands, line...)
				}
			}
			if got := restored(t, simple, commands); !bytes.Equal(got, in) {
				t.Errorf("%d of %d bytes arrived, or others", len(got), len(in))
			}
		})
	}
}

// full waits until a write has found the disk full. It has an end.
func full(t *testing.T, l *Log) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !errors.Is(l.Stats().Err, syscall.ENOSPC); {
		if time.Now().After(end) {
			t.Fatal("the disk is not full")
		}
		syscall.Select(0, nil, nil, nil, &syscall.Timeval{Usec: 1000})
	}
}

// Close gives up after its 3 seconds, and lets the command go.
func TestCloseOfALogThatBlocks(t *testing.T) {
	t.Parallel()
	l := open(t, Options{File: "/dev/full", Format: simple, OnFull: onFullBlock})
	var command goroutine.Group
	command.Go(func() {
		w := l.Capture("stdout")(4720)
		for range 20 {
			_, _ = w.Write(bytes.Repeat([]byte("0123456789\n"), 6000))
		}
	})
	full(t, l)
	start := time.Now()
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "took nothing for 3s") {
		t.Errorf("got error %v", err)
	}
	if d := time.Since(start); d > drainTime+2*time.Second {
		t.Errorf("it took %v", d)
	}
	command.Wait()
	if s := l.Stats(); s.Dropped != 120_000 || s.Lines != 0 {
		t.Errorf("%+v", s)
	}
}

// An archive that finds no room for its compressed form stays as it is, and the log goes on.
func TestDiskFullWhileItCompresses(t *testing.T) {
	disk, ok := fullDisks(t)["tmpfs"]
	if !ok {
		return // only root can mount one, and a device holds no archives
	}
	dir := filepath.Dir(disk.log)
	noise := make([]byte, 490_000)
	x := uint32(1)
	for i := range noise { // so that compression gains nothing
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	archive := disk.log + ".20260101T000000.000000Z"
	if err := os.WriteFile(archive, noise, 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{File: disk.log, Format: simple, Compress: true})
	tidied(l.file.archives)
	closeLog(t, l)
	if got := names(t, dir); !slices.Contains(got, filepath.Base(archive)) || slices.Contains(got, filepath.Base(archive)+packing) {
		t.Errorf("%q", got)
	}
	if !bytes.Equal(contents(t, archive), noise) {
		t.Error("the archive was harmed")
	}
}
