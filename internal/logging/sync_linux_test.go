package logging

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The disk is really asked: a file that cannot be brought to it (such are those of proc(5)) is an error with the
// policies that promise it, and none with the other.
func TestTheDiskIsAsked(t *testing.T) {
	const file = "/proc/self/comm"
	name := strings.TrimSpace(read(t, file))
	defer func() {
		if err := os.WriteFile(file, []byte(name), 0); err != nil {
			t.Error(err)
		}
	}()
	for policy, fails := range map[string]bool{syncNever: false, syncSecond: true, syncAlways: true} {
		l := open(t, Options{Format: simple, File: file, Sync: policy})
		fmt.Fprintln(l.Capture("stdout")(1), "a line")
		if err := l.Close(); (err != nil) != fails {
			t.Errorf("%s: got error %v", policy, err)
		}
	}
}
