package api

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gophd/internal/goroutine"
)

// Found is a daemon whose files are in a runtime directory.
type Found struct {
	Name   string // of the daemon, as far as it is known
	Socket string // its path; nobody may listen there any more
	Record *Record
	Status Status // if Err is nil
	Err    error  // ErrNotRunning, ErrPermission, or another
}

// askTime is how long Find waits for the answer of a daemon.
const askTime = 5 * time.Second

// askAtOnce is how many daemons Find asks at a time.
const askAtOnce = 32

// Find returns the daemons in these runtime directories, sorted by name: those that answer, and those
// whose files are left. The same directory may be given twice. It blocks until all have answered, for
// some seconds at most.
func Find(ctx context.Context, dirs []string) []Found {
	all := Files(dirs)
	var group goroutine.Group
	places := make(chan struct{}, askAtOnce)
	for i := range all {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			all[i].Ask(ctx)
		})
	}
	group.Wait()
	all = slices.DeleteFunc(all, func(f Found) bool { return f.Foreign() })
	slices.SortStableFunc(all, func(a, b Found) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Foreign reports whether the files are most likely of another program. Ask was called.
func (f *Found) Foreign() bool {
	return errors.Is(f.Err, ErrNotRunning) && (f.Record == nil || f.Record.Daemon == "")
}

// Files returns the daemons that have a socket or a record in one of the directories, without asking them.
func Files(dirs []string) (all []Found) {
	seen := map[fileID]bool{}
	for _, dir := range dirs {
		id, err := idOfDirectory(dir)
		if err != nil || seen[id] {
			continue
		}
		seen[id] = true
		entries, _ := os.ReadDir(dir) // one without permission has nothing for this user
		var names []string
		for _, e := range entries {
			for _, suffix := range []string{socketSuffix, recordSuffix} {
				if name, ok := strings.CutSuffix(e.Name(), suffix); ok && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
		for _, name := range names {
			all = append(all, Found{Name: name, Socket: filepath.Join(dir, name+socketSuffix)})
		}
	}
	return all
}

func idOfDirectory(dir string) (fileID, error) {
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fileID{}, err
	}
	return idOf(path)
}

// Ask fills in what the daemon answers, and what its record has. It blocks for askTime at most.
func (f *Found) Ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if r, err := readRecord(strings.TrimSuffix(f.Socket, socketSuffix) + recordSuffix); err == nil {
		f.Record, f.Name = &r, r.Daemon
	}
	if f.Status, f.Err = NewClient(f.Socket).Status(ctx); f.Err == nil {
		f.Name = f.Status.Daemon
	}
}
