package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"gophd/internal/safefile"
	"gophd/internal/watch"
)

// formats are the extensions of a config file, in the order in which messages list them.
var formats = []string{"yaml", "yml", "toml", "json", "ini"}

const formatFix = "the extension is not a known format; use .yaml, .yml, .toml, .json or .ini"

const systemDir = "/etc/gophd"

// maxFile is far larger than any real config file, and small enough to read at once.
const maxFile = 1 << 20

// locate returns the absolute path of the config file, or "" if there is none. A file that was
// named must exist. The working directory is searched only when no command was given, so that a
// file that happens to be there cannot change a job.
func (l *loader) locate() string {
	if l.noFile {
		return ""
	}
	named, ok := l.flag(configFlag)
	subject := "--" + configFlag
	if !ok {
		named, subject = l.env[configVariable], configVariable
		ok = named != ""
	}
	if ok && isLong("c", named, configFlag) {
		l.problems = append(l.problems, oneDash(configFlag))
		return ""
	}
	if ok {
		l.explicit = true
		if l.isUnexpanded(subject, named, configVariable) {
			return ""
		}
		if err := checkPath(named); err != nil {
			l.reject(subject, visible(named), err.Error())
			return ""
		}
		if !slices.Contains(formats, extension(named)) {
			l.reject(subject, visible(named), formatFix+"; for a crontab write --crontab")
			return ""
		}
		return l.absolute(named)
	}
	for _, dir := range l.searched() {
		if path := l.found(dir); path != "" {
			return path
		}
	}
	return ""
}

// IsFile reports whether a path has the name of a config file.
func IsFile(path string) bool { return slices.Contains(formats, extension(path)) }

func extension(path string) string { return strings.TrimPrefix(filepath.Ext(path), ".") }

// searched returns the directories that are searched for a config file, in order.
func (l *loader) searched() []string {
	var dirs []string
	if len(l.Command) == 0 && !l.namesCrontab() {
		dirs = append(dirs, l.Dir)
	}
	if home := l.xdg("XDG_CONFIG_HOME", ".config"); home != "" {
		dirs = append(dirs, filepath.Join(home, "gophd"))
	}
	if l.SystemDir != "" {
		return append(dirs, l.SystemDir)
	}
	return append(dirs, systemDir)
}

// found returns the only config file of a directory, or "". A dangling symbolic link counts as a
// file, so that Load reports it.
func (l *loader) found(dir string) string {
	var names []string
	for _, format := range formats {
		path := filepath.Join(dir, "gophd."+format)
		if _, err := os.Lstat(path); err == nil {
			names = append(names, path)
		}
	}
	if len(names) == 0 {
		return ""
	}
	if len(names) > 1 {
		l.reject(strings.Join(names, " and "), "",
			"two config files in one directory; remove one, or choose with --config")
	}
	return names[0]
}

// xdg returns a directory of the XDG Base Directory Specification, or "" without a home. The
// specification says to ignore a relative path in the variable; a relative home is none either.
func (l *loader) xdg(name, fallback string) string {
	if dir := l.systemDirectory(name); dir != "" {
		return dir
	}
	if !filepath.IsAbs(l.Home) {
		return ""
	}
	return filepath.Join(l.Home, fallback)
}

// directories returns the directories for files that last until the next boot, for files that
// survive it, and for logs. The first is the same as the second if the system has none for a user. A default of a user other than root that cannot be created is replaced
// by the next one: a container platform sets HOME=/ for a user without a home, and a user switch
// leaves the XDG_RUNTIME_DIR of another user.
func (l *loader) directories() (d Directories) {
	if l.UID == 0 {
		d = Directories{RuntimeDir: "/run/gophd", StateDir: "/var/lib/gophd", LogDir: "/var/log/gophd"}
	} else {
		var temporary []string
		if dir := l.systemDirectory("XDG_RUNTIME_DIR"); dir != "" {
			temporary = append(temporary, filepath.Join(dir, "gophd"))
			if _, err := safefile.Creatable(temporary[0]); err == nil {
				d.RuntimeDir = temporary[0]
			}
		}
		own := "gophd-" + strconv.Itoa(l.UID)
		if tmp := l.systemDirectory("TMPDIR"); tmp != "" {
			temporary = append(temporary, filepath.Join(tmp, own))
		}
		temporary = append(temporary, filepath.Join("/tmp", own))
		lasting := l.xdg("XDG_STATE_HOME", ".local/state")
		switch own := filepath.Join(lasting, "gophd"); {
		case filepath.IsAbs(l.env["XDG_STATE_HOME"]):
			d.StateDir, d.StateFrom = own, "XDG_STATE_HOME" // a user who names a directory gets that one or an error
		case lasting != "":
			d.StateDir, l.unusable = creatable(append([]string{own}, temporary...))
		default:
			d.StateDir, _ = creatable(temporary)
			l.unusable = l.homeless()
		}
		d.LogDir = d.StateDir
	}
	if dir := l.ownDirectory("GOPHD_STATE_DIR"); dir != "" {
		d.StateDir, d.StateFrom, l.unusable = dir, "GOPHD_STATE_DIR", nil
		d.LogDir = d.StateDir
	}
	d.RuntimeDir = cmp.Or(l.ownDirectory("GOPHD_RUNTIME_DIR"), d.RuntimeDir, d.StateDir)
	return d
}

// OwnDirectories returns the directories that a daemon of this user has without a config. Of the request
// it reads Env, Dir, Home and UID.
func OwnDirectories(req Request) (Directories, error) {
	l := newLoader(req)
	d := l.directories()
	return d, l.err()
}

// ownDirectory returns the directory that one of gophd's own variables names, or "". The rules are
// those of a setting.
func (l *loader) ownDirectory(variable string) string {
	text := l.env[variable]
	if text == "" || l.isUnexpanded(variable, text, "") {
		return ""
	}
	if err := checkDirectory(text); err != nil {
		l.reject(variable, visible(text), err.Error())
		return ""
	}
	dir := l.absolute(text)
	l.rejectOwn(variable, text, dir, "name the directory")
	return dir
}

// systemDirectory returns the absolute path in a variable that is not gophd's, or "". A path that is
// not absolute is ignored, with a warning if only a shell would have made it one.
func (l *loader) systemDirectory(variable string) string {
	dir := l.env[variable]
	if filepath.IsAbs(dir) {
		return dir
	}
	found := l.capture(func() {
		if !l.isUnexpanded(variable, dir, "") && strings.HasPrefix(dir, "~") {
			l.reject(variable, visible(dir), checkPath(dir).Error())
		}
	})
	for _, err := range found.problems {
		if text := err.Error() + "; it is ignored"; !slices.Contains(l.warnings, text) {
			l.warnings = append(l.warnings, text)
		}
	}
	return ""
}

// homeless returns why the user has no home directory.
func (l *loader) homeless() error {
	if l.Home == "" {
		return errors.New("HOME is not set")
	}
	return fmt.Errorf("HOME=%s is not an absolute path", visible(l.Home))
}

// creatable returns the first directory that exists or can be created, and why the first of all
// cannot. It returns the first one if none can.
func creatable(dirs []string) (dir string, first error) {
	for i, dir := range dirs {
		_, err := safefile.Creatable(dir)
		if i == 0 {
			first = err
		}
		if err == nil {
			return dir, first
		}
	}
	return dirs[0], nil
}

// text reads a file of that kind, without a byte order mark. It must be a regular file, and no
// descriptor of this process, so that the next restart can read it again. The error is an *unreadable if nothing was read.
func (l *loader) text(path, kind string) ([]byte, error) {
	if _, own := ownDescriptor(path); own {
		return nil, errors.New(errOwn + "; name a file, which a reload can read again")
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block
	if err != nil {
		return nil, &unreadable{withoutPath(err)}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, &unreadable{withoutPath(err)}
	}
	if !info.Mode().IsRegular() {
		return nil, &unreadable{errors.New("not a regular file; name a " + kind)}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, &unreadable{withoutPath(err)}
	case len(data) > maxFile:
		return nil, errors.New("larger than 1 MiB; not a " + kind)
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return nil, errors.New("UTF-16 text, as some Windows editors save it; save the file as UTF-8")
	}
	l.sources = append(l.sources, watch.File{Path: path, Sum: watch.Sum(data)})
	if info.Mode().Perm()&0o002 != 0 {
		l.warnings = append(l.warnings, path+": writable by every user, who could change what runs; fix it with chmod o-w")
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && foreign(int(st.Uid), l.UID) {
		l.warnings = append(l.warnings,
			fmt.Sprintf("%s: owned by user %d, who could change what runs; fix it with chown", path, st.Uid))
	}
	if link, err := os.Lstat(path); err == nil && link.Mode()&fs.ModeSymlink != 0 {
		if st, ok := link.Sys().(*syscall.Stat_t); ok && foreign(int(st.Uid), l.UID) {
			l.warnings = append(l.warnings, fmt.Sprintf("%s: a symbolic link of user %d, who could change what runs; "+
				"name the file itself, or fix it with chown -h", path, st.Uid))
		}
	}
	return bytes.TrimPrefix(data, []byte("\ufeff")), nil
}

// unreadable is the error of text for a file that is missing here or cannot be read.
type unreadable struct{ error }

func (e *unreadable) Unwrap() error { return e.error }

// foreign reports whether a user with that UID cannot trust a file of the owner. Root is trusted.
func foreign(owner, uid int) bool { return owner != 0 && owner != uid }

// withoutPath drops operation and path from a file error, because the message names the path
// already.
func withoutPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func position(path string, line int) string { return path + ":" + strconv.Itoa(line) }
