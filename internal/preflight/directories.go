package preflight

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"gophd/internal/config"
	"gophd/internal/heartbeat/file"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/safefile"
)

// directory is one of gophd's own directories. A start creates it if it is missing. A directory
// that the user has configured must exist.
type directory struct {
	path, name string
	fix        string // the settings that choose another one
	size       int    // what a start writes there at least
	unfit      bool   // check has failed
}

// stateHome is the variable of the XDG Base Directory Specification. Without GOPHD_STATE_DIR it names
// the state directory of a user.
const stateHome = "XDG_STATE_HOME"

// ownDirectories returns the directories that this config needs: one for locks and records, and one for the log
// if the config names no other.
func ownDirectories(c *config.Config) (own []directory) {
	also := ""
	if c.StateFrom == stateHome {
		also = ", or correct " + stateHome
	}
	if lease.LockPath(c) != "" || slices.ContainsFunc(c.Jobs, func(s job.Spec) bool { return s.Calendar != nil }) {
		own = append(own, directory{path: c.StateDir, name: "state directory", size: file.MinSize,
			fix: fmt.Sprintf("set GOPHD_STATE_DIR to a directory that user %d can write to%s", os.Geteuid(), also)})
	}
	if filepath.Dir(c.Log.File) == c.LogDir && (own == nil || c.LogDir != c.StateDir) {
		own = append(own, directory{path: c.LogDir, name: "log directory",
			fix: fmt.Sprintf("set --log-file to a file that user %d can write to, or set GOPHD_STATE_DIR%s",
				os.Geteuid(), also)})
	}
	return own
}

// stateError adds what has chosen the state directory to an error about a file that may not be
// created there, or opened.
func stateError(c *config.Config, err error) error {
	if c.StateFrom == stateHome && safefile.Elsewhere(err) {
		return fmt.Errorf("%w, or correct %s", err, stateHome)
	}
	return err
}

// check returns why create would fail, and changes nothing.
func (d directory) check() error {
	if err := d.checkOwner(); err != nil {
		return err
	}
	parent, err := safefile.Creatable(d.path)
	if err == nil && parent != d.path {
		err = safefile.TryWrite(parent, d.size)
	}
	if err != nil {
		return d.cannotCreate(err)
	}
	return nil
}

func (d directory) create() error {
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return d.cannotCreate(err)
	}
	return d.checkOwner()
}

func (d directory) cannotCreate(err error) error {
	return fmt.Errorf("cannot create the %s %s: %w: %s", d.name, d.path, err, safefile.Fix(err, d.fix))
}

func (d directory) checkOwner() error {
	if err := safefile.Check(d.path); err != nil {
		return fmt.Errorf("%s %w, or %s", d.name, err, d.fix)
	}
	return nil
}

// CreateDirectories creates the directories of gophd that the config needs. Check has found its
// errors before.
func CreateDirectories(c *config.Config) error {
	for _, d := range ownDirectories(c) {
		if err := d.create(); err != nil {
			return err
		}
	}
	return nil
}
