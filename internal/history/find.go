package history

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Source is the history of a job in a directory.
type Source struct {
	Daemon string // whose job it is; with one job both have the same name
	Job    string
	Path   string // for Read
}

// Find returns the histories in a directory, in the order of their file names. The error of a directory
// that does not exist is fs.ErrNotExist.
func Find(dir string) (all []Source, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(strings.TrimSuffix(e.Name(), older), suffix)
		if ok && name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		s := Source{Daemon: name, Job: name, Path: Path(dir, name)}
		runs, err := Read(s.Path, Query{Last: 1})
		switch {
		case errors.Is(err, fs.ErrPermission): // the caller may not need it
		case err != nil || len(runs.Runs) == 0:
			continue // no history, or none any more
		default:
			s.Job = runs.Runs[0].Job
			s.Daemon = strings.TrimSuffix(name, "."+s.Job)
		}
		all = append(all, s)
	}
	return all, nil
}
