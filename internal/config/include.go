package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// inclusion is one file or glob of include:.
type inclusion struct{ subject, pattern string }

// readFiles reads the config file, and the files that it includes. Without a path it reads none.
func (l *loader) readFiles(path string) *sorter {
	s := &sorter{
		loader: l, own: map[string]given{}, byName: map[string]*entryOf{}, seen: map[string]place{},
		sectionSeen: map[string]bool{}, files: map[string]string{},
	}
	if path != "" {
		s.files[realPath(path)] = ""
		s.readFile(path, path)
	}
	return s
}

// realPath returns a path without symlinks, or the path itself if that fails.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// readProblem returns why a file cannot be read, and what helps.
func readProblem(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return err.Error() + "; check its path"
	case errors.Is(err, fs.ErrPermission):
		return err.Error() + "; allow gophd to read it"
	}
	return err.Error()
}

// readFile reads one file, and then the files that it includes. subject is its name in an error.
func (s *sorter) readFile(path, subject string) {
	data, err := s.text(path, "config file")
	if err != nil {
		s.problems = append(s.problems, &Error{Source: subject, Problem: readProblem(err), err: err})
		return
	}
	main := s.path == ""
	s.path, s.includes = path, nil
	entries, bad := parse(extension(path), data)
	before := len(s.problems)
	for _, e := range entries {
		s.add(e)
		if len(s.problems) > maxProblems {
			return
		}
	}
	if bad != nil {
		if len(s.problems) == before { // otherwise it repeats a better error
			s.reject(position(path, bad.line), "", bad.problem)
		}
		return
	}
	if _, ok := s.seen[restartKey]; main && !ok {
		s.reject(path, "", missing(extension(path), s.sectionSeen["config"]))
	}
	for _, file := range s.included() {
		if len(s.problems) > maxProblems {
			return
		}
		s.include(file)
	}
}

// include reads a file of include:, which must not have been read before.
func (s *sorter) include(file inclusion) {
	subject := file.subject + " " + visible(file.pattern)
	real := realPath(file.pattern)
	at, twice := s.files[real]
	switch {
	case twice && at == "":
		s.reject(subject, "", "this is the config file itself; remove it")
	case twice:
		s.reject(subject, "", "included before, in "+strings.TrimSuffix(at, ": "+includeKey)+"; remove one")
	case checkPath(file.pattern) != nil: // a glob may find any name
		s.reject(subject, "", checkPath(file.pattern).Error())
	case isDirectory(file.pattern):
		s.reject(subject, "", "a directory; write "+visible(filepath.Join(filepath.Base(file.pattern), "*.yaml"))+" for its files")
	case !IsFile(file.pattern):
		s.reject(subject, "", formatFix)
	default:
		s.files[real] = file.subject
		s.readFile(file.pattern, subject)
	}
}

// glob returns the files that match a pattern, without hidden ones, as in a shell. A directory that
// cannot be read is an error, because it may have files that match. One that is missing has none.
func glob(pattern string) (all []string, err error) {
	in, base := filepath.Dir(pattern), filepath.Base(pattern)
	dirs := []string{in}
	if isGlob(in) {
		dirs, err = filepath.Glob(in)
	}
	if _, bad := filepath.Match(base, ""); err != nil || bad != nil {
		return nil, errors.New("not a pattern for files: a [ without ], or a \\ at the end")
	}
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR) && dir != in:
			continue
		case err != nil:
			return nil, fmt.Errorf("%s: %w", visible(dir), withoutPath(err))
		}
		for _, file := range files {
			name := file.Name()
			if ok, _ := filepath.Match(base, name); ok && (name[0] != '.' || base[0] == '.') {
				all = append(all, filepath.Join(dir, name))
			}
		}
	}
	return all, nil
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func isGlob(path string) bool { return strings.ContainsAny(path, `*?[`) }

// included returns the files of the include: that was just read, sorted.
func (s *sorter) included() []inclusion {
	var all []inclusion
	for _, i := range s.includes {
		if !filepath.IsAbs(i.pattern) {
			i.pattern = filepath.Join(filepath.Dir(s.path), i.pattern)
		}
		if !isGlob(i.pattern) {
			all = append(all, i)
			continue
		}
		matches, err := glob(i.pattern)
		if err != nil {
			s.reject(i.subject+" "+visible(i.pattern), "", err.Error())
		}
		for _, path := range matches {
			all = append(all, inclusion{i.subject, path})
		}
	}
	slices.SortStableFunc(all, func(a, b inclusion) int { return strings.Compare(a.pattern, b.pattern) })
	return all
}

// inclusions handles the key include.
func (s *sorter) inclusions(e entry, subject string) {
	text := e.text
	if e.form == list {
		text = strings.Join(e.list, ",")
	}
	const fix = "write files, as in include: [jobs.d/*.yaml]"
	if e.key == includeKey && s.isDuplicate(s.path+" "+includeKey, e, subject) {
		return
	}
	switch {
	case e.key != includeKey, e.form == empty, e.form == unsupported:
		s.reject(subject, "", "not a list of files; "+fix)
		return
	case e.form == null, strings.TrimSpace(text) == "":
		s.reject(subject, "", "has no value; "+fix+", or remove the line")
		return
	case e.comment:
		s.reject(subject, visible(text), commentFix)
		return
	case s.isUnexpanded(subject, text, ""):
		return
	}
	patterns, err := parseList(text, func(item string) (string, error) { return item, checkPath(item) })
	if err != nil {
		s.problems = append(s.problems, &Error{Source: subject, Problem: err.Error(), err: err})
	}
	for _, p := range patterns {
		s.includes = append(s.includes, inclusion{subject, p})
	}
}
