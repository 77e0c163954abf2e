package process

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
)

func TestLeftoverProcessesAreThoseOfTheMark(t *testing.T) {
	sleeper := func(mark string) int {
		cmd := exec.Command("sleep", "3600")
		cmd.Env = append(os.Environ(), RunID+"="+mark+".1.2.3")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	mark := fmt.Sprintf("12:%d", os.Getpid()) // no other run of these tests has it, which may go on at the same time
	pid := sleeper(mark)
	sleeper(mark + "1")
	sleeper("1" + mark)
	sleeper(mark + ".7")
	got, err := Leftover(mark+".", mark+".7.")
	if err != nil || !slices.Equal(got, []int{pid}) {
		t.Errorf("got %v, %v; want %d", got, err, pid)
	}
}
