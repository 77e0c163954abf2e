//go:build !linux

package process

import (
	"errors"
	"os"
)

// Cgroup is a control group of Linux, which this system has not.
type Cgroup struct{}

// OpenCgroup says so.
func OpenCgroup(string, string, Limits) (*Cgroup, error) { return nil, CheckCgroup("", Limits{}) }

// CheckCgroup says so too.
func CheckCgroup(string, Limits, ...int) error {
	return errors.New("memory, CPU and process limits of a job need the control groups of Linux: leave them out")
}

// SweepCgroups does nothing.
func SweepCgroups(string, func(string) bool) {}

// Close does nothing.
func (*Cgroup) Close() error { return nil }

// leaf is never made here.
type leaf struct{}

func (*Cgroup) leaf() (*leaf, error) { return nil, nil }

func (*leaf) drop()          {}
func (*leaf) String() string { return "" }

func leafAt(string) *leaf { return nil }

func forkIn(_ *leaf, path string, c Command, files []*os.File) (int, error) {
	return fork(path, c, files)
}
