//go:build root

package main_test

import (
	"os"
	"testing"
)

// TestRootScript runs the promises that only root can ask for: the files of testdata/root.
func TestRootScript(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("these tests need root: run make test-root")
	}
	runScripts(t, "../../testdata/root")
}
