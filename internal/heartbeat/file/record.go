package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"gophd/internal/safefile"
)

// recordMode lets every user read the record and the state.
const recordMode = 0o644

// RecordPath returns where the record for others stands: NAME.record for NAME.heartbeat.
func RecordPath(lock string) string { return strings.TrimSuffix(lock, ".heartbeat") + ".record" }

// writeRecord replaces the record as a whole. It is not synced: after a crash of the machine it says
// nothing, since its boot id is another's.
func (s *Store) writeRecord(value []byte) error {
	temp := s.record + ".tmp"
	f, err := safefile.Open(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, recordMode)
	if err == nil {
		_, err = f.Write(append(value[:len(value):len(value)], '\n'))
		err = errors.Join(err, f.Chmod(recordMode), f.Close())
	}
	if err == nil {
		err = os.Rename(temp, s.record)
	}
	if err != nil {
		return fmt.Errorf("record file: %w", err)
	}
	return nil
}

// checkRecord refuses to replace a file that gophd has not written.
func (s *Store) checkRecord() error {
	if _, err := os.Lstat(s.record); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var r struct {
		V  int
		ID string
	}
	if json.Unmarshal(s.readRecord(), &r) != nil || r.V == 0 || r.ID == "" {
		return &contentError{fmt.Sprintf("record file %s contains something else than a record of gophd: remove it, or choose another name", s.record)}
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
