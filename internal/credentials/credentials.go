// Package credentials answers: what is the exec environment of a command, where it differs from
// gophd's own?
//
// A Credentials is a plain value: a user, a umask, a niceness, resource limits. The package also
// parses the text forms of these values: a user as container runtimes read it, limits as prlimit(1)
// writes them, files of KEY=VALUE lines. It changes nothing itself: package process applies a
// Credentials to a command.
package credentials

import (
	"fmt"
	"strconv"
)

// Credentials is how the exec environment of a command differs from gophd's own. A field that is
// nil or empty does not differ.
type Credentials struct {
	User    *User
	Umask   *int // 0 to 0777
	Nice    *int // the niceness itself, -20 to 19, not a difference
	Rlimits []Rlimit
}

// UIDs returns the uid of c, or nothing if c has no user of its own.
func (c *Credentials) UIDs() []int {
	if c == nil || c.User == nil {
		return nil
	}
	return []int{c.User.UID}
}

// ParseUmask reads an octal number of up to four digits, 0 to 0777, as umask(1) prints it.
func ParseUmask(s string) (int, error) {
	n, err := strconv.ParseUint(s, 8, 16)
	if err != nil || n > 0o777 || len(s) > 4 {
		return 0, fmt.Errorf("umask %q is not an octal number from 0 to 0777: write one like 022", s)
	}
	return int(n), nil
}
