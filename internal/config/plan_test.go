package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlanOfAConfigThatCannotBeRead(t *testing.T) {
	for _, text := range []string{"", "{}", `{"Config":{}}`} {
		if p, ok := PlanOf([]byte(text), []byte(text)); ok {
			t.Errorf("%q: %+v", text, p)
		}
	}
}

func TestPlanHidesSecrets(t *testing.T) {
	for _, c := range []struct {
		key, before, after string
		want               Setting
	}{
		{"job.interval", "5s", "2s", Setting{"job.interval", "5s", "2s"}},
		{"job.env.API_TOKEN", "abc", "def", Setting{"job.env.API_TOKEN", hidden, hidden}},
		{"database.password", "", "def", Setting{"database.password", hidden, hidden}},
		{"job.command", "curl --token abc", "curl --token def -s", Setting{"job.command", "curl --token (hidden)", "curl --token (hidden) -s"}},
		{"heartbeat.url", "memcached://u:abc@h", "memcached://u:def@h",
			Setting{"heartbeat.url", "memcached://(hidden)@h", "memcached://(hidden)@h"}},
	} {
		if diff := cmp.Diff(c.want, settingOf(c.key, c.before, c.after)); diff != "" {
			t.Error(diff)
		}
	}
}
