package daemon

import "testing"

func TestUnitOfControlGroups(t *testing.T) {
	for groups, want := range map[string]string{
		"0::/system.slice/nightly.service\n":                                                        "unit:nightly.service",
		"0::/system.slice/system-gophd.slice/gophd@jobs.service/supervisor\n":                       "unit:gophd@jobs.service",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/nightly.service\n":              "user-unit:nightly.service",
		"12:pids:/system.slice/nightly.service\n1:name=systemd:/system.slice/nightly.service\n0::/": "unit:nightly.service",
		"0::/user.slice/user-1000.slice/session-3.scope\n":                                          "",
		"0::/\n": "",
		"":       "",
	} {
		if got := unitOf(groups); got != want {
			t.Errorf("%q is of %q, want %q", groups, got, want)
		}
	}
}
