package api

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"gophd/internal/history"
	"gophd/internal/job"
	"gophd/internal/schedule"
	"gophd/internal/status"
)

// document is docs/openapi.yaml.
type document struct {
	Paths      map[string]map[string]yaml.Node `yaml:"paths"`
	Components struct {
		Responses map[string]response `yaml:"responses"`
		Schemas   map[string]schema   `yaml:"schemas"`
	} `yaml:"components"`
}

type operation struct {
	Responses map[string]response `yaml:"responses"`
}

type response struct {
	Ref     string `yaml:"$ref"`
	Content map[string]struct {
		Schema schema `yaml:"schema"`
	} `yaml:"content"`
}

type schema struct {
	Ref        string            `yaml:"$ref"`
	Type       string            `yaml:"type"`
	Format     string            `yaml:"format"`
	Enum       []string          `yaml:"enum"`
	Required   []string          `yaml:"required"`
	Properties map[string]schema `yaml:"properties"`
	Additional bool              `yaml:"additionalProperties"`
	Items      *schema           `yaml:"items"`
	AllOf      []schema          `yaml:"allOf"`
}

func openAPI(t *testing.T) (d document) {
	t.Helper()
	text, err := os.ReadFile("../../docs/openapi.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func last(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// resolve returns the schema behind references, with those of allOf together.
func (d document) resolve(s schema) schema {
	if s.Ref != "" {
		return d.resolve(d.Components.Schemas[last(s.Ref)])
	}
	for _, part := range s.AllOf {
		part = d.resolve(part)
		s.Type, s.Required = part.Type, append(s.Required, part.Required...)
		if s.Properties == nil {
			s.Properties = map[string]schema{}
		}
		for name, p := range part.Properties {
			s.Properties[name] = p
		}
	}
	return s
}

// check returns how a value differs from its schema.
func (d document) check(s schema, v any, at string) (wrong []string) {
	s = d.resolve(s)
	bad := func(format string, args ...any) { wrong = append(wrong, at+": "+fmt.Sprintf(format, args...)) }
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if p, ok := s.Properties[name]; ok {
				wrong = append(wrong, d.check(p, value, at+"."+name)...)
			} else if !s.Additional {
				bad("the field %s is not in the schema", name)
			}
		}
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				bad("the field %s is missing", name)
			}
		}
		if s.Type != "object" {
			bad("an object, and not %s", s.Type)
		}
	case []any:
		if s.Items == nil {
			bad("a list, and not %s", s.Type)
			return wrong
		}
		for i, item := range v {
			wrong = append(wrong, d.check(*s.Items, item, at+"["+strconv.Itoa(i)+"]")...)
		}
	case string:
		_, err := time.Parse(time.RFC3339Nano, v)
		if s.Type != "string" || s.Format == "date-time" && err != nil || s.Enum != nil && !slices.Contains(s.Enum, v) {
			bad("%q is not a %s %s %v", v, s.Type, s.Format, s.Enum)
		}
	case json.Number:
		_, err := v.Int64()
		if s.Type != "number" && (s.Type != "integer" || err != nil) {
			bad("%s is not of type %s", v, s.Type)
		}
	case bool:
		if s.Type != "boolean" {
			bad("%v is not of type %s", v, s.Type)
		}
	default:
		bad("%v", v)
	}
	return wrong
}

// response returns the description of an answer.
func (d document) response(t *testing.T, method, path string, code int) response {
	t.Helper()
	var o operation
	node := d.Paths[path][strings.ToLower(method)]
	if err := node.Decode(&o); err != nil {
		t.Fatal(err)
	}
	r, ok := o.Responses[strconv.Itoa(code)]
	if !ok {
		t.Errorf("%s %s answers %d, which openapi.yaml does not have", method, path, code)
	}
	if r.Ref != "" {
		r = d.Components.Responses[last(r.Ref)]
	}
	return r
}

func TestOpenAPIHasEachPath(t *testing.T) {
	var got, want []string
	for path, operations := range openAPI(t).Paths {
		for method := range operations {
			if method != "parameters" {
				got = append(got, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for _, r := range routes {
		want = append(want, r.method+" "+r.path)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("openapi.yaml has\n%q, the handlers\n%q", got, want)
	}
}

// Each field of a shape is in its schema, and required unless it may be omitted; and no other.
func TestOpenAPIHasEachField(t *testing.T) {
	d := openAPI(t)
	for _, shape := range []any{Status{}, Job{}, ListedJob{}, Run{}, Suspended{}, Last{}, Lengths{}, Lease{}, Failure{}, Done{}, Order{},
		Reload{}, Plan{}, PlannedJob{}, Setting{}, NextRuns{}, NextRun{}, history.Run{}} {
		of := reflect.TypeOf(shape)
		name := of.Name()
		if of == reflect.TypeFor[history.Run]() {
			name = "PastRun"
		}
		s := d.resolve(d.Components.Schemas[name])
		var fields, required []string
		for _, f := range reflect.VisibleFields(of) {
			if f.Anonymous {
				continue
			}
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields = append(fields, name)
			if options == "" {
				required = append(required, name)
			}
		}
		var has []string
		for name := range s.Properties {
			has = append(has, name)
		}
		for _, list := range [][]string{fields, required, has, s.Required} {
			slices.Sort(list)
		}
		if !slices.Equal(fields, has) || !slices.Equal(required, s.Required) {
			t.Errorf("%s has the fields %v and requires %v; in openapi.yaml %v and %v", of.Name(), fields, required, has, s.Required)
		}
	}
}

// timed returns what decides when a job with that schedule runs.
func timed(name, text string) job.Timed {
	calendar, err := schedule.Parse(text, schedule.Options{})
	if err != nil {
		panic(err)
	}
	return job.Timed{Name: name, Calendar: &calendar}
}

// full is a Snapshot in which each field applies.
func full() status.Snapshot {
	at, code := time.Date(2026, 11, 27, 3, 17, 0, 0, time.UTC), 3
	s := nightly()
	s.Config, s.Log.File, s.Born = "/etc/gophd/jobs.yaml", "/var/log/gophd/jobs.log", at
	s.Jobs[0] = status.Job{Name: "nightly", State: job.Running, Schedule: "every 1h", Every: time.Hour, Next: at, Skip: 2,
		LogPending: true, Active: []status.ActiveRun{{Run: job.Run{Number: 8}, PID: 901, Since: at,
			Suspended: status.Suspended{PID: 902, Name: "sleep", By: syscall.SIGSTOP}}},
		Last:    &status.Last{Run: 7, Outcome: job.EndingFailure, ExitCode: &code, Started: at, Ended: at, Length: 7 * time.Millisecond},
		Lengths: status.Lengths{Of: 7, P50: time.Second}, Lease: status.Lease{Store: "file:", State: "held", Fence: 1, Holder: "this instance"}}
	s.Jobs = append(s.Jobs, status.Job{Name: "dead", State: job.Done, Failed: "giving up", Held: "paused"}, status.Job{Name: "new"},
		status.Job{Name: "daily", Timed: timed("daily", "@daily"), Skip: 1}, status.Job{Name: "boot", Timed: timed("boot", "@reboot")})
	return s
}

func TestAnswersAreThoseOfOpenAPI(t *testing.T) {
	d := openAPI(t)
	events := NewEvents(SavedEvents{})
	publish(events, 1, 3)
	dir := t.TempDir()
	writeLog(t, filepath.Join(dir, "x.log"))
	writeRuns(t, Record{StateDir: dir}.History("nightly.nightly"))
	path := listenTo(t, newServer(t, dir, func(o *Options) {
		o.Daemon, o.Events, o.Record.StateDir = daemon{full}, events, dir
		o.Record.Logs = Logs{Log: filepath.Join(dir, "x.log"), Many: true, Jobs: []JobLogs{{Name: "nightly"}, {Name: "dead", Log: "syslog:"}}}
	}))
	seen := map[string]bool{}
	for _, tt := range []struct{ method, path, at, body string }{
		{"GET", "/v1/status", "/v1/status", ""},
		{"GET", "/v1/jobs", "/v1/jobs", ""},
		{"GET", "/v1/jobs/{name}", "/v1/jobs/nightly", ""},
		{"GET", "/v1/jobs/{name}", "/v1/jobs/other", ""},
		{"GET", "/v1/jobs/{name}/logs", "/v1/jobs/nightly/logs", ""},
		{"GET", "/v1/jobs/{name}/logs", "/v1/jobs/nightly/logs?run=8", ""},
		{"GET", "/v1/jobs/{name}/logs", "/v1/jobs/nightly/logs?run=9", ""},
		{"GET", "/v1/jobs/{name}/logs", "/v1/jobs/nightly/logs?lines=-1", ""},
		{"GET", "/v1/jobs/{name}/logs", "/v1/jobs/dead/logs", ""},
		{"GET", "/v1/jobs/{name}/logs", "/v1/jobs/other/logs", ""},
		{"GET", "/v1/jobs/{name}/runs", "/v1/jobs/nightly/runs", ""},
		{"GET", "/v1/jobs/{name}/runs", "/v1/jobs/nightly/runs?count=x", ""},
		{"GET", "/v1/jobs/{name}/runs", "/v1/jobs/dead/runs", ""},
		{"GET", "/v1/jobs/{name}/runs", "/v1/jobs/other/runs", ""},
		{"GET", "/v1/next", "/v1/next", ""},
		{"GET", "/v1/next", "/v1/next?job=daily&after=2026-12-24T18:00:00.5Z&count=1", ""},
		{"GET", "/v1/next", "/v1/next?job=other", ""},
		{"GET", "/v1/next", "/v1/next?job=nightly", ""},
		{"GET", "/v1/next", "/v1/next?after=soon", ""},
		{"GET", "/v1/next", "/v1/next?after=9999-12-30T12:00:00Z", ""},
		{"GET", "/v1/next", "/v1/next?after=0000-01-01T00:00:00Z", ""},
		{"GET", "/v1/next", "/v1/next?count=1001", ""},
		{"GET", "/v1/events", "/v1/events", ""},
		{"GET", "/v1/events", "/v1/events?after=1", ""},
		{"GET", "/v1/events", "/v1/events?after=x", ""},
		{"POST", "/v1/jobs/{name}/{verb}", "/v1/jobs/nightly/start", ""},
		{"POST", "/v1/jobs/{name}/{verb}", "/v1/jobs/nightly/pause", ""},
		{"POST", "/v1/jobs/{name}/{verb}", "/v1/jobs/other/pause", ""},
		{"POST", "/v1/jobs/{name}/{verb}", "/v1/jobs/nightly/pause", "x"},
		{"POST", "/v1/stop", "/v1/stop", ""},
		{"POST", "/v1/reload", "/v1/reload", "{}"},
		{"POST", "/v1/reload", "/v1/reload", `{"plan":true}`},
		{"POST", "/v1/reload", "/v1/reload", `{"plan":1}`},
		{"POST", "/v1/reload", "/v1/reload", strings.Repeat(" ", maxBody+1)},
	} {
		code, kind, body := fetch(t, path, tt.method, tt.at, tt.body)
		seen[tt.method+" "+tt.path] = true
		content, ok := d.response(t, tt.method, tt.path, code).Content[kind]
		if !ok {
			t.Errorf("%s %s: an answer of type %s", tt.method, tt.at, kind)
		}
		for line := range strings.Lines(body) {
			v := json.NewDecoder(strings.NewReader(line))
			v.UseNumber()
			var value any
			if err := v.Decode(&value); err != nil {
				t.Errorf("%s %s: %v: %s", tt.method, tt.at, err, line)
			}
			for _, wrong := range d.check(content.Schema, value, "answer") {
				t.Errorf("%s %s: %s", tt.method, tt.at, wrong)
			}
		}
	}
	for _, r := range routes {
		if !seen[r.method+" "+r.path] {
			t.Errorf("%s %s was not asked", r.method, r.path)
		}
	}
}

// The page for people names each path too.
func TestDocHasEachPath(t *testing.T) {
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	page := regexp.MustCompile(`\bNAME\b`).ReplaceAllString(string(text), "{name}")
	for _, r := range routes {
		if path := strings.ReplaceAll(r.path, "{verb}", "start"); !strings.Contains(page, "`"+r.method+" "+path) {
			t.Errorf("docs/api.md does not have %s %s", r.method, path)
		}
	}
}
