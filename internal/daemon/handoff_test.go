package daemon

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"gophd/internal/restart"
)

// decodeState rejects an unknown shape, and then the runs are stopped. So a change of a field needs
// another restart.Version, with which the check before a re-exec rejects the other program.
func TestHandoffShapeMatchesItsVersion(t *testing.T) {
	const (
		version = 10
		run     = "Run {Number uint64; Due Time; Slot int; Attempt int; Request {ID uint64; Args string}; Trigger string}; "
		pipes   = "{Job string; PID int; Number int; Rest uint8; Since int64; Written {Bytes int; Start uint8}; File string}"
		lease   = "{id string; key string; pid int; boot string; held bool; unproven bool; fence uint64; " +
			"deadline int64; started Time; seq uint64; op string; takes bool; longest int64; claim {ops string; since int64; acked int64}}"
		want = "{PIDFile string; Log {File string; Format string; Losses {Lines uint64; Untold uint64; Why string}; " +
			"Jobs {Lines uint64; Untold uint64; Why string}; Left {Job string; Echo bool; Service bool; Lines uint64; Midway bool}; Records int}; Errors string; " +
			"Board {counts {runs uint64; failures uint64; late uint64; missed uint64}; " +
			"lengths {runs uint16; sum int64; min int64; max int64}; " +
			"last {run uint64; outcome string; exit_code int; started Time; ended Time; length int64; text string}}; " +
			"History {pending string; lost uint64; started int64}; " +
			"Lease {Leftover bool; Local " + lease + "; Shared " + lease + "}; " +
			"Leases {Leftover bool; Local " + lease + "; Shared " + lease + "}; " +
			"Jobs {Name string; ID string; Added int64; Grid {Runs uint64; Anchor int64; Tick uint64; Interval int64; Calendar {}; Last Time}; " +
			"Runs {" + run + "Started int64; Ended int64; Missed uint64; Late int64; LateGap int64; PID int; Birth uint64; Cgroup string; " +
			"Pipes " + pipes + "; " +
			"Kept uint8; Tail uint8; Limit int64; Status string; Timeout int64; Grace int64; Signals int; " +
			"Stop {Cause string; Asked int64; Signals int; Sent int; Grace int64; Next int64; Kill int64}; " +
			"Escaped int}; " +
			"Requested {ID uint64; Args string}; Wait {" + run + "Until int64; Slowed int64}; " +
			"Steered {paused bool; skip int; stopped bool}; Boot string; Fence uint64; Failures int64; Notify string; " +
			"GaveUp string; Panicked int64; Over bool; Failed string; Removed uint8}; Escaped " + pipes + "; Reported int; API {path string; file {device uint64; inode uint64}}; Events {next uint64; bytes int}}"
	)
	if got := shape(reflect.TypeFor[handedState]()); got != want || restart.Version != version {
		t.Errorf("version %d has the shape\n%s\nwant that of version %d:\n%s", restart.Version, got, version, want)
	}
}

// shape lists the fields that are handed off, by their names in JSON, and their types, without
// those of packages time and reflect.
func shape(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return shape(t.Elem())
	case reflect.Struct:
		if t.PkgPath() == "time" {
			return t.Name()
		}
	default:
		return t.Kind().String()
	}
	var fields []string
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && f.Tag.Get("json") != "-" {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields = append(fields, fmt.Sprintf("%s %s", cmp.Or(name, f.Name), shape(f.Type)))
		}
	}
	return "{" + strings.Join(fields, "; ") + "}"
}
