package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const top = "../../"

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReadmeHasTheExitCodesOfTheHelp(t *testing.T) {
	var want, got [][]string
	for _, m := range regexp.MustCompile(`(?m)^  (\d+) +(.+)$`).FindAllStringSubmatch(exitCodeHelp, -1) {
		want = append(want, m[1:])
	}
	_, section, _ := strings.Cut(read(t, top+"README.md"), "\n## Exit codes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	section = strings.ReplaceAll(section, "`", "")
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \| (.+) \|$`).FindAllStringSubmatch(section, -1) {
		got = append(got, m[1:])
	}
	if len(want) == 0 {
		t.Error("no code is found in the help")
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("codes and meanings (-exit.go +README.md):\n%s", d)
	}
}

func TestReadmeHasTheTwoCommands(t *testing.T) {
	readme := read(t, top+"README.md")
	for _, line := range []string{
		"go run ./cmd/gophd run -v --interval 2 -- ./testdata/jobs/ok.sh",
		"make test",
	} {
		if !strings.Contains(readme, "\n"+line+"\n") {
			t.Errorf("README.md does not print %q on a line of its own", line)
		}
	}
}

// TestLinksOfTheDocsLeadSomewhere follows the relative links, to the file and to the heading in it.
func TestLinksOfTheDocsLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	links := 0
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(top + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
				if strings.Contains(m[1], "://") {
					continue
				}
				links++
				name, heading, _ := strings.Cut(m[1], "#")
				target := file
				if name != "" {
					target = filepath.Join(filepath.Dir(file), filepath.FromSlash(name))
				}
				if _, err := os.Stat(target); err != nil {
					t.Errorf("%s: link to %s: %v", file, m[1], err)
				} else if heading != "" && !hasHeading(read(t, target), heading) {
					t.Errorf("%s: link to %s: no such heading there", file, m[1])
				}
			}
		}
	}
	if links == 0 {
		t.Error("no link is found")
	}
}

// hasHeading knows the names that headings get where the docs are shown: lower case, - for a space, no
// punctuation.
func hasHeading(text, name string) bool {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		slug := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(slug, " ", "-") == name {
			return true
		}
	}
	return false
}
