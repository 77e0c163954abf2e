package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"gophd/internal/config"
	"gophd/internal/heartbeat/file"
	"gophd/internal/job"
	"gophd/internal/lease"
	"gophd/internal/logging"
	"gophd/internal/pidfile"
	"gophd/internal/safefile"
	"gophd/internal/world"
)

// This file tells which of the paths that build opens it could not open. They are not opened for
// that: an open could make a file, or be noticed by the reader of a FIFO. Only the probe makes
// files, of another name, where build would make some.

// paths are those of one config.
type paths struct {
	made []string // folders that build makes where they are missing
}

func pathsOf(c *config.Config) paths { return paths{OwnDirectories(c)} }

// pending says that path is in a folder which is not there yet, and will be.
func (p paths) pending(path string) bool {
	dir := filepath.Dir(path)
	_, err := os.Stat(dir)
	return errors.Is(err, fs.ErrNotExist) && slices.Contains(p.made, dir)
}

// Distinct returns an error if a file that gophd replaces is also what another setting names: one would destroy what
// the other keeps.
func Distinct(c *config.Config) error {
	type named struct{ setting, path string }
	all := []named{{"config.pid_file", c.PIDFile}}
	if lock := lease.LockPath(c); lock != "" {
		for _, path := range file.Paths(lock) {
			all = append(all, named{"the lock of job " + c.Jobs[0].Name, path})
		}
	}
	replaced := len(all)
	all = append(all, named{"log.file", logging.FileAt(c.Log.File, time.Now())}, named{"job.output", string(c.Jobs[0].Output)})
	setting := map[string]string{} // by path
	for i, n := range all {
		if !filepath.IsAbs(n.path) { // none, or a word
			continue
		}
		dir, base := filepath.Split(n.path)
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dir = real
		}
		at := filepath.Join(dir, base)
		if other, twice := setting[at]; twice {
			return fmt.Errorf("%s and %s have the same file %s: choose another for one of them", other, n.setting, n.path)
		}
		if i < replaced {
			setting[at] = n.setting
		}
	}
	return nil
}

func (p paths) log(l logging.Options, at time.Time) error {
	if !filepath.IsAbs(l.File) { // none, or a service, which may come later
		return nil
	}
	path := logging.FileAt(l.File, at)
	o := l.Owner
	made, err := p.writable("log.file", path, l.Owners()...)
	if err != nil || !made || o == nil || os.Geteuid() == 0 {
		return err
	}
	groups, _ := os.Getgroups()
	if o.UID != -1 && o.UID != os.Geteuid() || o.GID != -1 && o.GID != os.Getegid() && !slices.Contains(groups, o.GID) {
		return fmt.Errorf("log.owner: cannot give log file %s to user %d and group %d: %w: run gophd as root or ask for no owner", path, o.UID, o.GID, fs.ErrPermission)
	}
	return nil
}

func (p paths) folder(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		err = errors.New("it is not a folder: choose another")
	case err == nil:
		err = access(path, unix.X_OK)
	}
	return unfit("job.chdir", path, err)
}

func (p paths) output(path string, w *world.World) error {
	if !filepath.IsAbs(path) {
		return nil // a word
	}
	_, err := p.writable("job.output", path, w.UIDs()...)
	return err
}

func (p paths) input(path string) error {
	if path == "" || path == job.StdinNull || path == job.StdinInherit || safefile.IsDescriptor(path) {
		return nil
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		err = errors.New("it is a folder: name a file in it")
	case err == nil && info.Mode()&fs.ModeSocket != 0:
		err = errors.New("it is a socket, which cannot be opened: name a file")
	case err == nil:
		err = access(path, unix.R_OK)
	}
	return unfit("job.stdin", path, err)
}

func (p paths) pidFile(path string) error {
	if path == "" || p.pending(path) {
		return nil
	}
	if err := pidfile.Look(path); err != nil {
		return fmt.Errorf("config.pid_file: %w", err)
	}
	return nil
}

func (p paths) lock(path string) error {
	if p.pending(path) {
		return nil
	}
	_, err := file.Peek(path) // it has nothing open
	return err
}

// writable says why no file at path can be opened for appending, and whether it would be created.
// An existing file may belong to one of owners, as with safefile.Open.
func (p paths) writable(key, path string, owners ...int) (made bool, err error) {
	if safefile.IsDescriptor(path) || p.pending(path) {
		return false, nil
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return false, unfit(key, path, errors.New("it is a folder: name a file in it"))
	case err == nil && info.Mode()&fs.ModeSocket != 0:
		return false, unfit(key, path, errors.New("it is a socket, which cannot be opened: name a file"))
	case err == nil:
		if err := access(path, unix.W_OK); err != nil { // also of one who only checks, and is not the user of gophd
			return false, unfit(key, path, err)
		}
		return false, unsafe(key, safefile.Check(path, owners...))
	case !errors.Is(err, fs.ErrNotExist):
		return false, unfit(key, path, err)
	}
	if err := safefile.Check(path, owners...); err != nil {
		return false, unsafe(key, err)
	}
	dir := filepath.Dir(target(path))
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return false, unfit(key, path, fmt.Errorf("there is no folder %s: make it, or choose another file", dir))
	case err != nil:
		return false, unfit(key, path, err)
	case !info.IsDir():
		return false, unfit(key, path, fmt.Errorf("%s is not a folder: choose another file", dir))
	}
	return true, unfit(key, path, access(dir, unix.W_OK|unix.X_OK))
}

// try makes a file beside each that build would have to make, and removes it: that finds a full
// disk, and whatever else the rights do not tell. What the asker has is there already.
func (p paths) try(c *config.Config, a Asker) error {
	l, err := LogOptions(c)
	if err != nil {
		return err
	}
	for _, at := range []struct {
		key, path string
		there     bool
		owner     *logging.Owner
	}{
		{"log.file", logging.FileAt(l.File, time.Now()), false, l.Owner},
		{"job.output", string(c.Jobs[0].Output), false, nil},
		{"config.pid_file", c.PIDFile, a.PIDFile != "" && lease.PathID(c.PIDFile) == a.PIDFile, nil},
		{"the lock file", lease.LockPath(c), a.Lock != "" && lease.PathID(lease.LockPath(c)) == a.Lock, nil},
	} {
		replaced := at.key == "config.pid_file" || at.key == "the lock file" // or what is beside it
		if at.there || !filepath.IsAbs(at.path) || safefile.IsDescriptor(at.path) || p.pending(at.path) || !replaced && lease.PathID(at.path) != "" {
			continue
		}
		if err := tryFile(filepath.Dir(target(at.path)), at.owner); err != nil {
			return unfit(at.key, at.path, err)
		}
	}
	return nil
}

func tryFile(dir string, owner *logging.Owner) error {
	f, err := os.CreateTemp(dir, ".gophd-probe-*")
	if err != nil {
		return err
	}
	if owner != nil {
		err = f.Chown(owner.UID, owner.GID)
	}
	return errors.Join(err, os.Remove(f.Name()), f.Close())
}

// makeable says why the folder cannot be made, where it is missing.
func makeable(dir string) error {
	const fix = "make it, or set GOPHD_STATE_DIR to one that can be written"
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			continue
		case err == nil && info.IsDir() && at == dir: // who needs it finds out whether it can be used
			return unsafe("directory", safefile.Check(dir))
		case err == nil && !info.IsDir():
			err = fmt.Errorf("%s is not a folder", at)
		case err == nil:
			err = access(at, unix.W_OK|unix.X_OK)
		}
		if err != nil {
			return fmt.Errorf("cannot make the folder %s: %w: %s", dir, err, fix)
		}
		return nil
	}
}

// target follows links that lead nowhere yet, as open(2) does when it makes a file.
func target(path string) string {
	for range 40 {
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return path
}

func access(path string, mode uint32) error {
	if err := unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return nil
}

// unsafe names the setting whose file belongs to another user.
func unsafe(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %w", key, err)
}

// unfit names the setting whose path it is.
func unfit(key, path string, err error) error {
	if err == nil {
		return nil
	}
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return fmt.Errorf("%s %s: %w: choose another, or see that gophd may use it", key, path, p.Err)
	}
	return fmt.Errorf("%s %s: %w", key, path, err)
}
