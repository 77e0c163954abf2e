package logging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// LogFile is one file of a log, for a reader.
type LogFile struct {
	Path       string
	Info       fs.FileInfo
	Rotated    time.Time // when it was rotated, by its name; zero for a file without that time in its name
	Compressed bool
}

// errNoFile is the error of a log that is no regular file: a FIFO, a terminal, a descriptor.
var errNoFile = errors.New("not a regular file, so it cannot be read again")

// Files returns the files of the log with this name, as in Options.File: archives, compressed ones too, the
// oldest first, and then the file in use at that time. There may be none. An archive that is being
// compressed is there once. It blocks for as long as the disk does.
func Files(file string, at time.Time) ([]LogFile, error) {
	p, err := parsePattern(file)
	if err != nil {
		return nil, fmt.Errorf("log file %s: %w", file, err)
	}
	a := newArchives(Options{File: file}, p, new(sync.Mutex))
	a.use(p.name(at))
	now, err := os.Stat(a.active)
	switch {
	case err == nil && !now.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: a.active, Err: errNoFile}
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR):
		return nil, err
	}
	found, failed := a.list()
	var all []LogFile
	plain := map[string]bool{}
	for _, f := range found {
		plain[f.String()] = f.tail == ""
	}
	for _, f := range found {
		name := f.String()
		if f.tail != tempSuffix && (f.tail == "" || !plain[strings.TrimSuffix(name, f.tail)]) {
			all = append(all, LogFile{name, f.info, f.stamp, f.tail != ""})
		}
	}
	if err == nil {
		all = append(all, LogFile{Path: a.active, Info: now})
	}
	return all, failed
}

// IsService returns the service and the tag if file, as in Options.File, names no file.
func IsService(file string) (name, tag string) {
	name, tag, _ = service(file) // Check has accepted it
	return name, tag
}
