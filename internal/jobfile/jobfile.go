// Package jobfile answers: what of a job must outlive its daemon?
//
// A Record has it: whether the job is paused, how many of its next runs are skipped, and its last due
// time. One small file for each job in the state directory has its Record, while there is something to
// keep. A Writer writes the files, so that a disk that hangs delays neither a run nor a request.
//
// The file has two lines of JSON. The first has what was requested: if that changes, the file is replaced
// as a whole and synced, so that no crash of the machine loses it. The second has the Position: if only
// that changes, the file is written in place and not synced, because a job may be due each second. After
// a crash of the machine the Position may be an older one, or missing.
package jobfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"gophd/internal/safefile"
)

// Record is what must outlive the daemon of a job.
type Record struct {
	Requested
	Position
}

// Requested is what was requested for the runs of a job, until it is requested otherwise.
type Requested struct {
	Paused bool `json:"paused,omitempty"` // no run starts by itself
	Skip   int  `json:"skip,omitempty"`   // the next scheduled runs that do not happen
}

// Position is where a job is in its calendar.
type Position struct {
	Schedule string    `json:"schedule,omitempty"` // schedule.Schedule.ID, of Due; "" for none
	Due      time.Time `json:"due,omitzero"`       // the last due time that is over
	Boot     string    `json:"boot,omitempty"`     // of the kernel, in which a run at boot has started
	Fence    uint64    `json:"fence,omitempty"`    // fencing token of the lease under which this was recorded
}

// Equal reports whether two records are the same.
func (r Record) Equal(other Record) bool {
	a, b := r, other
	a.Due, b.Due = time.Time{}, time.Time{}
	return a == b && r.Due.Equal(other.Due)
}

// IsEmpty reports whether there is nothing to keep.
func (r Record) IsEmpty() bool { return r.Equal(Record{}) }

// maxSize limits the bytes that are read.
const maxSize = 64 << 10

// Path returns the path of the file of a job, whose files have that name.
func Path(dir, name string) string { return filepath.Join(dir, name+".job") }

// Load returns the record at path. Without a file it is empty. An error says what is not known. It blocks
// for as long as the disk does.
func Load(path string) (r Record, err error) {
	f, err := safefile.Open(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("whether the job is paused, and its last due time, is not known: %w: %s", err,
			safefile.Fix(err, "set GOPHD_STATE_DIR"))
	}
	defer f.Close()
	lines := json.NewDecoder(io.LimitReader(f, maxSize))
	if err = lines.Decode(&r.Requested); err == nil && r.Skip < 0 {
		err = fmt.Errorf("skip is %d", r.Skip)
	}
	if err != nil {
		return Record{}, fmt.Errorf("%s cannot be read, so the job is not paused, and no missed run is caught up: %w; remove it, or "+
			"pause the job again", path, err)
	}
	if err := lines.Decode(&r.Position); err != nil {
		r.Position = Position{}
		return r, fmt.Errorf("%s has no last due time that can be read, so no missed run is caught up: %w", path, err)
	}
	return r, nil
}

// encode returns the content of the file.
func encode(r Record) ([]byte, error) {
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	if err := lines.Encode(r.Requested); err != nil {
		return nil, err
	}
	if err := lines.Encode(r.Position); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// replace replaces the record at path as a whole, or removes it if there is nothing to keep. It creates
// the directory. It blocks for as long as the disk does.
func replace(path string, r Record) error {
	if r.IsEmpty() {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := encode(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(path, text, 0o600)
}

// rewrite writes the record at path, of which only the Position has changed. It blocks for as long as the
// disk does.
func rewrite(path string, r Record) error {
	text, err := encode(r)
	if err != nil {
		return err
	}
	f, err := safefile.Open(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(text, 0); err == nil {
		err = f.Truncate(int64(len(text)))
	}
	return errors.Join(err, f.Close())
}
