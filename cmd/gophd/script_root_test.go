//go:build root

package main_test

import (
	"os"
	"testing"
)

// TestRootScript runs the scripts that need root: the files of testdata/root.
func TestRootScript(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("these tests need root: run make test-root")
	}
	runScripts(t, "../../testdata/root")
}
