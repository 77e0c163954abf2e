package logging

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
	if syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=1m") == nil {
		t.Cleanup(func() {
			if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		ballast := filepath.Join(mount, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 500_000), 0o600); err != nil {
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
