package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	store "gophd/internal/heartbeat/memcached"
)

// FuzzLoad checks that no file makes Load panic, that errors are short lines, and that an accepted
// config is the same when it is written again from Get and Values.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("../../testdata/config/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, syscall.EISDIR) {
			continue
		}
		if err != nil {
			f.Fatal(err)
		}
		for i, format := range formats {
			if filepath.Ext(file) == "."+format {
				f.Add(uint8(i), data)
			}
		}
	}
	for _, text := range []string{"include: jobs.d/more.yaml", "include: [jobs.d/m*.yaml, jobs.d/self.yaml]",
		"include: jobs.d/*.yaml\njobs: {more: {}}", "job: {once: yes, env: [A=1]}\njobs: {a: {interval: 3, env.A: 2}, b: {}}"} {
		f.Add(uint8(0), []byte(minimal+text))
	}
	for i, format := range []string{"yaml", "yaml", "toml", "json", "ini"} {
		data, err := Starter(format)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), data)
	}
	f.Fuzz(func(t *testing.T, n uint8, data []byte) {
		r := request(t)
		r.Dir = t.TempDir()
		write(t, filepath.Join(r.Dir, "jobs.d/more.yaml"), "jobs: {more: {command: [x], env: {A: b}}}\nmore: {key: x}\n")
		write(t, filepath.Join(r.Dir, "jobs.d/self.yaml"), "include: [../jobs.d/*]\n")
		path := filepath.Join(r.Dir, "x."+formats[int(n)%len(formats)])
		write(t, path, string(data))
		r.Env = []string{configVariable + "=" + path}
		c, err := Load(r)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if len(line) > 1000 || line == "" {
					t.Errorf("error line %q", line)
				}
			}
			return
		}
		again := write(t, filepath.Join(r.Dir, "x.json"), rewritten(t, c))
		r.Env = []string{configVariable + "=" + again}
		second, err := Load(r)
		if err != nil {
			t.Fatalf("written again: %v", err)
		}
		second.File, c.File = "", ""
		second.Files, c.Files = nil, nil
		c.Warnings = slices.DeleteFunc(c.Warnings, func(text string) bool {
			return strings.Contains(text, ": the value goes up to the end of the line, ") // of INI only
		})
		if len(c.Warnings) == 0 {
			c.Warnings = nil
		}
		for _, c := range []*Config{c, second} {
			for _, values := range append(c.entries.values, c.values) {
				for i := range values {
					values[i].Source = ""
				}
			}
		}
		if diff := cmp.Diff(c, second, cmp.AllowUnexported(Config{}, texts{}, entries{})); diff != "" {
			t.Error(diff)
		}
	})
}

// rewritten returns a JSON file with all settings that are not defaults, in the order of Values.
func rewritten(t *testing.T, c *Config) string {
	var pairs []string
	commands := map[string][]string{"job.command": c.Jobs[0].Command}
	if c.Many {
		commands["job.command"] = nil
		for _, s := range c.Jobs {
			pairs = append(pairs, fmt.Sprintf(`"jobs.%s": {}`, s.Name))
			commands["jobs."+s.Name+".command"] = s.Command
		}
	}
	for _, v := range c.Values() {
		text, ok := c.Get(v.Key)
		if !ok {
			t.Errorf("Get does not return %s", v.Key)
		}
		if v.Source == "default" {
			continue
		}
		var value any = text
		if argv := commands[v.Key]; argv != nil && (len(argv) != 3 || argv[2] != text) {
			value = argv
		}
		pair, err := json.Marshal(map[string]any{v.Key: value})
		if err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, string(pair[1:len(pair)-1]))
	}
	return "{" + strings.Join(pairs, ",\n") + "}"
}

// FuzzMemcachedAddress checks that every URL that config accepts is one that the store accepts too,
// and that its parts are those of the URL.
func FuzzMemcachedAddress(f *testing.F) {
	for _, seed := range []string{"db1", "10.0.0.5:11211", "[::1]", "[fe80::1%25eth0]:7", "::1", "[", "]:", "a:b:c", "a@b",
		"10.0.0", "x..y", "[::1%\x00]", "1.2.3.4:0", "/run/m.sock", "/run/../m", "//m", "/", "/run/m,n", "/" + strings.Repeat("m", 107)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		url := "memcached://" + rest
		if checkURL(url) != nil {
			return
		}
		address, err := MemcachedAddress(url)
		if err != nil {
			t.Fatalf("%q: accepted, and then %v", url, err)
		}
		host, port, err := net.SplitHostPort(address)
		if strings.HasPrefix(rest, "/") {
			if address != rest {
				t.Errorf("socket %q becomes %q", rest, address)
			}
		} else if err != nil || !strings.Contains(strings.ReplaceAll(rest, "%25", "%"), host) ||
			port != "11211" && !strings.HasSuffix(rest, ":"+port) {
			t.Errorf("%q becomes %q (%v)", rest, address, err)
		}
		if _, err := store.Open(address, "", time.Second); err != nil {
			t.Errorf("%q: config accepts it, the store does not: %v", url, err)
		}
	})
}

// FuzzExclusions checks that exclusions that are accepted are the same when they are read as they are shown.
func FuzzExclusions(f *testing.F) {
	for _, seed := range []string{"12-24,2027-05-17", "* * 1,15 * *; 12-24", "12-24 , ./a b", "./a b,12-24", "/a;* * * * *", "12-24..12-26;",
		"0 * * * * fri#2;~/x", "\t* * * * *\t;../x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		items, err := parseExclusions(text)
		if err != nil {
			return
		}
		again, err := parseExclusions(joinExclusions(items))
		if err != nil || !slices.Equal(again, items) {
			t.Errorf("%q is %q, and shown %q it is %q: %v", text, items, joinExclusions(items), again, err)
		}
	})
}
