// Package jobfile answers: what was requested for a job that must outlive its daemon?
//
// One small file for each job in the state directory has it, while there is something to keep: that
// the job is paused, and how many of its next runs are skipped. It counts on this host only.
package jobfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"gophd/internal/safefile"
)

// Record is the content of the file.
type Record struct {
	Paused bool `json:"paused,omitempty"`
	Skip   int  `json:"skip,omitempty"`
}

// maxSize limits the bytes that are read.
const maxSize = 64 << 10

// Path returns the path of the file of a job, whose files have that name.
func Path(dir, name string) string { return filepath.Join(dir, name+".job") }

// Load returns the record at path. Without a file it is empty. It blocks for as long as the disk does.
func Load(path string) (r Record, err error) {
	f, err := safefile.Open(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("whether the job is paused is not known: %w: %s", err, safefile.Fix(err, "set GOPHD_STATE_DIR"))
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxSize)).Decode(&r); err != nil || r.Skip < 0 {
		return Record{}, fmt.Errorf("%s cannot be read, so the job is not paused: %w; remove it, or pause the job again", path,
			errors.Join(err, negative(r.Skip)))
	}
	return r, nil
}

func negative(skip int) error {
	if skip < 0 {
		return fmt.Errorf("skip is %d", skip)
	}
	return nil
}

// Save replaces the record at path as a whole, or removes it if there is nothing to keep. It creates the
// directory. It blocks for as long as the disk does.
func Save(path string, r Record) error {
	if r == (Record{}) {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(path, append(text, '\n'), 0o600)
}
