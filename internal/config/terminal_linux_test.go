package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A daemon leaves the terminal of its session. It may write to a terminal that is a device.
func TestDaemonRejectsTheTerminalOfASession(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal := fmt.Sprintf("/dev/pts/%d", n)
	link := filepath.Join(t.TempDir(), "terminal")
	if err := os.Symlink(terminal, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{terminal, link, "/dev/tty"} {
		for _, flag := range []string{"--log-file", "--output", "--stdin"} {
			load(t, parsed(t, request(t), flag, path, "x"))
			_, err := Load(parsed(t, request(t), "-d", flag, path, "x"))
			if err == nil || !strings.HasPrefix(err.Error(), flag+" "+path+": a daemon has no terminal") {
				t.Errorf("%s %s: %v", flag, path, err)
			}
		}
	}
	for _, path := range []string{"/dev/null", "/dev/zero", link + ".log"} {
		load(t, parsed(t, request(t), "-d", "--log-file", path, "--output", path, "--stdin", path, "x"))
	}
}
