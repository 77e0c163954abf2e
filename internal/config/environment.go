package config

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"gophd/internal/credentials"
)

// usualPath is the PATH of a command with clear_env if nothing else sets it: that of
// systemd.exec(5), and /sbin and /bin, which not every system has merged into /usr.
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// variables returns the environment variables that the config sets for the command. The last value
// of a name counts: the user's sections come first, then each file of job.env_file, then job.env.
func (l *loader) variables(j *jobSettings, from given, user []Value) []string {
	var env []string
	index := map[string]int{}
	set := func(name, value string) {
		kv := name + "=" + value
		if i, ok := index[name]; ok {
			env[i] = kv
			return
		}
		index[name] = len(env)
		env = append(env, kv)
	}
	if j.ClearEnv {
		set("PATH", usualPath)
	}
	for _, u := range user {
		set(variable(u.Key), u.Text)
	}
	var pairs []string
	if l.NeedCommand { // a command that runs gophd config get may have no right to read the files
		for _, name := range j.EnvFile {
			pairs = append(pairs, l.envFile(name, from)...)
		}
	}
	for _, kv := range append(pairs, j.Env...) {
		name, value, _ := strings.Cut(kv, "=")
		set(name, value)
	}
	if i, ok := index["PATH"]; ok {
		if word := credentials.Unexpanded(strings.TrimPrefix(env[i], "PATH=")); word != "" {
			l.warnings = append(l.warnings, "job.env PATH: "+visible(word)+" is not expanded, because only shells do that; "+
				"write all directories of PATH")
		}
	}
	return env
}

// absoluteEnvFiles returns the names of job.env_file as absolute paths.
func (l *loader) absoluteEnvFiles(names []string) []string {
	names = slices.Clone(names)
	for i, name := range names {
		if path, optional := strings.CutPrefix(name, "-"); optional {
			names[i] = "-" + l.absolute(path)
		} else {
			names[i] = l.absolute(name)
		}
	}
	return names
}

// envFile is a file of job.env_file that was read.
type envFile struct {
	env []string
	findings
}

// envFile returns the variables of one file of job.env_file. The file is read once, for all jobs.
func (l *loader) envFile(name string, from given) []string {
	f, ok := l.envFiles[name]
	if !ok {
		f.findings = l.capture(func() { f.env = l.readEnvFile(name, from) })
		l.envFiles[name] = f
	}
	l.add(f.findings)
	return f.env
}

func (l *loader) readEnvFile(name string, from given) []string {
	path, optional := strings.CutPrefix(name, "-")
	data, err := l.text(path, "file of KEY=VALUE lines")
	switch missing := errors.Is(err, fs.ErrNotExist); {
	case missing && optional:
		return nil
	case errors.As(err, new(*unreadable)):
		problem := err.Error()
		switch {
		case missing:
			problem += "; create it, or write a - before its path if it may be missing"
		case errors.As(err, new(syscall.Errno)):
			problem += "; allow gophd to read it, or choose another"
		}
		l.unfit = append(l.unfit, &Error{Source: from.subject, Value: visible(path), Problem: problem, err: err})
		return nil
	case err != nil:
		l.reject(from.subject, visible(path), err.Error())
		return nil
	}
	env, warnings, err := credentials.ParseEnvFile(string(data))
	if err != nil {
		l.reject(path, "", brief(err.Error()))
		return nil
	}
	for _, text := range warnings[:min(len(warnings), maxProblems)] {
		l.warnings = append(l.warnings, path+": "+brief(text))
	}
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(ownVariables, name) {
			l.reject(path, "", name+" is gophd's own; rename it")
		}
	}
	return env
}

// findings are what Load has to report.
type findings struct {
	problems []error // what is invalid
	unfit    []error // what cannot be read here
	warnings []string
}

// add reports what was found in a file that more than one job may have.
func (l *loader) add(found findings) {
	l.problems = append(l.problems, found.problems...)
	l.unfit = append(l.unfit, found.unfit...)
	l.warnings = append(l.warnings, found.warnings...)
}

// capture returns what f finds, and leaves the rest as it is.
func (l *loader) capture(f func()) (found findings) {
	before := l.findings
	l.findings = findings{}
	defer func() { found, l.findings = l.findings, before }()
	f()
	return found
}

// brief shortens a message about a file, which may have a very long name in it.
func brief(text string) string { return strings.ToValidUTF8(text[:min(300, len(text))], "") }
