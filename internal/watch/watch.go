// Package watch answers: has a file changed since it was read?
//
// A Watcher waits for events of the kernel about the directories of its files, so that it notices a file that
// is replaced, by an editor or by a change of a symlink on its path. It compares the content, and reports a
// series of writes as one change.
package watch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"gophd/internal/goroutine"
)

// File is a file as it was read.
type File struct {
	Path string // absolute
	Sum  string // see Sum
}

// Sum identifies the content of a file.
func Sum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// The time from the last event about a file to the check of its content, and the longest time from the first.
const (
	quiet   = 300 * time.Millisecond
	longest = 3 * time.Second
)

// maxLinks is how many symlinks a path may have: more is a loop, as for the kernel.
const maxLinks = 40

// maxFile limits what is read of a file that has grown beyond any config.
const maxFile = 4 << 20

// Watcher watches files until Close.
type Watcher struct {
	files    []File
	notify   *fsnotify.Watcher
	changed  chan string
	failed   chan error
	watched  map[string]bool // the keys are directories
	names    map[string]bool // paths whose change may be one of a file
	troubles map[string]bool // those that were reported
	ended    chan struct{}   // closed when the goroutine has ended
	group    goroutine.Group
}

// New starts to watch the files. A difference to their Sum is a change, also one from before the call.
func New(files []File) (*Watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &Watcher{files: slices.Clone(files), notify: notify, changed: make(chan string, 1), failed: make(chan error, 1),
		watched: map[string]bool{}, troubles: map[string]bool{},
		ended: make(chan struct{})}
	w.group.Go(w.run)
	return w, nil
}

// Changed receives the path of a file that has changed. A change that was not received yet stands for all
// later ones. A file that is removed has not changed until there is one at its path again.
func (w *Watcher) Changed() <-chan string { return w.changed }

// Failed receives why changes may not be noticed: a directory cannot be watched, or events were lost.
func (w *Watcher) Failed() <-chan error { return w.failed }

// closeLimit is how long Close waits for a file system that does not answer.
const closeLimit = time.Second

// Close ends the watch, within a second also if a file system does not answer.
func (w *Watcher) Close() error {
	err := w.notify.Close()
	select {
	case <-w.ended:
		w.group.Wait()
	case <-time.After(closeLimit):
	}
	return err
}

// Unchanged returns the files with the Sums of their content now, for a process that has failed to apply it.
func Unchanged(files []File) []File {
	files = slices.Clone(files)
	for i, f := range files {
		if sum, ok := read(f.Path); ok {
			files[i].Sum = sum
		}
	}
	return files
}

func (w *Watcher) run() {
	defer close(w.ended)
	w.check()
	timer := time.NewTimer(0)
	timer.Stop()
	var first time.Time // of the events that were not checked yet; zero if there is none
	for {
		select {
		case e, ok := <-w.notify.Events:
			switch {
			case !ok:
				return
			case !w.names[e.Name]:
				continue
			case first.IsZero():
				first = time.Now()
			}
			timer.Reset(max(0, min(quiet, longest-time.Since(first))))
		case err, ok := <-w.notify.Errors:
			if !ok {
				return
			}
			w.report(err)
			timer.Reset(quiet)
		case <-timer.C:
			first = time.Time{}
			w.check()
		}
	}
}

// check watches what the paths lead through now, and then compares the files.
func (w *Watcher) check() {
	for range maxLinks { // until nothing has changed between a look and the watch
		before := w.names
		if w.follow(); maps.Equal(before, w.names) {
			break
		}
	}
	for i, f := range w.files {
		sum, ok := read(f.Path)
		if !ok || sum == f.Sum {
			continue
		}
		w.files[i].Sum = sum
		select {
		case w.changed <- f.Path:
		default:
		}
	}
}

// follow watches all directories that the paths lead through, so that a directory that is replaced is noticed
// too.
func (w *Watcher) follow() {
	w.names = map[string]bool{}
	dirs := map[string]bool{} // with those that must be watched
	for _, f := range w.files {
		all := steps(f.Path)
		for i, path := range all {
			w.names[path] = true
			dirs[filepath.Dir(path)] = dirs[filepath.Dir(path)] || i == len(all)-1
		}
	}
	for dir, must := range dirs {
		err := w.notify.Add(dir) // one that is watched is not watched twice, but a new one of the same name is
		if must && err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fsnotify.ErrClosed) {
			w.report(err)
		}
	}
	for dir := range w.watched {
		if _, ok := dirs[dir]; !ok {
			_ = w.notify.Remove(dir) // it is not watched any more if it does not exist
		}
	}
	w.watched = dirs
}

// report passes on an error once.
func (w *Watcher) report(err error) {
	if w.troubles[err.Error()] {
		return
	}
	w.troubles[err.Error()] = true
	select {
	case w.failed <- err:
	default:
	}
}

// steps returns all paths that decide together what a path leads to: each directory and symlink on it, and its
// end.
func steps(path string) (all []string) {
	rest, at := parts(path), "/"
	for links := 0; len(rest) > 0 && links < maxLinks; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		if !slices.Contains(all, next) {
			all = append(all, next)
		}
		target, err := os.Readlink(next)
		if err != nil {
			at = next
			continue
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest, links = append(parts(target), rest...), links+1
	}
	return all
}

// parts returns the names in a path or in the target of a symlink, .. included.
func parts(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" || name == "." })
}

// read returns the Sum of a file. It does not block on a FIFO.
func read(path string) (sum string, ok bool) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", false
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile))
	return Sum(content), err == nil
}
