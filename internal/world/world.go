// Package world answers: in what surroundings does a command run, where they are not gophd's own?
//
// A World is a plain value: a user, a umask, a niceness, resource limits. Beside it stand the words that
// people write for its parts, and what they mean: a user as container runtimes read it, limits as prlimit(1)
// writes them, files of KEY=VALUE lines. It changes nothing itself: process puts a command into its world.
package world

import (
	"fmt"
	"strconv"
)

// World is how the surroundings of a command differ from gophd's own. What is nil or empty does not.
type World struct {
	User    *User
	Umask   *int // 0 to 0777
	Nice    *int // the niceness itself, -20 to 19, not a difference
	Rlimits []Rlimit
}

// UIDs returns the user of w, or nothing if it is gophd's own.
func (w *World) UIDs() []int {
	if w == nil || w.User == nil {
		return nil
	}
	return []int{w.User.UID}
}

// ParseUmask reads an octal number of up to four digits, 0 to 0777, as umask(1) prints it.
func ParseUmask(s string) (int, error) {
	n, err := strconv.ParseUint(s, 8, 16)
	if err != nil || n > 0o777 || len(s) > 4 {
		return 0, fmt.Errorf("umask %q is not an octal number from 0 to 0777: write one like 022", s)
	}
	return int(n), nil
}
