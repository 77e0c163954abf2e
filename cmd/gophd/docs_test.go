package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
		t.Error("no exit code found in the help")
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
			t.Errorf("README.md does not have %q on its own line", line)
		}
	}
}

// TestFlagsAndKeysOfTheDocsExist compares the flags and keys of the documents with the help and the
// generated reference.
func TestFlagsAndKeysOfTheDocsExist(t *testing.T) {
	// Flags of other commands and programs.
	others := []string{"help", "line-buffered", "version", "format", "kill-who", "kill-whom", "signal", "password", "all",
		"nonblock", "shared", "unix-socket"}
	root := newRoot(&program{})
	addCommands(root, &program{})
	flags := newRun(&program{}).Flags()
	reference := read(t, top+"docs/config.md")
	flag := regexp.MustCompile("(?m)(?:^|[ `(])--([a-z][a-z-]*)")
	key := regexp.MustCompile(`\b(?:config|job|heartbeat|log|restart|api|history)\.[a-z_]+\b`)
	files := regexp.MustCompile(`\.(sh|yaml|go|md|log|state)$`)
	found := 0
	for _, file := range documents(t) {
		text := read(t, file)
		if filepath.Base(file) == "CHANGELOG.md" { // it lists the old names
			for _, old := range []string{"--strays", "--on-orphan", "--overrun", "--keep", "--wait",
				"job.strays", "job.on_orphan", "job.overrun", "job.keep", "heartbeat.wait"} {
				text = strings.ReplaceAll(text, "`"+old+"`", "")
			}
		}
		for _, m := range flag.FindAllStringSubmatch(text, -1) {
			found++
			ofVerb := slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.Flags().Lookup(m[1]) != nil })
			if flags.Lookup(m[1]) == nil && !ofVerb && !slices.Contains(others, m[1]) {
				t.Errorf("%s names --%s, which is no flag", file, m[1])
			}
		}
		for _, span := range regexp.MustCompile("`[^`\n]+`").FindAllString(text, -1) {
			for _, name := range key.FindAllString(span, -1) {
				found++
				if !files.MatchString(name) && !strings.Contains(reference, "| `"+name+"` |") {
					t.Errorf("%s names %s, which is no setting", file, name)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no flag or setting found")
	}
}

// documents returns the files of the documentation.
func documents(t *testing.T) (files []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		some, err := filepath.Glob(top + pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, some...)
	}
	return files
}

func TestHelpShowsEachFlagOnceBelowAHeading(t *testing.T) {
	cmd := newRun(&program{})
	help := cmd.UsageString()
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if n := len(regexp.MustCompile("(?m)^  (-., |    )--"+f.Name+"( |$)").FindAllString(help, -1)); n != 1 {
			t.Errorf("--%s is shown %d times", f.Name, n)
		}
	})
	var got []string
	for _, m := range regexp.MustCompile("(?m)^(.+):\n +(?:-., )?--").FindAllStringSubmatch(help, -1) {
		got = append(got, m[1])
	}
	want := []string{"The daemon", "The command and its exec environment", "When it runs",
		"Timeouts, stops and retries", "Output", "Lease: one instance in the cluster", "The log",
		"The socket for gophd list and status"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("headings (-want +got):\n%s", d)
	}
}

// TestRelativeLinksOfTheDocsExist checks that the file and the heading of each relative link exist.
func TestRelativeLinksOfTheDocsExist(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	links := 0
	for _, file := range documents(t) {
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
	if links == 0 {
		t.Error("no link found")
	}
}

// hasHeading reports whether the text has a heading with that anchor. Anchors are lower case, with
// - for a space and without punctuation.
func hasHeading(text, name string) bool {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		slug := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(slug, " ", "-") == name {
			return true
		}
	}
	return false
}
