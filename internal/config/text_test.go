package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// TestTableOfKeysIsConsistent checks the assumptions of the package about every key.
func TestTableOfKeysIsConsistent(t *testing.T) {
	var flags, names []string
	for _, k := range keys() {
		t.Run(k.name, func(t *testing.T) {
			if slices.Contains(names, k.name) || k.flag != "" && slices.Contains(flags, k.flag) ||
				k.short != "" && slices.Contains(flags, k.short) {
				t.Error("name or flag is there twice")
			}
			names, flags = append(names, k.name), append(flags, k.flag, k.short)
			if k.help == "" || strings.Contains(k.help, "|") || k.example == "" || k.example == k.def {
				t.Errorf("help %q, example %q", k.help, k.example)
			}
			if k.flag != "" && k.kind != boolean && k.arg == "" {
				t.Error("its flag has no placeholder for the value")
			}
			for _, text := range []string{k.example, k.def} {
				l := newLoader(request(t))
				if l.read(k, given{text: text, subject: k.name}); len(l.problems) != 0 && text != "" {
					t.Error(l.problems[0])
				}
			}
			if (k.kind == number || k.kind == percent) && k.lo >= k.hi ||
				k.kind == mapping && (k.check == nil || k.arg == "") {
				t.Errorf("bounds %d and %d, check %v, word %q", k.lo, k.hi, k.check != nil, k.arg)
			}
			switch k.kind { // the other kinds have no value for "not set"
			case word, path, directory, command, mapping, codes, files, exclusions, octal, number:
			default:
				if k.def == "" {
					t.Error("no default")
				}
			}
		})
	}
}

func TestAddFlags(t *testing.T) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	AddFlags(fs)
	usage := fs.FlagUsages()
	for _, want := range []string{
		"-c, --config FILE ", "-i, --interval TIME ", "(default 5s)", "-d, --daemon   ", "-v, --verbose   ",
		"-p, --pid-file FILE ",
		"--no-run-at-start ", "do not run immediately", "--held-exit-code CODE ", "-n, --name NAME ", "--shell   ",
	} {
		if !strings.Contains(usage, want) {
			t.Errorf("%q is not in\n%s", want, usage)
		}
	}
	for _, bad := range []string{"(default false)", "(default true)", `[=true]`} {
		if strings.Contains(usage, bad) {
			t.Errorf("%q is in\n%s", bad, usage)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "5": 5 * time.Second, "0.2": 200 * time.Millisecond, ".5": 500 * time.Millisecond,
		"5.":    5 * time.Second,
		"200ms": 200 * time.Millisecond, "1h": time.Hour, "1h30m": 90 * time.Minute, "600": 10 * time.Minute, "0s": 0,
		"0.000000001": 1, "9223372036": 9223372036 * time.Second, "007": 7 * time.Second,
		"0.1": 100 * time.Millisecond, "0.3": 300 * time.Millisecond,
	} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"": "not a duration", "5x": "not a duration", "NaN": "not a duration", "Inf": "not a duration",
		"+Inf": "not a duration", "-Inf": "negative",
		"-5": "negative", "-1s": "negative", "-0": "negative", "+5": "not a duration",
		"+5s": "not a duration", "1e3": "not a duration",
		"0x10": "not a duration", "0x1p-2": "not a duration", "1_000": "not a duration",
		" 5": "not a duration", "5 ": "not a duration",
		"5,5": "not a duration", "1.2.3": "not a duration", ".": "not a duration", "s": "not a duration",
		"5 s": "not a duration", "٥": "not a duration",
		"9223372037": "too long", "1" + strings.Repeat("0", 400): "too long", "9999999h": "not a duration",
		"0.0000000001": "shorter", "0.1ns": "shorter",
		"5\n": "not a duration", "5\x00": "not a duration",
	} {
		if got, err := parseDuration(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: %v, %v; want %s", text, got, err, want)
		}
	}
}

// FuzzDuration checks that an accepted duration is never negative, and that plain numbers are
// seconds, as exactly as a duration can be.
func FuzzDuration(f *testing.F) {
	for _, seed := range []string{"5", "0.2", "1h", "-1", "NaN", "1e9", ".", "9223372036.854775807", "0x1", "1h1h"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDuration(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n") || d != 0 {
				t.Errorf("%q: %v, %v", text, d, err)
			}
			return
		}
		if d < 0 {
			t.Fatalf("%q is negative: %v", text, d)
		}
		if again, err := parseDuration(d.String()); err != nil || again != d {
			t.Errorf("%q is %v, and that is %v, %v", text, d, again, err)
		}
		if n, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(d.Seconds()-n) > 1e-9+n*1e-15 {
			t.Errorf("%q is %v", text, d)
		}
	})
}

func TestParseBool(t *testing.T) {
	for _, text := range []string{"true", "TRUE", "yes", "On", "1"} {
		if b, err := parseBool(text); err != nil || !b {
			t.Errorf("%s: %v, %v", text, b, err)
		}
	}
	for _, text := range []string{"false", "No", "off", "0"} {
		if b, err := parseBool(text); err != nil || b {
			t.Errorf("%s: %v, %v", text, b, err)
		}
	}
	for _, text := range []string{"", "2", "y", "t", "maybe", " true"} {
		if _, err := parseBool(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// TestRedactHidesOnlyPasswords checks that no password is shown, and that other text stays.
func TestRedactHidesOnlyPasswords(t *testing.T) {
	for text, want := range map[string]string{
		"redis://u:pw@h:1/0":           "redis://(hidden)@h:1/0",
		"https://token@h/":             "https://(hidden)@h/",
		"a://u:p@w/x@h b://v:q@g":      "a://(hidden)@h b://(hidden)@g",
		"http://h/?user=u&password=pw": "http://h/?user=u&password=(hidden)",
		"http://h/?api_key=pw&x=1":     "http://h/?api_key=(hidden)&x=1",
		"curl --token=pw http://h":     "curl --token=(hidden) http://h",
		"host=h PASSWORD='p w' x=1":    "host=h PASSWORD=(hidden) x=1",
		"https://h:80/@user":           "https://(hidden)@user", // too much rather than too little
		"https://h/@user":              "https://h/@user",

		`["curl","-u","u:pw","https://h"]`:                   `["curl","-u","(hidden)","https://h"]`,
		`["curl","-u","u:p w \" x","https://h"]`:             `["curl","-u","(hidden)","https://h"]`,
		`curl -u "u:p w" 'h:80'`:                             `curl -u "(hidden)" 'h:80'`,
		`["sort","-u","a b","c:d"]`:                          `["sort","-u","a b","c:d"]`,
		`["sh","-c","curl -u 'u:p w' h"]`:                    `["sh","-c","curl -u '(hidden)' h"]`,
		`curl -u u:p@w https://h`:                            `curl -u (hidden) https://h`,
		`curl -uu:pw --proxy-user=u:pw h`:                    `curl -u(hidden) --proxy-user=(hidden) h`,
		`["curl","-H","Authorization: Basic cHc=","h"]`:      `["curl","-H","Authorization: (hidden)","h"]`,
		`curl -H 'X-Api-Key: pw' -H "Cookie: a=pw; b=pw" h`:  `curl -H 'X-Api-Key: (hidden)' -H "Cookie: (hidden)" h`,
		`curl -H PRIVATE-TOKEN:pw`:                           `curl -H PRIVATE-TOKEN:(hidden)`,
		`Bearer pw`:                                          `Bearer (hidden)`,
		`["x","--password","pw","--db-password","pw","-v"]`:  `["x","--password",(hidden),"--db-password",(hidden),"-v"]`,
		`x --token pw --api-key pw -secret pw --password -v`: `x --token (hidden) --api-key (hidden) -secret (hidden) --password -v`,
		`curl -sSfu u:pw h`:                                  `curl -sSfu (hidden) h`,
		`curl -U u:pw --oauth2-bearer pw h`:                  `curl -U (hidden) --oauth2-bearer (hidden) h`,
		`x --pass pw --secret-key pw --auth pw`:              `x --pass (hidden) --secret-key (hidden) --auth (hidden)`,
		`x --db-password 'p w' -v`:                           `x --db-password (hidden) -v`,
		`password = pw PRIVATE=pw`:                           `password = (hidden) PRIVATE=(hidden)`,
		`{"password": "pw"}`:                                 `{"password": "(hidden)"}`,
		`curl -H 'X-Auth: pw' -H 'Basic pw'`:                 `curl -H 'X-Auth: (hidden)' -H 'Basic (hidden)'`,
		`COOKIE=pw SESSION_JWT=pw`:                           `COOKIE=(hidden) SESSION_JWT=(hidden)`,
		`["sh","-c","PGPASSWORD=\"p w\" pg_dump db"]`:        `["sh","-c","PGPASSWORD=(hidden) pg_dump db"]`,
		`["curl","--header","Authorization","Bearer","pw"]`:  `["curl","--header","Authorization","Bearer","(hidden)"]`,
		`["curl","-d","{\"password\":\"pw\"}"]`:              `["curl","-d","{\"password\":\"(hidden)\"}"]`,
		`["sh","-c","x --password \"p w\" <in && y"]`:        `["sh","-c","x --password (hidden) <in && y"]`,
		`["sudo","-u","www-data","php","x.php"]`:             `["sudo","-u","www-data","php","x.php"]`,
		`["docker","run","--user","app","img:1"]`:            `["docker","run","--user","app","img:1"]`,
		`wget -qO- http://h:80/key`:                          `wget -qO- http://h:80/key`,
		`rsync -e ssh key:/srv /srv`:                         `rsync -e ssh key:/srv /srv`,
		"me@example.org":                                     "me@example.org",
		"/var/log/x.log":                                     "/var/log/x.log",
	} {
		if got := redact(text); got != want {
			t.Errorf("%s becomes %s, want %s", text, got, want)
		}
	}
	for _, key := range []string{"db.password", "db.Passwd", "a.api_key", "a.apiKey", "a.token", "a.tokens", "a.auth", "sentry.dsn", "a.db_dsn", "a.secret_base",
		"secrets.x", "credentials.user", "a.key2", "a.pass", "a.pwd", "a.passphrase", "a.COOKIE",
		"a.session_cookie", "a.JWT", "a.jwt_hs256", "a.PRIVATE",
		"a.private_pem", "a.authorization", "a.bearer", "a.github_pat", "a.ssl_key_pem", "a.webhook_signature"} {
		if !looksSecret(key) {
			t.Errorf("%s does not look secret", key)
		}
	}
	for _, key := range []string{"db.host", "db.user", "keys.x", "a.keyboard", "a.author", "a.path", "tokens.count"} {
		if looksSecret(key) {
			t.Errorf("%s looks secret", key)
		}
	}
	if got := visible("x\ny" + strings.Repeat("é", 200)); strings.Contains(got, "\n") || len(got) > 200 {
		t.Errorf("shown as %s", got)
	}
}

// TestStarterIsValid checks that the starter file is accepted as it is, and with every setting
// uncommented, except for a schedule, which excludes the interval.
func TestStarterIsValid(t *testing.T) {
	for _, format := range []string{"yaml", "toml", "ini", "json"} {
		data, err := Starter(format)
		if err != nil {
			t.Fatal(err)
		}
		r := request(t)
		r.NeedCommand = true
		r.Command = []string{"./job.sh"}
		r.Env = []string{"GOPHD_CONFIG=" + write(t, r.Dir+"/a."+format, string(data))}
		plain := load(t, r)
		for _, v := range plain.Values() {
			if want := v.Key == restartKey; want != strings.Contains(v.Source, "/a."+format+":") && v.Key != "job.command" {
				t.Errorf("%s: %+v", format, v)
			}
		}
		if format == "json" {
			continue
		}
		comment := styles[format].comment
		var uncommented []string
		for line := range strings.Lines(string(data)) {
			indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
			text, commented := strings.CutPrefix(line[len(indent):], comment+" ")
			name, _, _ := strings.Cut(strings.TrimSpace(text), strings.TrimRight(styles[format].equals, " "))
			setting := slices.ContainsFunc(keys(),
				func(k key) bool { return strings.HasSuffix(k.name, "."+strings.TrimSpace(name)) })
			example := setting || strings.Contains(text, "database") || strings.Contains(text, "db1")
			calendar := name == "schedule" || name == "timezone"
			if commented && example && !calendar && !strings.Contains(text, "GOPHD_") && !strings.Contains(text, "report") {
				line = indent + text
			}
			uncommented = append(uncommented, line)
		}
		r.Command = nil
		r.Env = []string{"GOPHD_CONFIG=" + write(t, r.Dir+"/b."+format, strings.Join(uncommented, ""))}
		c := load(t, r)
		table := newLoader(r).table
		for _, v := range c.Values() {
			if !strings.Contains(v.Source, "/b."+format+":") && !table[v.Key].advanced && v.Key != "job.schedule" && v.Key != "job.timezone" {
				t.Errorf("%s: not read from the file: %+v", format, v)
			}
		}
		for i, line := range uncommented {
			name, _, _ := strings.Cut(strings.TrimLeft(line, comment+" "), strings.TrimRight(styles[format].equals, " "))
			switch strings.TrimSpace(name) {
			case "schedule", "timezone":
				uncommented[i] = strings.Replace(line, comment+" ", "", 1)
			case "interval", "run_at_start":
				uncommented[i] = ""
			}
		}
		write(t, r.Dir+"/b."+format, strings.Join(uncommented, ""))
		if got := load(t, r).Jobs[0].Cadence(); got != "on 17 3 * * 1-5 Europe/Berlin" {
			t.Errorf("%s: with a schedule it runs %s", format, got)
		}
		if lines := strings.Count(string(data), "\n"); lines > 110 {
			t.Errorf("%s: %d lines are too many for a starter file", format, lines)
		}
		if !slices.Equal(c.Jobs[0].Env, []string{"GOPHD_DATABASE_HOST=db1", "TZ=UTC"}) {
			t.Errorf("%s: environment %q", format, c.Jobs[0].Env)
		}
	}
	const want = "format xml: not a config file format; choose yaml, toml, ini or json"
	if _, err := Starter("xml"); err == nil || fmt.Sprint(err) != want {
		t.Error(err)
	}
}
