package credentials

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// maxID is the highest id: the one above it means "no change" to setuid(2).
const maxID = 1<<32 - 2

// User is the user that a command runs as.
type User struct {
	Name   string // from the user database, or the number when it has no entry there
	UID    int
	GID    int
	Groups []int // all groups, GID first
	Home   string
	Shell  string
}

// ParseUser splits USER[:GROUP]. Each part is a name, or a number from 0 to 4294967294. A part of
// digits only is a number, even if there is a user or group with that name.
func ParseUser(spec string) (user, group string, err error) {
	user, group, both := strings.Cut(spec, ":")
	if user == "" || both && group == "" {
		return "", "", fmt.Errorf("user %q is not valid: write USER or USER:GROUP", spec)
	}
	for _, word := range []string{user, group} {
		if strings.ContainsAny(word, ":,/ \t\r\n\x00") {
			return "", "", fmt.Errorf("user %q contains a character that no name has: write USER or USER:GROUP", spec)
		}
		if strings.Trim(word, "0123456789") != "" || word == "" {
			continue
		}
		if n, err := strconv.ParseUint(word, 10, 64); err != nil || n > maxID {
			return "", "", fmt.Errorf("user %q: %s is above the greatest id, %d", spec, word, uint64(maxID))
		}
	}
	return user, group, nil
}

// LookupUser looks up USER[:GROUP] in the user database, by the rules of container runtimes.
//
// Without GROUP, the groups are exactly those of the database: the user's own and each group that
// lists the user. With GROUP, it is the only group. A number needs no entry in the database, but
// then its group is required: a container runtime would use the group of root.
func LookupUser(spec string) (User, error) {
	name, group, err := ParseUser(spec)
	if err != nil {
		return User{}, err
	}
	u, entry, err := lookup(name)
	if err != nil {
		return User{}, err
	}
	switch {
	case group != "":
		if u.GID, err = LookupGroup(group); err != nil {
			return User{}, err
		}
		u.Groups = []int{u.GID}
	case entry == nil:
		return User{}, fmt.Errorf(
			"user %s is not in the user database: name its group too, like %s:%s", name, name, name)
	default:
		listed, err := entry.GroupIds()
		if err != nil {
			return User{}, fmt.Errorf("cannot find the groups of user %s: %w: name one, like %s:GROUP", name, err, name)
		}
		u.Groups = []int{u.GID}
		for _, g := range listed {
			if n, err := parseID(g); err != nil {
				return User{}, err
			} else if !slices.Contains(u.Groups, n) {
				u.Groups = append(u.Groups, n)
			}
		}
	}
	return u, nil
}

// lookup finds the user. The entry is nil for a number that has none.
func lookup(name string) (u User, entry *user.User, err error) {
	id, numeric := parseID(name)
	if numeric == nil {
		entry, err = user.LookupId(strconv.Itoa(id))
	} else {
		entry, err = user.Lookup(name)
	}
	var noName user.UnknownUserError
	var noID user.UnknownUserIdError
	switch {
	case errors.As(err, &noID), numeric == nil && errors.Is(err, os.ErrNotExist):
		return User{Name: strconv.Itoa(id), UID: id, Home: "/", Shell: "/bin/sh"}, nil, nil
	case errors.As(err, &noName) && strings.Contains(name, "."):
		owner, group, _ := strings.Cut(name, ".")
		return User{}, nil, fmt.Errorf("there is no user %s: create it, or write %s:%s for a user and a group", name, owner, group)
	case errors.As(err, &noName):
		return User{}, nil, fmt.Errorf("there is no user %s: create it, or correct the name", name)
	case err != nil:
		return User{}, nil, fmt.Errorf(
			"cannot look up user %s: %w: give its number and group, like 1000:1000", name, err)
	}
	u = User{Name: entry.Username, Home: entry.HomeDir, Shell: shell(entry.Username)}
	if u.Home == "" {
		u.Home = "/"
	}
	if u.UID, err = parseID(entry.Uid); err == nil {
		u.GID, err = parseID(entry.Gid)
	}
	return u, entry, err
}

// LookupGroup returns the id of a group: of a name in the group database, or a number.
func LookupGroup(name string) (int, error) {
	if id, err := parseID(name); err == nil {
		return id, nil
	}
	g, err := user.LookupGroup(name)
	if errors.As(err, new(user.UnknownGroupError)) {
		return 0, fmt.Errorf("there is no group %s: create it, or correct the name", name)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot look up group %s: %w: give its number", name, err)
	}
	return parseID(g.Gid)
}

func parseID(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > maxID {
		return 0, fmt.Errorf("%q in the user database is not an id from 0 to %d", s, uint64(maxID))
	}
	return int(n), nil
}

// shell returns the last field of the user's line in passwd(5), which os/user does not return, or
// /bin/sh if that field is empty or cannot be read. The command must not keep the SHELL of another
// user.
func shell(name string) string {
	f, err := os.Open("/etc/passwd")
	if err != nil {
		return "/bin/sh"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Split(lines.Text(), ":"); len(fields) == 7 && fields[0] == name && fields[6] != "" {
			return fields[6]
		}
	}
	return "/bin/sh"
}

// Env returns the variables that login(1) would set for the user, as KEY=VALUE: HOME, USER, LOGNAME
// and SHELL.
func (u User) Env() []string {
	return []string{"HOME=" + u.Home, "USER=" + u.Name, "LOGNAME=" + u.Name, "SHELL=" + u.Shell}
}
