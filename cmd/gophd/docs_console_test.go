package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestConsoleExamplesOfTheDocs runs each line after a "$ " in a console block, in one directory for
// each document, and compares its output; "..." matches any lines. A yaml block that starts with
// the name of a file is that file.
func TestConsoleExamplesOfTheDocs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../README.md", "job.md", "jobs.md", "logging.md", "output-buffering.md", "schedule.md"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("../../docs", name))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			t.Cleanup(func() { sweep("GOPHD_STATE_DIR=" + dir) })
			ran := 0
			blocks := regexp.MustCompile("(?ms)^```(console|yaml)\n(.*?)^```$")
			for _, block := range blocks.FindAllStringSubmatch(string(text), -1) {
				if block[1] == "yaml" {
					file, _, _ := strings.Cut(strings.TrimPrefix(block[2], "# "), "\n")
					if err := os.WriteFile(filepath.Join(dir, file), []byte(block[2]), 0o644); err != nil {
						t.Fatal(err)
					}
					command := " -- true"
					if strings.Contains(block[2], "\njobs:") { // each has its own
						command = ""
					}
					out := console(t, dir, "gophd check -c "+file+command)
					limits := strings.Contains(out, "control group") // which this test may not have
					if !limits && !strings.Contains(out, "config file") {
						t.Errorf("%s:\n%s", file, out)
					}
					continue
				}
				for _, example := range strings.Split("\n"+strings.TrimSuffix(block[2], "\n"), "\n$ ")[1:] {
					line, want, printed := strings.Cut(example, "\n")
					if printed {
						want += "\n"
					}
					if got := console(t, dir, line); !fits(got, want) {
						t.Errorf("$ %s\n(-document +printed):\n%s", line, cmp.Diff(plain(want), plain(got)))
					}
					ran++
				}
			}
			if ran == 0 {
				t.Error("no console block found")
			}
		})
	}
}

// console returns the output of a shell line on stdout and stderr.
func console(t *testing.T, dir, line string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("sh", "-c", line)
	// Files, so that Run does not wait for a daemon that still has a pipe open.
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, f, f
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "TZ=UTC", "GORACE=atexit_sleep_ms=0",
		"GOPHD_STATE_DIR=" + dir, "GOPHD_RUNTIME_DIR=" + dir}
	_ = cmd.Run() // an example prints its exit code if it matters
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), dir, "/tmp/tour") // as README.md calls the directory of its tour
}

// fits reports whether got matches the text of a document.
func fits(got, want string) bool {
	pattern := regexp.QuoteMeta(plain(want))
	pattern = strings.ReplaceAll(pattern, `\.\.\.`+"\n", `(.*\n)*`)
	return regexp.MustCompile("^" + pattern + "$").MatchString(plain(got))
}

// plain replaces the parts of a text that differ from run to run.
func plain(text string) string {
	for _, r := range [][2]string{
		{`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?`, "TIME"},
		{`\d{8}T\d{6}\.\d{6}Z`, "STAMP"},
		{`\[\d+\]`, "[PID]"},
		{`(pid|PID|process) \d+`, "$1 PID"},
		{`gophd \S+( started,|, pid)`, "gophd VERSION$1"},
		{` on \S+ since`, " on HOST since"},
		{`"pid":\d+`, `"pid":PID`},
		{`\d+ bytes left out`, "N bytes left out"},
		{`after [0-9.]+(µs|ms|s)`, "after LENGTH"},
	} {
		text = regexp.MustCompile(r[0]).ReplaceAllString(text, r[1])
	}
	return text
}
