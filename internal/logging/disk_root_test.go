//go:build root && linux

package logging

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// fullDisk is a small tmpfs that a second file fills.
func fullDisk(t *testing.T) disk {
	t.Helper()
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(mount, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 7_500_000), 0o600); err != nil {
		t.Fatal(err)
	}
	return disk{filepath.Join(mount, "log"), func(*Log) error { return os.Remove(ballast) }}
}

func TestRootDiskFullThenFreed(t *testing.T) { testDiskFullThenFreed(t, fullDisk(t)) }

func TestRootDiskFullBlocks(t *testing.T) { testDiskFullBlocks(t, fullDisk(t)) }

// If the compressed form does not fit on the disk, the archive does not change, and the log
// continues.
func TestRootDiskFullWhileItCompresses(t *testing.T) {
	disk := fullDisk(t)
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
	waitForArchives(l.file.archives)
	closeLog(t, l)
	name := filepath.Base(archive)
	if got := names(t, dir); !slices.Contains(got, name) || slices.Contains(got, name+tempSuffix) {
		t.Errorf("%q", got)
	}
	if !bytes.Equal(contents(t, archive), noise) {
		t.Error("the archive was changed")
	}
}

// New files and archives have the configured owner.
func TestRootOwner(t *testing.T) { testModeAndOwner(t, Owner{UID: 12, GID: 34}) }
