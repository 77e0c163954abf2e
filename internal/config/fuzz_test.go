package config

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
		if err != nil {
			f.Fatal(err)
		}
		for i, format := range formats {
			if filepath.Ext(file) == "."+format {
				f.Add(uint8(i), data)
			}
		}
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
		c.Warnings = slices.DeleteFunc(c.Warnings, func(text string) bool {
			return strings.Contains(text, ": the value goes up to the end of the line, ") // of INI only
		})
		if len(c.Warnings) == 0 {
			c.Warnings = nil
		}
		for i := range c.values {
			c.values[i].Source, second.values[i].Source = "", ""
		}
		if diff := cmp.Diff(c, second, cmp.AllowUnexported(Config{})); diff != "" {
			t.Error(diff)
		}
	})
}

// rewritten returns a JSON file with all settings that are not defaults, in the order of Values.
func rewritten(t *testing.T, c *Config) string {
	var pairs []string
	for _, v := range c.Values() {
		text, ok := c.Get(v.Key)
		if !ok {
			t.Errorf("Get does not return %s", v.Key)
		}
		if v.Source == "default" {
			continue
		}
		var value any = text
		if argv := c.Jobs[0].Command; v.Key == "job.command" && (len(argv) != 3 || argv[2] != text) {
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
