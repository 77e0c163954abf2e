package file

import (
	"bytes"
	"errors"
	"fmt"
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

// startsRecord says that text may be the beginning of a record.
func startsRecord(text []byte) bool {
	version, found := bytes.CutPrefix(text, []byte(`{"v":`))
	return found && len(version) > 0 && '0' <= version[0] && version[0] <= '9'
}

// RecordPath returns where the record for others stands: NAME.record for NAME.heartbeat.
func RecordPath(lock string) string { return strings.TrimSuffix(lock, ".heartbeat") + ".record" }

// Paths returns the files of the lock at path: itself, its record and its state.
func Paths(lock string) []string { return []string{lock, RecordPath(lock), lock + suffix} }

// writeRecord replaces the record as a whole. It is not synced: after a crash of the machine it
// says nothing, since its boot id is another's.
func (s *Store) writeRecord(value []byte) error {
	f, err := os.CreateTemp(filepath.Dir(s.record), s.temp()) // a name that nobody can have prepared
	if err != nil {
		return fmt.Errorf("record file: %w", err)
	}
	_, err = f.Write(append(value[:len(value):len(value)], '\n'))
	err = errors.Join(err, f.Chmod(recordMode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.record)
	}
	if err != nil {
		return fmt.Errorf("record file: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// temp is the pattern of the names of records that are not whole yet (os.CreateTemp).
func (s *Store) temp() string { return "." + filepath.Base(s.record) + "-*" }

// sweep removes what a holder that was killed has left of a record.
func (s *Store) sweep() {
	names, _ := filepath.Glob(filepath.Join(filepath.Dir(s.record), s.temp()))
	for _, name := range names {
		_ = os.Remove(name)
	}
}

// checkRecord refuses to replace a file that gophd has not written.
func (s *Store) checkRecord() error {
	if _, err := os.Lstat(s.record); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f, err := safefile.Open(s.record, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return &contentError{fmt.Sprintf("record file %v", err)}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxValue+1))
	// Empty, zeros or cut: a crash of the machine left it so, for it is not synced.
	if err != nil || len(bytes.Trim(text, "\x00 \n")) > 0 && !startsRecord(text) {
		return notOurs("record file", s.record)
	}
	return nil
}

// readRecord returns the record as it is, and nil if there is none that can be trusted.
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
		return fmt.Errorf("record file: %w", err)
	}
	return nil
}
