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

// TestConsolesOfTheDocs runs each line behind a "$ " in a block that is marked as a console, in one folder for each document, and
// compares what it prints; "..." stands for any lines. A block of yaml that begins with the name of a file is that file.
func TestConsolesOfTheDocs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"job.md", "logging.md"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("../../docs", name))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			t.Cleanup(func() { sweep("GOPHD_STATE_DIR=" + dir) })
			ran := 0
			for _, block := range regexp.MustCompile("(?ms)^```(console|yaml)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
				if block[1] == "yaml" {
					file, _, _ := strings.Cut(strings.TrimPrefix(block[2], "# "), "\n")
					if err := os.WriteFile(filepath.Join(dir, file), []byte(block[2]), 0o644); err != nil {
						t.Fatal(err)
					}
					if out := console(t, dir, "gophd check -c "+file+" -- true"); !strings.Contains(out, "config file") {
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
				t.Error("no console is found")
			}
		})
	}
}

// console is what a shell line prints on both streams.
func console(t *testing.T, dir, line string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, f, f // a file, so that nobody is waited for who keeps it open
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "TZ=UTC", "GORACE=atexit_sleep_ms=0",
		"GOPHD_STATE_DIR=" + dir, "GOPHD_RUNTIME_DIR=" + dir}
	_ = cmd.Run() // the code is the last thing that an example prints, where it matters
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fits says whether got is what a document shows.
func fits(got, want string) bool {
	pattern := regexp.QuoteMeta(plain(want))
	pattern = strings.ReplaceAll(pattern, `\.\.\.`+"\n", `(.*\n)*`)
	return regexp.MustCompile("^" + pattern + "$").MatchString(plain(got))
}

// plain is a text without what differs from one time to the next.
func plain(text string) string {
	for _, r := range [][2]string{
		{`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?`, "TIME"},
		{`\d{8}T\d{6}\.\d{6}Z`, "STAMP"},
		{`\[\d+\]`, "[PID]"},
		{`pid \d+`, "pid PID"},
		{`"pid":\d+`, `"pid":PID`},
		{`\d+ bytes left out`, "N bytes left out"},
		{`after [0-9.]+(µs|ms|s)`, "after LENGTH"},
	} {
		text = regexp.MustCompile(r[0]).ReplaceAllString(text, r[1])
	}
	return text
}
