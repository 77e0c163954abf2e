package file

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"gophd/internal/heartbeat"
)

// suffix is appended to L to get S, in the key and in the file name.
const suffix = ".state"

// checkState returns the error that the engine would return for the value of S.
func (s *Store) checkState() error {
	switch value, err := s.readState(); {
	case errors.Is(err, heartbeat.ErrAbsent):
		return nil
	case err != nil:
		return err
	case !heartbeat.IsState(value):
		return &contentError{fmt.Sprintf("state file %s was not written by this version of gophd: "+
			"remove it (fencing tokens then start with 1 again), or choose another --name", s.path+suffix)}
	}
	return nil
}

// readState returns the value of S. It is empty for a file full of zeros, as some file systems leave
// it after a crash.
func (s *Store) readState() ([]byte, error) {
	f, err := open(s.path+suffix, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, heartbeat.ErrAbsent
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	value, err := read(f)
	if err != nil {
		return nil, failed("state file "+s.path+suffix, err)
	}
	if len(bytes.Trim(value, "\x00 \n")) == 0 {
		return nil, nil
	}
	return value, nil
}

// writeState replaces S. The fencing token in S must never be used twice, so the file and its
// directory entry are on the disk when writeState returns.
func (s *Store) writeState(value []byte) error {
	if s.lock == nil {
		return s.notHolder()
	}
	if len(value) > maxValue {
		return fmt.Errorf("state file %s: a value of %d bytes is too long: the maximum is %d",
			s.path+suffix, len(value), maxValue)
	}
	// Two newlines, as in write, so that read can tell them from newlines in the value.
	err := renameio.WriteFile(s.path+suffix, append(value[:len(value):len(value)], "\n\n"...), recordMode,
		renameio.IgnoreUmask(), renameio.WithTempDir(filepath.Dir(s.path)))
	if err != nil {
		return failed("state file "+s.path+suffix, err)
	}
	return s.syncDirectory()
}

func (s *Store) notHolder() error {
	return fmt.Errorf("only the holder of the lock may write state file %s: add %s first", s.path+suffix, s.key)
}

func (s *Store) syncDirectory() error {
	directory, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return failed("state file "+s.path+suffix, err)
	}
	defer directory.Close()
	if err := directory.Sync(); err != nil {
		return failed("state file "+s.path+suffix, err)
	}
	return nil
}
