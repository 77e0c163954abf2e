//go:build !linux

package process

import (
	"errors"
	"os"
)

// Cgroup is a control group, which only Linux has.
type Cgroup struct{}

// OpenCgroup returns an error: there are no control groups here.
func OpenCgroup(string, string, Limits) (*Cgroup, error) { return nil, CheckCgroup("", Limits{}) }

// CheckCgroup returns an error: there are no control groups here.
func CheckCgroup(string, Limits, ...int) error {
	return errors.New("memory, CPU and process limits of a job need Linux control groups: leave them out")
}

// SweepCgroups does nothing.
func SweepCgroups(string, func(string) bool) {}

// Close does nothing.
func (*Cgroup) Close() error { return nil }

// leaf is never created here.
type leaf struct{}

func (*Cgroup) leaf() (*leaf, error) { return nil, nil }

func (*leaf) drop()          {}
func (*leaf) String() string { return "" }

func leafAt(string) *leaf { return nil }

func forkIn(_ *leaf, path string, c Command, files []*os.File) (int, error) {
	return fork(path, c, files)
}
