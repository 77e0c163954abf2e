package credentials

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"gophd/internal/misspelled"
)

// Unlimited means that there is no limit.
const Unlimited uint64 = math.MaxUint64

// Rlimit is a resource limit, in the units of getrlimit(2): bytes, seconds or a count.
type Rlimit struct {
	Name       string // lower case, as in the man page after RLIMIT_
	Resource   int    // its number in the kernel
	Soft, Hard uint64
}

// String returns the form that ParseRlimit reads.
func (r Rlimit) String() string {
	if r.Soft == r.Hard {
		return r.Name + "=" + limit(r.Soft)
	}
	return r.Name + "=" + limit(r.Soft) + ":" + limit(r.Hard)
}

func limit(n uint64) string {
	if n == Unlimited {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// ParseRlimit reads NAME=LIMIT, which sets both limits, or NAME=SOFT:HARD. A LIMIT is a number or
// "unlimited". The names are those of this operating system.
func ParseRlimit(s string) (Rlimit, error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return Rlimit{}, fmt.Errorf("limit %q has no value: write one like nofile=1024:4096 or core=unlimited", s)
	}
	resource, known := resources()[name]
	if near := misspelled.Nearest(plainName(name), ResourceNames()); !known && near != "" {
		return Rlimit{}, fmt.Errorf("limit %q is not known here: did you mean %s?", name, near)
	}
	if !known {
		return Rlimit{}, fmt.Errorf(
			"limit %q is not known here: choose from %s", name, strings.Join(ResourceNames(), ", "))
	}
	soft, hard, two := strings.Cut(value, ":")
	if !two {
		hard = soft
	}
	r := Rlimit{Name: name, Resource: resource}
	var err error
	if r.Soft, err = parseLimit(soft); err == nil {
		r.Hard, err = parseLimit(hard)
	}
	if err != nil {
		return Rlimit{}, fmt.Errorf("limit %q: %q is not a limit: %s", s, value, limitAdvice(value))
	}
	if r.Soft > r.Hard {
		return Rlimit{}, fmt.Errorf("limit %q: the soft limit is above the hard one: write the smaller one first", s)
	}
	return r, nil
}

func parseLimit(s string) (uint64, error) {
	if s == "unlimited" {
		return Unlimited, nil
	}
	return strconv.ParseUint(s, 10, 63)
}

// plainName returns the name of a resource as gophd has it, for one of setrlimit(2) or systemd(1).
func plainName(name string) string {
	name = strings.ToLower(name)
	for _, prefix := range []string{"rlimit_", "limit"} {
		name = strings.TrimPrefix(name, prefix)
	}
	return name
}

// limitAdvice returns the right form of a limit that cannot be read. A size with a unit becomes a number of
// bytes.
func limitAdvice(value string) string {
	if value == "infinity" {
		return "write unlimited"
	}
	units := map[string]uint64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
	digits := strings.TrimRight(strings.ToUpper(value), "KMGTIB")
	unit := strings.TrimRight(strings.ToUpper(value)[len(digits):], "IB")
	if n, err := strconv.ParseUint(digits, 10, 20); err == nil && units[unit] != 0 {
		return fmt.Sprintf("write %d", n*units[unit])
	}
	return "write a number, or unlimited"
}

// ResourceNames returns the names that ParseRlimit knows on this system, sorted. It is empty where
// gophd cannot set limits.
func ResourceNames() []string { return slices.Sorted(maps.Keys(resources())) }
