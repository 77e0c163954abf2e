package process

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gophd/internal/credentials"
)

// Check rejects arguments and an environment that a start would reject, and no others: the kernel
// decides where the limit is, and Check is wrong by perRun at most.
func TestCheckKnowsTheSizeThatTheKernelAllows(t *testing.T) {
	s := newSpawner(t)
	stack := func(soft uint64) *credentials.Credentials {
		return &credentials.Credentials{Rlimits: []credentials.Rlimit{{
			Name: "stack", Resource: unix.RLIMIT_STACK, Soft: soft, Hard: credentials.Unlimited}}}
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(unix.RLIMIT_STACK, &before); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(unix.RLIMIT_STACK, &before)
	for name, tc := range map[string]struct {
		soft  uint64 // of this process
		creds *credentials.Credentials
	}{
		"as it is": {before.Cur, nil}, "large": {min(64<<20, before.Max), nil}, "small": {1 << 20, nil},
		"small for the command": {before.Cur, stack(256 << 10)}, "larger for the command": {1 << 20, stack(2 << 20)},
	} {
		t.Run(name, func(t *testing.T) {
			if err := syscall.Setrlimit(unix.RLIMIT_STACK, &syscall.Rlimit{Cur: tc.soft, Max: before.Max}); err != nil {
				t.Fatal(err)
			}
			creds := tc.creds
			c := Command{Argv: []string{"/bin/true", ""}, Dir: "/", Credentials: creds}
			limit, _ := c.sizeLimit()
			word := strings.Repeat("x", 100<<10)
			for c.size("/bin/true")+len(word) < limit-perRun-100 {
				c.Env = append(c.Env, word)
			}
			fill := func(size int) {
				c.Argv[1] = ""
				c.Argv[1] = strings.Repeat("x", size-c.size("/bin/true"))
			}
			start := func() error {
				c.Stdout, c.Stderr = discard(), discard()
				p, err := s.Start(t.Context(), c)
				if err == nil {
					p.Wait()
				}
				return err
			}
			fill(limit - perRun)
			if _, err := Check(c); err != nil {
				t.Errorf("%d bytes below the limit, Check: %v", perRun, err)
			}
			fill(limit)
			if err := start(); err != nil {
				t.Errorf("at the limit, Start: %v", err)
			}
			if _, err := Check(c); errno(err) != syscall.E2BIG {
				t.Errorf("at the limit, without room for the variables of a run, Check: %v", err)
			}
			fill(limit + 1)
			want := "its arguments and environment have "
			if err := start(); errno(err) != syscall.E2BIG || !strings.Contains(err.Error(), want) {
				t.Errorf("above the limit, Start: %v", err)
			}
			if _, err := Check(c); errno(err) != syscall.E2BIG || !strings.Contains(err.Error(), want) {
				t.Errorf("above the limit, Check: %v", err)
			}
		})
	}
}

// The error names the argument or variable, and not its value.
func TestTooLongWordIsNamed(t *testing.T) {
	limit := maxWordPages * os.Getpagesize()
	long := strings.Repeat("secret", limit/6+1)
	for want, c := range map[string]Command{
		fmt.Sprintf("its argument 1 has %d bytes, and the system allows %d: shorten it, or pass it in a file", len(long), limit-1): {
			Argv: []string{"/bin/true", long}},
		fmt.Sprintf("the variable TOKEN has %d bytes with its name, and the system allows %d: ", len(long)+6, limit-1): {
			Argv: []string{"/bin/true"}, Env: []string{"A=b", "TOKEN=" + long}},
	} {
		if _, err := Check(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.300v; want %q", err, want)
		}
	}
}
