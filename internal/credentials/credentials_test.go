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
		"nofiles=1":               "choose from as, core, cpu",
		"NOFILE=1":                "not known",
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
		if got, err := credentials.ParseSignal(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "65", "-1", "TERMINATE", "SIG", "STOP", "19", "CONT", "SIGSIGTERM", "TERM "} {
		if got, err := credentials.ParseSignal(s); err == nil {
			t.Errorf("%q is read as %v", s, got)
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
	got, err := credentials.ParseEnvFile("# a comment\n; another\n\n \t\nA=1\r\nB = two words # not a comment \nC=\n" +
		`D='a "b" \ $HOME '` + "\n" + `E=" \"q\" \\ \$x \` + "`" + ` \n "` + "\n" +
		`F=it's` + "\nA=2\n  _g1=x=y\nH='' ")
	want := []string{
		"A=2", "B=two words # not a comment", "C=", `D=a "b" \ $HOME `, "E= \"q\" \\ $x ` \\n ", "F=it's", "_g1=x=y", "H=",
	}
	if d := diff.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	for text, want := range map[string]string{
		"A=1\nB\n":        "line 2 has no =",
		"=x":              `"" is not the KEY`,
		"1A=x":            `line 1: "1A" is not the KEY`,
		"export A=x":      `"export A" is not the KEY`,
		"\n\nA='secret":   "line 3: the value of A has no closing quote",
		`A="secret\"`:     "no closing quote",
		`A="x" # comment`: "continues after its closing quote",
		"A=x\x00secret":   "NUL byte",
	} {
		got, err := credentials.ParseEnvFile(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want an error with %q", text, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error shows the value: %v", text, err)
		}
	}
}

func FuzzEnvFile(f *testing.F) {
	f.Add("A=1\nB='2'\n", "K", "v")
	f.Add("A=\"\\\"\"", "_x", ` "\$`+"`'")
	f.Add("# c\r\n;\n", "a1", "\t\x80")
	f.Fuzz(func(t *testing.T, text, key, value string) {
		env, err := credentials.ParseEnvFile(text)
		if err == nil {
			seen := map[string]bool{}
			for _, kv := range env {
				k, _, _ := strings.Cut(kv, "=")
				if k == "" || seen[k] || strings.ContainsAny(k, " \t\"'") || strings.ContainsAny(kv, "\n\x00") {
					t.Errorf("%q gives %q", text, env)
				}
				seen[k] = true
			}
		}
		// Any value without an end of line can be written in double quotes.
		if strings.ContainsAny(value, "\n\x00") || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_") != "" || key == "" {
			return
		}
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value)
		got, err := credentials.ParseEnvFile(key + `="` + quoted + "\"\n")
		if err != nil || len(got) != 1 || got[0] != key+"="+value {
			t.Errorf("%q was read back as %q (%v)", value, got, err)
		}
	})
}
