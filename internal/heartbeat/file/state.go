package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"gophd/internal/heartbeat"
)

// suffix is what makes L into S, in the key and in the name of the file.
const suffix = ".state"

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
		return nil, fmt.Errorf("state file %s: %w", s.path+suffix, err)
	}
	return value, nil
}

// writeState replaces S. The fence in it must not be given twice, so it is on the disk, its name
// included, before anybody learns of it.
func (s *Store) writeState(value []byte) error {
	if s.lock == nil {
		return s.notHolder()
	}
	if len(value) > maxValue {
		return fmt.Errorf("state file %s: a value of %d bytes is refused: at most %d are taken", s.path+suffix, len(value), maxValue)
	}
	// Two newlines, as write has them, so that read can tell them from the value's own.
	err := renameio.WriteFile(s.path+suffix, append(value[:len(value):len(value)], "\n\n"...), recordMode, renameio.IgnoreUmask(), renameio.WithTempDir(filepath.Dir(s.path)))
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	return s.syncFolder()
}

func (s *Store) notHolder() error {
	return fmt.Errorf("state file %s is written by the holder of the lock only: add %s first", s.path+suffix, s.key)
}

func (s *Store) syncFolder() error {
	folder, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	defer folder.Close()
	if err := folder.Sync(); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	return nil
}
