package pidfile

import (
	"strconv"
	"strings"
	"testing"
)

// FuzzParse checks that the result is a possible PID, and the number in the text.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "1", "1\n", " 42 \r\n", "-1", "0", "+7", "007", "1 2", "2147483648", "\x001", "１"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		pid := parse(text)
		if pid < 0 || pid > 1<<31-1 {
			t.Fatalf("%q gives %d", text, pid)
		}
		if pid > 0 && strings.TrimLeft(strings.TrimSpace(text), "0") != strconv.Itoa(pid) {
			t.Fatalf("%q gives %d", text, pid)
		}
		if n := parse(strconv.Itoa(pid) + "\n"); n != pid {
			t.Fatalf("%d is read back as %d", pid, n)
		}
	})
}
