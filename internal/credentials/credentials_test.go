package credentials_test

import (
	"cmp"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"gophd/internal/credentials"
)

func TestUmask(t *testing.T) {
	for s, want := range map[string]int{"0": 0, "022": 0o22, "22": 0o22, "0077": 0o77, "777": 0o777} {
		if got, err := credentials.ParseUmask(s); err != nil || got != want {
			t.Errorf("%q: %o, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "8", "1000", "-1", "0o22", "00022", "u=rwx", " 22", "+22"} {
		if got, err := credentials.ParseUmask(s); err == nil {
			t.Errorf("%q is read as %o", s, got)
		}
	}
}

func TestRlimits(t *testing.T) {
	for s, want := range map[string]credentials.Rlimit{
		"nofile=1024":      {Name: "nofile", Soft: 1024, Hard: 1024},
		"nofile=1024:4096": {Name: "nofile", Soft: 1024, Hard: 4096},
		"core=unlimited":   {Name: "core", Soft: credentials.Unlimited, Hard: credentials.Unlimited},
		"core=0:unlimited": {Name: "core", Hard: credentials.Unlimited},
		"as=9223372036854775807:9223372036854775807": {Name: "as", Soft: 1<<63 - 1, Hard: 1<<63 - 1},
	} {
		got, err := credentials.ParseRlimit(s)
		got.Resource = 0
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for s, want := range map[string]string{
		"":                        "no value",
		"nofile":                  "no value",
		"files=1":                 "choose from as, core, cpu",
		"nofiles=1":               "did you mean nofile?",
		"RLIMIT_NOFILE=1":         "did you mean nofile?",
		"LimitNOFILE=1":           "did you mean nofile?",
		"as=1G":                   "write 1073741824",
		"as=512MiB":               "write 536870912",
		"as=1.5G":                 "write a number, or unlimited",
		"core=infinity":           "write unlimited",
		"nofile=":                 "not a limit",
		"nofile=1:":               "not a limit",
		"nofile=:1":               "not a limit",
		"nofile=1:2:3":            "not a limit",
		"nofile=-1":               "not a limit",
		"nofile=1k":               "not a limit",
		"nofile=2:1":              "the soft limit is above",
		"nofile=unlimited:1":      "the soft limit is above",
		"as=18446744073709551615": "not a limit", // -1, which the kernel reads as unlimited
	} {
		if got, err := credentials.ParseRlimit(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want an error with %q", s, got, err, want)
		}
	}
}

func FuzzRlimit(f *testing.F) {
	for _, s := range []string{"nofile=1:2", "core=unlimited", "as=:", "cpu=0:unlimited", "=", "stack=1=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := credentials.ParseRlimit(s)
		if err != nil {
			return
		}
		if r.Soft > r.Hard || !slices.Contains(credentials.ResourceNames(), r.Name) {
			t.Errorf("%q: %+v", s, r)
		}
		if again, err := credentials.ParseRlimit(r.String()); err != nil || again != r {
			t.Errorf("%q is %q, which is %+v (%v)", s, r, again, err)
		}
	})
}

func TestSignals(t *testing.T) {
	for s, want := range map[string]syscall.Signal{
		"TERM": 15, "SIGTERM": 15, "sigint": 2, "15": 15, "QUIT": 3, "KILL": 9, "40": 40,
	} {
		if got, err := credentials.ParseStopSignal(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"STOP", "19", "CONT"} {
		if got, err := credentials.ParseStopSignal(s); err == nil {
			t.Errorf("%q stops a command, as %v", s, got)
		}
		if _, err := credentials.ParseSignal(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "0", "65", "-1", "TERMINATE", "SIG", "SIGSIGTERM", "TERM "} {
		for _, parse := range []func(string) (syscall.Signal, error){credentials.ParseSignal, credentials.ParseStopSignal} {
			if got, err := parse(s); err == nil {
				t.Errorf("%q is read as %v", s, got)
			}
		}
	}
}

func FuzzSignal(f *testing.F) {
	f.Add("TERM")
	f.Add("SIGusr1")
	f.Add("9")
	f.Fuzz(func(t *testing.T, s string) {
		sig, err := credentials.ParseSignal(s)
		if err != nil {
			return
		}
		again, err := credentials.ParseSignal(strconv.Itoa(int(sig)))
		if sig < 1 || sig > 64 || err != nil || again != sig {
			t.Errorf("%q is %d, which is %d (%v)", s, sig, again, err)
		}
	})
}

func TestParseUser(t *testing.T) {
	for s, want := range map[string][2]string{
		"www-data": {"www-data", ""}, "1000": {"1000", ""}, "a:b": {"a", "b"}, "0:0": {"0", "0"},
		"4294967294": {"4294967294", ""},
	} {
		if u, g, err := credentials.ParseUser(s); err != nil || u != want[0] || g != want[1] {
			t.Errorf("%q: %q, %q, %v", s, u, g, err)
		}
	}
	for _, s := range []string{
		"", ":", "a:", ":b", "a:b:c", "a b", "a\n", "4294967295", "0:4294967295", "99999999999999999999", "../x",
	} {
		if u, g, err := credentials.ParseUser(s); err == nil {
			t.Errorf("%q is read as %q, %q", s, u, g)
		}
	}
}

func FuzzParseUser(f *testing.F) {
	f.Add("root:root")
	f.Add("1:4294967295")
	f.Add(":")
	f.Fuzz(func(t *testing.T, s string) {
		u, g, err := credentials.ParseUser(s)
		if err != nil {
			return
		}
		whole := u
		if g != "" {
			whole += ":" + g
		}
		if whole != s || u == "" || strings.ContainsAny(s, "\n\x00/") {
			t.Errorf("%q is read as %q, %q", s, u, g)
		}
	})
}

// id runs id(1), which reads the same database.
func id(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("id", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func groups(u credentials.User) []string {
	var s []string
	for _, g := range u.Groups {
		s = append(s, strconv.Itoa(g))
	}
	slices.Sort(s)
	return s
}

func TestGroupsAreThoseOfTheDatabase(t *testing.T) {
	raw, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 7 {
			continue
		}
		u, err := credentials.LookupUser(f[0])
		if err != nil {
			t.Error(err)
			continue
		}
		want := strings.Fields(id(t, "-G", f[0]))
		slices.Sort(want)
		if d := diff.Diff(want, groups(u)); d != "" || u.Groups[0] != u.GID {
			t.Errorf("%s: groups (-id +got):\n%s", f[0], d)
		}
		home, shell := cmp.Or(f[5], "/"), cmp.Or(f[6], "/bin/sh")
		if u.Name != f[0] || u.UID != number(t, f[2]) || u.GID != number(t, f[3]) ||
			u.Home != home || u.Shell != shell {
			t.Errorf("%s: got %+v", line, u)
		}
		if byID, err := credentials.LookupUser(f[2]); err != nil || byID.UID != u.UID {
			t.Errorf("%s by its number: %+v, %v", f[0], byID, err)
		}
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLookupUser(t *testing.T) {
	const free = "2999999999" // no system assigns that id
	const freeID = 2999999999
	for spec, want := range map[string]credentials.User{
		"root:" + free:    {Name: "root", GID: freeID, Groups: []int{freeID}, Home: "/root"},
		"0:0":             {Name: "root", Groups: []int{0}, Home: "/root"},
		free + ":" + free: {Name: free, UID: freeID, GID: freeID, Groups: []int{freeID}, Home: "/", Shell: "/bin/sh"},
		free + ":0":       {Name: free, UID: freeID, Groups: []int{0}, Home: "/", Shell: "/bin/sh"},
	} {
		got, err := credentials.LookupUser(spec)
		if want.Shell == "" {
			got.Shell = ""
		}
		if d := diff.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got):\n%s", spec, err, d)
		}
	}
	for spec, want := range map[string]string{
		"no-such-user":       "there is no user no-such-user",
		"root:no-such-group": "there is no group no-such-group",
		free:                 "name its group too, like " + free + ":" + free,
		"root:":              "USER:GROUP",
	} {
		if got, err := credentials.LookupUser(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want an error with %q", spec, got, err, want)
		}
	}
}

func TestEnvOfAUser(t *testing.T) {
	got := credentials.User{Name: "ann", UID: 7, Home: "/home/ann", Shell: "/bin/zsh"}.Env()
	if d := diff.Diff([]string{"HOME=/home/ann", "USER=ann", "LOGNAME=ann", "SHELL=/bin/zsh"}, got); d != "" {
		t.Error(d)
	}
}

func TestEnvFile(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"comments":            {"# a comment\n; another\n \t# a third \\\n\n \t\nA=1\n", []string{"A=1"}},
		"the last counts":     {"A=1\nB=1\nA=2", []string{"A=2", "B=1"}},
		"unquoted":            {"A = two  words \nB=\nC=x=y\nD= \nE=it's\n", []string{"A=two  words", "B=", "C=x=y", "D=", "E=it's"}},
		"backslashes stay":    {`A=C:\new\x` + "\n" + `B=C:\\` + "\nC=1", []string{`A=C:\new\x`, `B=C:\\`, "C=1"}},
		"systemd: continued":  {"A=one \\\ntwo\\\n  # three \nB=\\\n\\\n1\nC=x\\", []string{"A=one two  # three", "B=1", "C=x"}},
		"blank after the end": {"A=x\\ \nB=1", []string{`A=x\`, "B=1"}},
		"single quotes":       {`A='a "b" \ $HOME '` + "\nB='' ", []string{`A=a "b" \ $HOME `, "B="}},
		"double quotes":       {`A=" \"q\" \\ \$x \` + "`" + ` \n \x"`, []string{"A= \"q\" \\ $x ` \\n \\x"}},
		"several lines":       {"A=\"one\ntwo\n\"\nB='1\n\n=2'\nC=3", []string{"A=one\ntwo\n", "B=1\n\n=2", "C=3"}},
		"systemd: joined":     {"A=\"one \\\n two\"\nB='1\\\n2'", []string{"A=one  two", "B=1\\\n2"}},
		"dotenv: comment":     {"A=\"x # y\" # why\nB='x'\t#why \"\nC=\"1\n2\" # c\nD=4", []string{"A=x # y", "B=x", "C=1\n2", "D=4"}},
		"dotenv: export":      {"export A=1\n  export\t B = 2\nexport=3\nexported=4", []string{"A=1", "B=2", "export=3", "exported=4"}},
		"docker: any name":    {"discovery.type=x\na-b=y", []string{"discovery.type=x", "a-b=y"}},
		"docker: # inside":    {"COLOR=#fff\nB=a#b", []string{"COLOR=#fff", "B=a#b"}},
		"Windows":             {"A=1\r\nB=\"1\r\n2\"\r\n\r\nC=1\\\r\n2\r\nD=' ' # c\r\nE=5\r", []string{"A=1", "B=1\n2", "C=12", "D= ", "E=5"}},
		"nothing":             {"", nil},
	} {
		got, warnings, err := credentials.ParseEnvFile(tc.text)
		if d := diff.Diff(tc.want, got); err != nil || d != "" || (warnings != nil) != strings.Contains(tc.text, "# three \nB") {
			t.Errorf("%s: %v, warnings %q (-want +got):\n%s", name, err, warnings, d)
		}
	}
}

// TestEnvFileWarnsOfComments checks that a value that other tools would cut off at a # is named.
func TestEnvFileWarnsOfComments(t *testing.T) {
	got, warnings, err := credentials.ParseEnvFile("A=1\nB=secret # why\n\nC=\t# none\nD=\"x\" # why\n")
	if d := diff.Diff([]string{"A=1", "B=secret # why", "C=# none", "D=x"}, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	const fix = " goes up to the end of the line, the # included; put it into quotes, and a comment may follow them"
	if d := diff.Diff([]string{"line 2: the value of B" + fix, "line 4: the value of C" + fix}, warnings); d != "" {
		t.Errorf("warnings (-want +got):\n%s", d)
	}
}

// TestEnvFileWarnsOfShells checks that a line which a shell reads in another way is named.
func TestEnvFileWarnsOfShells(t *testing.T) {
	const (
		several = "line 1: the value of A goes up to the end of the line, whatever a shell reads there; " +
			"write each variable on its own line, or put the value into quotes"
		dollar = "line 1: the value of A starts with $ and a quote, which are a part of it; " +
			"write quotes without the $, and each line break as it is"
	)
	for text, want := range map[string]string{
		"export A=1 B=2":               several,
		"export A=1\tB=2":              several,
		"export A=1; export B=2":       several,
		"export A=1;B=2":               several,
		"export A=1;":                  several,
		"A=1; export B=2":              several,
		"A=1;export B=2":               several,
		"A=$'a\\nb'":                   dollar,
		"export A=$'a\\nb'":            dollar,
		`A=$"a"`:                       dollar,
		"A=host=db user=x":             "", // for PostgreSQL
		"A=Server=db;Database=x":       "", // for ODBC
		"A=-Dx=1 -Dy=2":                "",
		"export A=-Dx=1 -Dy=2":         "",
		"export A=two words":           "",
		"export A=host=db":             "",
		"export A='1; export B=2 C=3'": "",
		"A=$5":                         "",
		"A=x$'y'":                      "",
	} {
		env, warnings, err := credentials.ParseEnvFile(text + "\n")
		_, value, _ := strings.Cut(text, "=")
		if got := strings.Join(warnings, "\n"); err != nil || got != want || len(env) != 1 ||
			env[0] != "A="+strings.TrimSuffix(strings.TrimPrefix(value, "'"), "'") && !strings.Contains(value, "$'") {
			t.Errorf("%q: %q, %q, %v, want %q", text, env, got, err, want)
		}
	}
}

func TestEnvFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"A=1\nB\n":                    "line 2 has no =: write KEY=VALUE",
		"A=1\nexport B\n":             "line 2 has no =",
		"=x":                          "line 1: no name of a variable before the =",
		"1A=x":                        "line 1: no name",
		"A B=x":                       "line 1: no name",
		"export =x\nexport -A=secret": "line 2: no name of a variable before the =: write letters",
		"A=---\nsecret+/x==\n": "line 2: no name of a variable before the =: write letters, digits and _ . -, " +
			"starting with a letter or _; a value of several lines needs quotes",
		"A=---\nsecret\n":               "line 2 has no =: write KEY=VALUE, # before a comment, or quotes around a value of several lines",
		"\n\nA='secret\nB=1\n":          "line 3: the value of A has no closing quote: add it",
		`A="secret\"`:                   "no closing quote",
		"A=\"x\"\"secret\"":             "line 1: the value of A continues after its closing quote in line 1",
		"B=1\r\nA='x\r\nC=\"it's\"\r\n": "line 2: the value of A continues after its closing quote in line 3: remove what follows, or quote the whole value",
		`A="x"#secret`:                  "continues after its closing quote",
		"A=1\rB=secret\r":               "line 1 holds a carriage return: save the file with LF or CR LF",
		"A='1'\r# c\rB=secret\r":        "line 1: the value of A continues after its closing quote in line 1",
		"A=1\rB=secret\n":               "line 1 holds a carriage return: save the file with LF or CR LF",
		"A=1\r\nB=2\rC=secret\r\n":      "line 2 holds a carriage return",
		"# c\rA=secret\nB=1\n":          "line 1 holds a carriage return",
		"A=\\\n1\rB=secret\n":           "line 1 holds a carriage return",
		"A=1\nB=x\x00secret":            "line 2 holds a NUL byte: save the file as UTF-8 text",
	} {
		got, _, err := credentials.ParseEnvFile(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want an error with %q", text, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error shows the value: %v", text, err)
		}
	}
}

// FuzzEnvFile checks that a file gives each name once, that neither error nor warnings are long or
// show a value, and that each value can be written in double quotes and, without a single quote, in
// single quotes, with the line ends of any system.
func FuzzEnvFile(f *testing.F) {
	f.Add("A=1\nB='2'\n", "K", "v")
	f.Add("A=\"\\\"\"", "_x", ` "\$`+"`'")
	f.Add("# c\r\n;\n", "a1", "\t\x80")
	f.Add("export A=one \\\r\n two # three\r\nB=\"1\n2\" # c\n", "export", "-----BEGIN\nx+/=\n-----END\n")
	f.Fuzz(func(t *testing.T, text, key, value string) {
		env, warnings, err := credentials.ParseEnvFile(text)
		seen := map[string]bool{}
		for _, kv := range env {
			k, _, _ := strings.Cut(kv, "=")
			if err != nil || seen[k] || k == "" || strings.ContainsAny(k, " \t\n\"'") || strings.Contains(kv, "\x00") {
				t.Errorf("%q gives %q, %v", text, env, err)
			}
			seen[k] = true
		}
		if err != nil {
			warnings = append(warnings, err.Error())
		}
		for _, line := range warnings {
			if !strings.HasPrefix(line, "line ") || strings.ContainsAny(line, "\r\n") {
				t.Errorf("%q: %q", text, line)
			}
		}
		if strings.Contains(value, "\x00") || strings.Contains(value, "\r\n") || key == "" || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_") != "" {
			return
		}
		want := []string{key + "=" + value}
		double := key + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + "\" # comment\n"
		files := []string{double, "export " + double, strings.ReplaceAll(double, "\n", "\r\n")}
		if !strings.Contains(value, "'") {
			files = append(files, key+"='"+value+"'")
		}
		for _, file := range files {
			got, warnings, err := credentials.ParseEnvFile(file)
			if err != nil || warnings != nil || !slices.Equal(got, want) {
				t.Errorf("%q is read as %q (%q, %v), want %q", file, got, warnings, err, want)
			}
		}
	})
}
