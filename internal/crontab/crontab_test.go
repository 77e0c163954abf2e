package crontab

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestJobs(t *testing.T) {
	for _, c := range []struct {
		line, schedule, command, input string
	}{
		{"17 3 * * 1-5 /usr/local/bin/backup.sh", "17 3 * * 1-5", "/usr/local/bin/backup.sh", ""},
		{"  */5\t*  * * *\techo  a  b  ", "  */5\t*  * * *", "echo  a  b", ""},
		{"@daily FOO=bar echo x", "@daily", "FOO=bar echo x", ""},
		{"@every 90s x", "@every 90s", "x", ""},
		{"@at 2026-12-24T18:00 x y", "@at 2026-12-24T18:00", "x y", ""},
		{"-*/15 * * * * x", " */15 * * * *", "x", ""},
		{"* * * * * x # no comment", "* * * * *", "x # no comment", ""},
		{"* * * * * mail bob%Hi,%%Bye%", "* * * * *", "mail bob", "Hi,\n\nBye\n"},
		{"* * * * * cat%a", "* * * * *", "cat", "a\n"},
		{"* * * * * cat%", "* * * * *", "cat", ""},
		{"* * * * * cat%%", "* * * * *", "cat", "\n"},
		{`* * * * * date +\%F`, "* * * * *", "date +%F", ""},
		{`* * * * * echo \n \%\% \\x`, "* * * * *", `echo \n %% \\x`, ""},
		{`* * * * * echo a\\%b\%c\d\`, "* * * * *", `echo a\\`, "b%c\\d\\\n"}, // \\ escapes no %
		{"* * * * * x\r", "* * * * *", "x", ""},
		{"0 0 1 1 * 2027 x", "0 0 1 1 *", "2027 x", ""},
	} {
		got, wrong := Parse(c.line+"\n", Options{})
		if len(wrong) > 0 || len(got.Jobs) != 1 {
			t.Errorf("%q: %v", c.line, wrong)
			continue
		}
		j := got.Jobs[0]
		if j.Schedule != c.schedule || j.Command != c.command || j.Input != c.input {
			t.Errorf("%q: %q, %q, %q", c.line, j.Schedule, j.Command, j.Input)
		}
	}
}

func TestSystemAndSeconds(t *testing.T) {
	for _, c := range []struct {
		o                       Options
		line                    string
		schedule, user, command string
	}{
		{Options{System: true}, "17 * * * *\troot    cd / && x", "17 * * * *", "root", "cd / && x"},
		{Options{System: true}, "@reboot bob x", "@reboot", "bob", "x"},
		{Options{System: true}, "-*/5 * * * * root test -x y", " */5 * * * *", "root", "test -x y"},
		{Options{Seconds: true}, "*/5 * * * * * * x", "*/5 * * * * * *", "", "x"},
		{Options{Seconds: true}, "0 0 1 1 * 2027-2030 x", "0 0 1 1 * 2027-2030", "", "x"},
		{Options{Seconds: true}, "0 0 0 1 1 mon-fri 2027 x y", "0 0 0 1 1 mon-fri 2027", "", "x y"},
		{Options{Seconds: true}, "0 0 1 1 * x y", "0 0 1 1 *", "", "x y"},
		{Options{Seconds: true}, "@daily 5 x", "@daily", "", "5 x"},
		{Options{Seconds: true}, "0 5 3 * * mon-fry * x", "0 5 3 * * mon-fry *", "", "x"}, // its mistake is found there
		{Options{Seconds: true}, "0 0 29 2 * 30 x", "0 0 29 2 * 30", "", "x"},
		{Options{Seconds: true}, "0 0 29 2 * ls *", "0 0 29 2 *", "", "ls *"},
		{Options{Seconds: true}, "0 0 29 2 * sleep 30", "0 0 29 2 *", "", "sleep 30"},
		{Options{Seconds: true}, "0 0 0 29 2 5L * x", "0 0 0 29 2 5L *", "", "x"},
	} {
		got, wrong := Parse(c.line, c.o)
		if len(wrong) > 0 {
			t.Errorf("%q: %v", c.line, wrong)
			continue
		}
		if j := got.Jobs[0]; j.Schedule != c.schedule || j.User != c.user || j.Command != c.command {
			t.Errorf("%q: %q, %q, %q", c.line, j.Schedule, j.User, j.Command)
		}
	}
}

// The rules are those of cron's load_env.
func TestVariables(t *testing.T) {
	for line, want := range map[string]string{
		"A=b":               "A=b",
		"A = b c  ":         "A=b c",
		"  A\t=\tb":         "A=b",
		`A="  b "`:          "A=  b ",
		`A='b"c'  `:         `A=b"c`,
		`"A" = 'b'`:         "A=b",
		"A=":                "A=",
		`A=""`:              "A=",
		"A=b # c":           "A=b # c",
		`A=b"c"`:            `A=b"c"`,
		"A=$HOME/x":         "A=$HOME/x",
		"MAILTO=a@b,c@d\r":  "MAILTO=a@b,c@d",
		`A="b" c`:           "", // as in cron, no variable
		`A="b`:              "",
		`"A=b"`:             "",
		"A":                 "",
		"* * * * * A=b x":   "job",
		"@daily A=b":        "job",
		"*/5 * * * * x a=b": "job",
	} {
		got, wrong := Parse(line+"\n* * * * * x\n", Options{})
		switch {
		case want == "job":
			if len(wrong) > 0 || len(got.Jobs) != 2 || got.Jobs[0].Variables != nil {
				t.Errorf("%q: %v", line, wrong)
			}
		case want == "":
			if len(wrong) != 1 {
				t.Errorf("%q: %v, %v", line, got.Jobs[0].Variables, wrong)
			}
		default:
			v := got.Jobs[0].Variables
			if len(wrong) > 0 || len(v) != 1 || v[0].Name+"="+v[0].Value != want || v[0].Line != 1 {
				t.Errorf("%q: %v, %v", line, v, wrong)
			}
		}
	}
}

func TestVariablesAreForTheLinesBelow(t *testing.T) {
	got, wrong := Parse("* * * * * a\nX=1\n* * * * * b\nY=2\nX=3\n* * * * * c\n", Options{})
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	want := [][]Variable{nil, {{"X", "1", 2}}, {{"X", "3", 5}, {"Y", "2", 4}}}
	for i, j := range got.Jobs {
		if diff := cmp.Diff(want[i], j.Variables); diff != "" {
			t.Errorf("%s: %s", j.Command, diff)
		}
	}
}

func TestNamesAndComments(t *testing.T) {
	const text = `# The jobs of the team.

# Backups.
# name: nightly
17 3 * * * /opt/backup.sh
# name: lost

* * * * * /opt/poll.sh -v
#name: Bob's own idea
*/5 * * * * /opt/poll.sh -v
* * * * * FOO=1 x
* * * * * /opt/poll.sh -v
# the end`
	got, wrong := Parse(text, Options{})
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	var names []string
	for _, j := range got.Jobs {
		names = append(names, fmt.Sprint(j.Line, " ", j.Name, " ", strings.Join(j.Comments, "|")))
	}
	poll := slug("/opt/poll.sh -v", "")
	want := []string{"5 nightly # The jobs of the team.|# Backups.", "8 " + poll + " # name: lost", "10 " + poll + "-2 #name: Bob's own idea",
		"11 " + slug("FOO=1 x", "") + " ", "12 " + poll + "-3 "}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"# the end"}, got.Comments); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(poll, "poll-") || len(poll) != len("poll-123456") {
		t.Error(poll)
	}
}

func TestErrorsNameLineAndColumn(t *testing.T) {
	for _, c := range []struct {
		o    Options
		text string
		want string
	}{
		{Options{}, "x\n", "line 1: column 2: the line ends: expected the hour"},
		{Options{}, "\n* * * *\n", "line 2: column 8: the line ends: expected the day of week"},
		{Options{}, "* * * * *  \n", "line 1: column 12: the line ends: expected a command"},
		{Options{}, "@daily\n", "line 1: column 7: the line ends: expected a command"},
		{Options{}, "@every\n", "line 1: column 7: the line ends: expected the argument of @every"},
		{Options{}, "* * * * * * x\n", `line 1: column 11: "*": expected a command, after five fields; --crontab-seconds`},
		{Options{System: true}, "* * * * *\n", "line 1: column 10: the line ends: expected a user"},
		{Options{System: true}, "* * * * * * root x\n", `line 1: column 11: "*": expected a user`},
		{Options{System: true}, "* * * * * root\n", "line 1: column 15: the line ends: expected a command"},
		{Options{}, "* * * * * %x\n", `line 1: column 11: "%": expected a command`},
		{Options{}, "* * * * * a\x00b\n", "line 1: column 12: a NUL byte"},
		{Options{}, "# name: a\n* * * * * x\n# name: a\n* * * * * y\n", "line 3: the name a is that of line 1 too"},
		{Options{}, "=x\n", `line 1: column 1: "": expected the name of a variable`},
		{Options{}, "# name: a\n A_1 = \"x\n", "line 2: column 2: the value of A_1: expected a closing quote at its end"},
		{Options{}, "A='x' y\n", "line 1: column 1: the value of A: expected a closing quote at its end"},
	} {
		_, wrong := Parse(c.text, c.o)
		if len(wrong) != 1 || !strings.HasPrefix(wrong[0].Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.text, wrong, c.want)
		}
	}
	if _, wrong := Parse(strings.Repeat("x\n", 30), Options{}); len(wrong) != 30 {
		t.Errorf("%d errors", len(wrong))
	}
}

// A command with its % escaped is read as it was, and the same for its input.
func TestPercentSigns(t *testing.T) {
	text := rapid.StringMatching(`[a-z %]{0,12}`)
	rapid.Check(t, func(t *rapid.T) {
		command, input := "x"+text.Draw(t, "command")+"y", text.Draw(t, "input")
		escape := strings.NewReplacer("%", `\%`)
		line := "* * * * * " + escape.Replace(command) + "%" + escape.Replace(input)
		got, wrong := Parse(line, Options{})
		if len(wrong) > 0 || got.Jobs[0].Command != command {
			t.Fatalf("%q: %v, %v", line, wrong, got.Jobs)
		}
		want := strings.TrimRight(input, " ") // the blanks at the end of a line
		if want != "" {
			want += "\n"
		}
		if got.Jobs[0].Input != want {
			t.Fatalf("%q: input %q", line, got.Jobs[0].Input)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "\n", "* * * * * x", "A=b\n@daily x%y\n", "# name: x\n-* * * * * root x\r\n", "\"A'=\"b\n", "@at\n@every 1s",
		"0 0 0 1 1 * 2027 x\n", "# name: a\n@daily a\n@daily b\n# name: b-6e0e31\n@daily b", "\x00", "A=\"", "* * * * * \\%\\\\%\\"} {
		for options := range byte(4) {
			f.Add(text, options)
		}
	}
	f.Fuzz(func(t *testing.T, text string, options byte) {
		got, wrong := Parse(text, Options{System: options&1 != 0, Seconds: options&2 != 0})
		lines := strings.Count(text, "\n") + 1
		names := map[string]bool{}
		for _, j := range got.Jobs {
			if j.Line < 1 || j.Line > lines || strings.TrimSpace(j.Schedule) == "" || strings.TrimSpace(j.Command) == "" {
				t.Errorf("%+v", j)
			}
			if names[j.Name] && len(wrong) == 0 || j.Name == "" {
				t.Errorf("the name %q", j.Name)
			}
			names[j.Name] = true
			if strings.ContainsAny(j.Command+j.Input, "\x00\r") && !strings.Contains(text, "\r") {
				t.Errorf("%+v", j)
			}
		}
		for _, err := range wrong {
			if err.Line < 1 || err.Line > lines || err.Problem == "" {
				t.Error(err)
			}
		}
		again, _ := Parse(strings.ReplaceAll(text, "\n", "\r\n"), Options{System: options&1 != 0, Seconds: options&2 != 0})
		if diff := cmp.Diff(got, again); diff != "" && !strings.Contains(text, "\r") {
			t.Errorf("with CR: %s", diff)
		}
	})
}
