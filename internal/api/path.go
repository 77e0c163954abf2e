package api

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// maxPath is the longest path of a socket in bytes, on all systems: sun_path of sockaddr_un has 104
// bytes with the final NUL on the BSDs, and 108 on Linux (unix(7)).
const maxPath = 103

const (
	socketSuffix = ".sock"
	recordSuffix = ".json"
	hashLength   = 16 // of a name that is too long
)

// base returns the path of the files of a daemon in a runtime directory, without their suffix. The end
// of a name for which the path of the socket would be too long is replaced by a hash.
func base(dir, name string) (string, error) {
	room := maxPath - len(filepath.Join(dir, "x"+socketSuffix)) + 1
	switch {
	case len(name) <= room:
	case room <= hashLength:
		return "", fmt.Errorf("the runtime directory %s has %d bytes, which is too long for the path of a socket; set "+
			"GOPHD_RUNTIME_DIR to a shorter one", dir, len(dir))
	default:
		name = name[:room-hashLength-1] + "~" + fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:hashLength]
	}
	return filepath.Join(dir, name), nil
}

// Record is the content of the file beside the socket. It stays there when the daemon has exited.
type Record struct {
	Daemon   string    `json:"daemon"`
	PID      int       `json:"pid"`
	StateDir string    `json:"state_dir"`
	LogFile  string    `json:"log_file,omitempty"`
	Started  time.Time `json:"started"`
	Version  string    `json:"version"`
	Logs
}

// maxRecord limits the bytes that are read of a record: another user may have written it.
const maxRecord = 1 << 20

// readRecord reads the record at path. It does not block on a FIFO.
func readRecord(path string) (r Record, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return r, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return r, errors.Join(err, fmt.Errorf("%s: not a regular file", path))
	}
	// The old content may be longer, and is being replaced.
	if err := json.NewDecoder(io.LimitReader(f, maxRecord)).Decode(&r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// write replaces the content of an open record.
func (r Record) write(f *os.File) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if _, err := f.WriteAt(text, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(text)))
}
