package preflight

import (
	"slices"
	"strings"
	"testing"
)

func TestPlainLine(t *testing.T) {
	env := []string{"PATH=/bin", "BASH_FUNC_greet%%=() { echo hi; }"}
	for line, plain := range map[string]bool{
		"./job.sh --all": true, "backup --all": true, "  backup\t--all ": true,
		"": false, "cd /tmp": false, "exec backup": false, "echo hi": false, "greet": false,
		"backup $HOME": false, "backup; true": false, "A=1 backup": false, "backup | tee x": false, "# backup": false,
		"[ -e x ]": false, "backup 'a b'": false, "backup\nclean": false,
	} {
		words := plainLine([]string{shell, "-c", line}, env)
		if (words != nil) != plain || plain && !slices.Equal(words, strings.Fields(line)) {
			t.Errorf("%q: %q", line, words)
		}
	}
	if words := plainLine([]string{shell, "-c", "backup"}, nil); words != nil {
		t.Errorf("without PATH the shell has one of its own: %q", words)
	}
	if words := plainLine([]string{"/bin/bash", "-c", "backup"}, env); words != nil {
		t.Errorf("another shell: %q", words)
	}
}
