package world_test

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

	"gophd/internal/world"
)

func TestUmask(t *testing.T) {
	for s, want := range map[string]int{"0": 0, "022": 0o22, "22": 0o22, "0077": 0o77, "777": 0o777} {
		if got, err := world.ParseUmask(s); err != nil || got != want {
			t.Errorf("%q: %o, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "8", "1000", "-1", "0o22", "00022", "u=rwx", " 22", "+22"} {
		if got, err := world.ParseUmask(s); err == nil {
			t.Errorf("%q is taken as %o", s, got)
		}
	}
}

func TestRlimits(t *testing.T) {
	for s, want := range map[string]world.Rlimit{
		"nofile=1024":      {Name: "nofile", Soft: 1024, Hard: 1024},
		"nofile=1024:4096": {Name: "nofile", Soft: 1024, Hard: 4096},
		"core=unlimited":   {Name: "core", Soft: world.Unlimited, Hard: world.Unlimited},
		"core=0:unlimited": {Name: "core", Hard: world.Unlimited},
		"as=9223372036854775807:9223372036854775807": {Name: "as", Soft: 1<<63 - 1, Hard: 1<<63 - 1},
	} {
		got, err := world.ParseRlimit(s)
		got.Resource = 0
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for s, says := range map[string]string{
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
		"as=18446744073709551615": "not a limit", // -1, which the kernel takes as unlimited
	} {
		if got, err := world.ParseRlimit(s); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %+v, %v; want an error that says %q", s, got, err, says)
		}
	}
}

func FuzzRlimit(f *testing.F) {
	for _, s := range []string{"nofile=1:2", "core=unlimited", "as=:", "cpu=0:unlimited", "=", "stack=1=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := world.ParseRlimit(s)
		if err != nil {
			return
		}
		if r.Soft > r.Hard || !slices.Contains(world.ResourceNames(), r.Name) {
			t.Errorf("%q: %+v", s, r)
		}
		if again, err := world.ParseRlimit(r.String()); err != nil || again != r {
			t.Errorf("%q is %q, which is %+v (%v)", s, r, again, err)
		}
	})
}

func TestSignals(t *testing.T) {
	for s, want := range map[string]syscall.Signal{"TERM": 15, "SIGTERM": 15, "sigint": 2, "15": 15, "QUIT": 3, "KILL": 9, "40": 40} {
		if got, err := world.ParseSignal(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "65", "-1", "TERMINATE", "SIG", "STOP", "19", "CONT", "SIGSIGTERM", "TERM "} {
		if got, err := world.ParseSignal(s); err == nil {
			t.Errorf("%q is taken as %v", s, got)
		}
	}
}

func FuzzSignal(f *testing.F) {
	f.Add("TERM")
	f.Add("SIGusr1")
	f.Add("9")
	f.Fuzz(func(t *testing.T, s string) {
		sig, err := world.ParseSignal(s)
		if err != nil {
			return
		}
		again, err := world.ParseSignal(strconv.Itoa(int(sig)))
		if sig < 1 || sig > 64 || err != nil || again != sig {
			t.Errorf("%q is %d, which is %d (%v)", s, sig, again, err)
		}
	})
}

func TestParseUser(t *testing.T) {
	for s, want := range map[string][2]string{
		"www-data": {"www-data", ""}, "1000": {"1000", ""}, "a:b": {"a", "b"}, "0:0": {"0", "0"}, "4294967294": {"4294967294", ""},
	} {
		if u, g, err := world.ParseUser(s); err != nil || u != want[0] || g != want[1] {
			t.Errorf("%q: %q, %q, %v", s, u, g, err)
		}
	}
	for _, s := range []string{"", ":", "a:", ":b", "a:b:c", "a b", "a\n", "4294967295", "0:4294967295", "99999999999999999999", "../x"} {
		if u, g, err := world.ParseUser(s); err == nil {
			t.Errorf("%q is taken as %q, %q", s, u, g)
		}
	}
}

func FuzzParseUser(f *testing.F) {
	f.Add("root:root")
	f.Add("1:4294967295")
	f.Add(":")
	f.Fuzz(func(t *testing.T, s string) {
		u, g, err := world.ParseUser(s)
		if err != nil {
			return
		}
		whole := u
		if g != "" {
			whole += ":" + g
		}
		if whole != s || u == "" || strings.ContainsAny(s, "\n\x00/") {
			t.Errorf("%q is taken as %q, %q", s, u, g)
		}
	})
}

// id(1) asks the same database.
func id(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("id", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func groups(u world.User) []string {
	var s []string
	for _, g := range u.Groups {
		s = append(s, strconv.Itoa(g))
	}
	slices.Sort(s)
	return s
}

func TestT65GroupsAreThoseOfTheDatabase(t *testing.T) {
	raw, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 7 {
			continue
		}
		u, err := world.LookupUser(f[0])
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
		if u.Name != f[0] || u.UID != number(t, f[2]) || u.GID != number(t, f[3]) || u.Home != home || u.Shell != shell {
			t.Errorf("%s: got %+v", line, u)
		}
		if byID, err := world.LookupUser(f[2]); err != nil || byID.UID != u.UID {
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
	const free = "2999999999" // no system gives that id
	for spec, want := range map[string]world.User{
		"root:" + free:    {Name: "root", GID: 2999999999, Groups: []int{2999999999}, Home: "/root"},
		"0:0":             {Name: "root", Groups: []int{0}, Home: "/root"},
		free + ":" + free: {Name: free, UID: 2999999999, GID: 2999999999, Groups: []int{2999999999}, Home: "/", Shell: "/bin/sh"},
		free + ":0":       {Name: free, UID: 2999999999, Groups: []int{0}, Home: "/", Shell: "/bin/sh"},
	} {
		got, err := world.LookupUser(spec)
		if want.Shell == "" {
			got.Shell = ""
		}
		if d := diff.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got):\n%s", spec, err, d)
		}
	}
	for spec, says := range map[string]string{
		"no-such-user":       "there is no user no-such-user",
		"root:no-such-group": "there is no group no-such-group",
		free:                 "name its group too, like " + free + ":" + free,
		"root:":              "USER:GROUP",
	} {
		if got, err := world.LookupUser(spec); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %+v, %v; want an error that says %q", spec, got, err, says)
		}
	}
}

func TestT66EnvOfAUser(t *testing.T) {
	got := world.User{Name: "ann", UID: 7, Home: "/home/ann", Shell: "/bin/zsh"}.Env()
	if d := diff.Diff([]string{"HOME=/home/ann", "USER=ann", "LOGNAME=ann", "SHELL=/bin/zsh"}, got); d != "" {
		t.Error(d)
	}
}

func TestEnvFile(t *testing.T) {
	got, err := world.ParseEnvFile("# a comment\n; another\n\n \t\nA=1\r\nB = two words # not a comment \nC=\n" +
		`D='a "b" \ $HOME '` + "\n" + `E=" \"q\" \\ \$x \` + "`" + ` \n "` + "\n" + `F=it's` + "\nA=2\n  _g1=x=y\nH='' ")
	want := []string{"A=2", "B=two words # not a comment", "C=", `D=a "b" \ $HOME `, "E= \"q\" \\ $x ` \\n ", "F=it's", "_g1=x=y", "H="}
	if d := diff.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	for text, says := range map[string]string{
		"A=1\nB\n":        "line 2 has no =",
		"=x":              `"" is not the KEY`,
		"1A=x":            `line 1: "1A" is not the KEY`,
		"export A=x":      `"export A" is not the KEY`,
		"\n\nA='secret":   "line 3: the value of A has no closing quote",
		`A="secret\"`:     "no closing quote",
		`A="x" # comment`: "goes on after its closing quote",
		"A=x\x00secret":   "NUL byte",
	} {
		got, err := world.ParseEnvFile(text)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %q, %v; want an error that says %q", text, got, err, says)
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
		env, err := world.ParseEnvFile(text)
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
		// Any value that has no end of line in it can be written in double quotes.
		if strings.ContainsAny(value, "\n\x00") || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_") != "" || key == "" {
			return
		}
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value)
		got, err := world.ParseEnvFile(key + `="` + quoted + "\"\n")
		if err != nil || len(got) != 1 || got[0] != key+"="+value {
			t.Errorf("%q came back as %q (%v)", value, got, err)
		}
	})
}
