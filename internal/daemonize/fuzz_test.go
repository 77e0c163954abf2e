package daemonize

import (
	"encoding/json"
	"testing"
)

// FuzzParse checks that parse accepts only a complete report with a code, and that a report is read
// as it was written.
func FuzzParse(f *testing.F) {
	for _, s := range []string{``, `{}`, `{"Code":0}`, `{"Code":null}`, `{"Code":256,"Text":"x"}`,
		`{"Code":0,"Code":null}`, `{"Code":2,"Text":"\ud800"}x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parse(data)
		if err != nil {
			return
		}
		if r.Code < 0 || r.Code > 255 || r.Stderr != "" {
			t.Errorf("%q is accepted as %+v", data, r)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := parse(again); err != nil || same != r {
			t.Errorf("%+v is read back as %+v, %v", r, same, err)
		}
		if _, err := parse(data[:len(data)-1]); err == nil && data[len(data)-1] == '}' {
			t.Errorf("%q is accepted without its last byte", data)
		}
	})
}
