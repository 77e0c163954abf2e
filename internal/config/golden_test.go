package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestGolden loads every file of testdata/config. FILE.want has the expected result: the settings
// that differ from the defaults, or the exact error.
func TestGolden(t *testing.T) {
	dir, err := filepath.Abs("../../testdata/config")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.IsDir() || strings.HasSuffix(file, ".want") {
			continue // a directory has files that others include
		}
		seen++
		t.Run(filepath.Base(file), func(t *testing.T) {
			r := request(t)
			r.Dir = "/srv"
			r.Env = []string{configVariable + "=" + file}
			c, err := Load(r)
			if good := strings.HasPrefix(filepath.Base(file), "good_"); good != (err == nil) {
				t.Errorf("the file is named %s, its error is %v", filepath.Base(file), err)
			}
			got := strings.ReplaceAll(render(c, err), dir+"/", "")
			if strings.Contains(got, "S3cret") {
				t.Errorf("a secret is shown: %s", got)
			}
			want, readErr := os.ReadFile(file + ".want")
			if *update {
				readErr = os.WriteFile(file+".want", []byte(got), 0o644)
				want = []byte(got)
			}
			if readErr != nil {
				t.Fatal(readErr)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if seen < 40 {
		t.Errorf("saw %d files, expected all of %s", seen, dir)
	}
}

// render returns the result of Load, a line for each value or error.
func render(c *Config, err error) string {
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	for _, v := range c.Values() {
		if v.Source != "default" {
			fmt.Fprintf(&b, "%s = %q from %s\n", v.Key, v.Text, v.Source)
		}
	}
	for _, s := range c.Jobs {
		fmt.Fprintf(&b, "name %s, command %q\n", s.Name, s.Command)
		for _, kv := range s.Env {
			fmt.Fprintf(&b, "%q\n", kv)
		}
	}
	return b.String()
}
