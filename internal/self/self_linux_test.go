package self_test

import (
	"os/exec"
	"strings"
	"testing"

	"gophd/internal/self"
)

// blocked returns the signal mask of a program that is started now.
func blocked(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("/bin/grep", "SigBlk", "/proc/self/status").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(strings.TrimPrefix(string(out), "SigBlk:"))
}

func TestHoldSignalsBlocksInANewProgramUntilRelease(t *testing.T) {
	before := blocked(t)
	release, err := self.HoldSignals()
	if err != nil {
		t.Fatal(err)
	}
	held := blocked(t)
	release()
	// Bits 1-1, 2-1, 10-1, 12-1, 15-1 and 18-1: HUP, INT, USR1, USR2, TERM and CONT. 13-1, 14-1,
	// 24-1 to 26-1, 29-1, 30-1 and from 35-1 on: the unused ones, PIPE, ALRM, XCPU, XFSZ, VTALRM,
	// IO, PWR and the realtime signals.
	if want := "fffffffc33827a03"; held != want {
		t.Errorf("the mask of a new program is %s, want %s", held, want)
	}
	if after := blocked(t); after != before {
		t.Errorf("the mask was %s and is %s after release", before, after)
	}
}
