//go:build root && linux

package process

import (
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gophd/internal/credentials"
)

// TestRootCheckFindsFileCapabilities checks programs with file capabilities, one of which is not in
// the bounding set, as in a container without it: Check must agree with the kernel, also about root
// and about what starts the program.
func TestRootCheckFindsFileCapabilities(t *testing.T) {
	s := newSpawner(t)
	dir := t.TempDir()
	for _, d := range []string{dir, dir + "/.."} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	const revision, effective = 0x02000000, 1
	give := func(name string, first byte, permitted, inheritable uint32) {
		write(t, dir+"/"+name, string(program), 0o755)
		attribute := [20]byte{first, 0, 0, revision >> 24}
		for i := range 4 {
			attribute[4+i], attribute[8+i] = byte(permitted>>(8*i)), byte(inheritable>>(8*i))
		}
		if err := unix.Setxattr(dir+"/"+name, "security.capability", attribute[:], 0); err != nil {
			t.Fatal(err)
		}
	}
	const missing, there = 1 << unix.CAP_NET_BIND_SERVICE, 1 << unix.CAP_CHOWN
	give("missing", effective, missing, 0)
	give("both", effective, missing|there, 0)
	give("there", effective, there, 0)
	give("permitted-only", 0, missing, 0)
	give("inheritable", effective, 0, missing)
	write(t, dir+"/script", "#!"+dir+"/missing\n", 0o755)
	write(t, dir+"/none", string(program), 0o755)
	want := map[string]bool{"missing": false, "both": false, "there": true, "permitted-only": true, "inheritable": true,
		"script": false, "none": true}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with its bounding set
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_BIND_SERVICE, 0, 0, 0); err != nil {
			t.Error(err)
			return
		}
		for name, fit := range want {
			for _, creds := range []*credentials.Credentials{nil, {}, {User: lookup(t, "nobody")}} {
				c := Command{Argv: []string{dir + "/" + name}, Dir: "/", Env: []string{"PATH=/bin"}, Credentials: creds}
				err := agree(t, s, c)
				if (err == nil) != fit || err != nil && (errno(err) != syscall.EPERM ||
					!strings.Contains(err.Error(), " has the file capability cap_net_bind_service, which is not in gophd's bounding set: ")) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}()
	<-done
}
