package preflight

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"gophd/internal/config"
	"gophd/internal/job"
	"gophd/internal/logging"
	"gophd/internal/process"
	"gophd/internal/world"
)

// This file translates a config into the options of the packages that do the work. A start uses the
// same functions, so that both refuse the same.

// LogOptions returns those options of the log that the config decides.
func LogOptions(c *config.Config) (logging.Options, error) {
	level, err := zerolog.ParseLevel(c.Log.Level)
	if err != nil {
		level = zerolog.InfoLevel // config has checked the words
	}
	l := logging.Options{File: c.Log.File, Format: c.Log.Format, Level: level, Job: c.Jobs[0].Name, PID: os.Getpid(),
		RotateSize: c.Log.RotateSize, RotateAge: c.Log.RotateAge, Keep: c.Log.Keep, KeepBytes: c.Log.KeepSize,
		Compress: c.Log.Compress, Mode: c.Log.Mode, Sync: c.Log.Sync, OnFull: c.Log.OnFull}
	if user := c.Jobs[0].User; user != "" {
		if u, err := world.LookupUser(user); err == nil { // World refuses it
			l.Trusted = []int{u.UID}
		}
	}
	if c.Log.Owner != "" {
		u, err := world.LookupUser(c.Log.Owner)
		if err != nil {
			return l, fmt.Errorf("log.owner: %w", err)
		}
		l.Owner = &logging.Owner{UID: u.UID, GID: u.GID}
	}
	return l, nil
}

// World returns what surrounds the command where that differs from gophd itself; nil if nothing
// does.
func World(spec job.Spec) (*world.World, error) {
	w := &world.World{Umask: spec.Umask, Nice: spec.Nice}
	if spec.User != "" {
		u, err := world.LookupUser(spec.User)
		if err != nil {
			return nil, err
		}
		w.User = &u
	}
	for _, l := range spec.Rlimits {
		w.Rlimits = append(w.Rlimits, world.Rlimit{Name: l.Name, Resource: l.Resource, Soft: l.Soft, Hard: l.Hard})
	}
	if w.User == nil && w.Umask == nil && w.Nice == nil && w.Rlimits == nil {
		return nil, nil
	}
	return w, process.Permitted(w)
}

// Limits returns those of the job's control group.
func Limits(spec job.Spec) process.Limits {
	return process.Limits{Memory: spec.MemoryMax, CPU: spec.CPUMax, Tasks: spec.TasksMax}
}

// OwnDirectories returns the directories that a start creates if they are missing: gophd's own
// defaults. One that the user has named must exist.
func OwnDirectories(c *config.Config) []string {
	own := []string{c.StateDir}
	if filepath.Dir(c.Log.File) == c.LogDir {
		own = append(own, c.LogDir)
	}
	return own
}
