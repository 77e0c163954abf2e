package process

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The limits of execve(2) for the arguments and the environment, in bytes.
const (
	minWords     = 128 << 10 // ARG_MAX: allowed with any stack limit
	maxWords     = 6 << 20   // three quarters of the usual stack limit: more is never allowed
	stackQuarter = 4         // in between, a quarter of the stack limit is allowed
	maxWordPages = 32        // MAX_ARG_STRLEN in pages: of one argument or variable, with its NUL byte
)

// sizeError returns why the arguments and the environment are too long for the kernel, with the
// fix; "" if they are not, or if that cannot be known. path is the program, and more is what will be
// added to them.
func (c Command) sizeError(path string, more int) string {
	if text := c.wordError(); text != "" {
		return text
	}
	limit, own := c.sizeLimit()
	size := c.size(path) + more
	if size <= limit || more > 0 && !own && c.fits(path, more) {
		return ""
	}
	text := fmt.Sprintf("its arguments and environment have %d bytes, and the system allows %d: shorten them, "+
		"or pass them in a file", size, limit)
	if size <= maxWords {
		text += fmt.Sprintf(", or raise the stack limit to %d times that (--rlimit stack=%d, ulimit -s)",
			stackQuarter, stackQuarter*(size+size/4))
	}
	return text
}

// wordError is sizeError for each argument and variable by itself.
func (c Command) wordError() string {
	limit := maxWordPages * os.Getpagesize()
	isLong := func(word string) bool { return len(word) >= limit }
	what := ""
	if i := slices.IndexFunc(c.Argv, isLong); i >= 0 {
		what = fmt.Sprintf("its argument %d has %d bytes", i, len(c.Argv[i]))
	} else if i := slices.IndexFunc(c.Env, isLong); i >= 0 {
		name, _, _ := strings.Cut(c.Env[i], "=")
		what = fmt.Sprintf("the variable %.40s has %d bytes with its name", quote(name), len(c.Env[i]))
	} else {
		return ""
	}
	return fmt.Sprintf("%s, and the system allows %d: shorten it, or pass it in a file", what, limit-1)
}

// size returns what the kernel counts: bprm_stack_limits and copy_strings in fs/exec.c.
func (c Command) size(path string) int {
	n := len(path) + 1
	for _, word := range slices.Concat(c.Argv, c.Env) {
		n += len(word) + 1 + int(unsafe.Sizeof(uintptr(0)))
	}
	return n
}

// sizeLimit returns the limit for size, and whether the command has its own stack limit. Before
// Linux 4.13 maxWords did not exist, and pointers were not counted.
func (c Command) sizeLimit() (limit int, own bool) {
	var stack uint64
	if l := (syscall.Rlimit{}); syscall.Getrlimit(unix.RLIMIT_STACK, &l) == nil {
		stack = l.Cur
	}
	if c.Credentials != nil {
		for _, l := range c.Credentials.Rlimits {
			if l.Resource == unix.RLIMIT_STACK {
				stack, own = l.Soft, true
			}
		}
	}
	return int(max(min(stack/stackQuarter, maxWords), minWords)), own
}

// fits asks the kernel whether it would load the program at path with this much more. It is for a
// kernel with other limits.
func (c Command) fits(path string, more int) bool {
	c.Env = append(slices.Clip(c.Env), strings.Repeat("x", more))
	_, code, known := trace(path, c)
	return known && code == 0
}
