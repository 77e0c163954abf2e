package file

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gophd/internal/safefile"
)

// recordMode lets every user read the record and the state.
const recordMode = 0o644

// startsRecord reports whether text may be the start of a record.
func startsRecord(text []byte) bool {
	version, found := bytes.CutPrefix(text, []byte(`{"v":`))
	return found && len(version) > 0 && '0' <= version[0] && version[0] <= '9'
}

// RecordPath returns the path of the record that other users can read: NAME.record for
// NAME.heartbeat.
func RecordPath(lock string) string { return strings.TrimSuffix(lock, ".heartbeat") + ".record" }

// Paths returns the files that belong to the lock file lock: itself, its record and its state.
func Paths(lock string) []string { return []string{lock, RecordPath(lock), lock + suffix} }

// writeRecord replaces the record as a whole. It is not synced: after a crash of the machine the
// boot id is another one, so the old record does not count.
func (s *Store) writeRecord(value []byte) error {
	f, err := os.CreateTemp(filepath.Dir(s.record), s.temporaryPattern()) // no user can predict the name
	if err != nil {
		return failed("record file "+s.record, err)
	}
	_, err = f.Write(append(value[:len(value):len(value)], '\n'))
	err = errors.Join(err, f.Chmod(recordMode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.record)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error counts
		return failed("record file "+s.record, err)
	}
	return nil
}

// temporaryPattern is the pattern for the names of incomplete records (os.CreateTemp).
func (s *Store) temporaryPattern() string { return "." + filepath.Base(s.record) + "-*" }

// removeTemporary removes the incomplete records of killed holders.
func (s *Store) removeTemporary() {
	names, _ := filepath.Glob(filepath.Join(filepath.Dir(s.record), s.temporaryPattern()))
	for _, name := range names {
		_ = os.Remove(name)
	}
}

// checkRecord returns an error if the record file was not written by gophd and so must not be
// replaced.
func (s *Store) checkRecord() error {
	if _, err := os.Lstat(s.record); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f, err := safefile.Open(s.record, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return &contentError{rejected("record file", s.record, err).Error()}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxValue+1))
	// The record is not synced, so a crash of the machine may leave it empty, cut or full of zeros.
	if err != nil || len(bytes.Trim(text, "\x00 \n")) > 0 && !startsRecord(text) {
		return notWrittenByGophd("record file", s.record)
	}
	return nil
}

// readRecord returns the record as it is, or nil if there is none that can be trusted.
func (s *Store) readRecord() []byte {
	f, err := safefile.Open(s.record, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	value, err := io.ReadAll(io.LimitReader(f, maxValue+1))
	if err != nil {
		return nil
	}
	value, whole := bytes.CutSuffix(value, []byte{'\n'})
	if !whole {
		return nil
	}
	return value
}

func (s *Store) removeRecord() error {
	if err := os.Remove(s.record); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("record file "+s.record, err)
	}
	return nil
}
