package misspelled

import "testing"

func TestNearest(t *testing.T) {
	sections := []string{"config", "job", "heartbeat", "log", "restart"}
	for text, want := range map[string]string{
		"heartbaet": "heartbeat", "heatbeat": "heartbeat", "hartbeats": "heartbeat", "confg": "config",
		"Config": "config", "conf": "config",
		"jobb": "job", "jo": "job", "JOB": "job", "logs": "log", "lgo": "log", "restarts": "restart",
		"restrat": "restart",
		"db":      "", "web": "", "smtp": "", "blog": "", "bob": "", "database": "", "app": "", "lock": "",
		"cfg": "", "": "", "é": "", "heart": "",
	} {
		if got := Nearest(text, sections); got != want {
			t.Errorf("%q is near %q, want %q", text, got, want)
		}
	}
}
