package schedule_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gophd/internal/schedule"
)

func TestCautions(t *testing.T) {
	const (
		minutes = "it runs in every minute of hour 3; "
		hours   = "it runs in every minute of each of its hours; "
		either  = "it runs if the day of month or the day of week matches; "
		short   = "it does not run in months without day "
	)
	for text, want := range map[string][]string{
		"* 3 * * *": {minutes}, "*/1 3 * * *": {minutes}, "* 3,4 * * *": {hours}, "0-59 1-23 * * *": {hours},
		"* * * * *": nil, "*/5 3 * * *": nil, "0 3 * * *": nil,
		"0 0 13 * 5": {either}, "0 0 */2 * 5": nil, "0 0 13 * *": nil, "0 0 ? * 5": nil,
		"0 0 31 * *": {short + "31"}, "0 0 30 * *": {short + "30"}, "0 0 29-31 * *": {short + "29"}, "0 0 31 1,3 *": nil,
		"0 0 31 1,4 *": {short + "31"}, "0 0 29 2 *": nil, "0 0 1,31 * *": nil, "0 0 L * *": nil, "0 0 31,L * *": nil,
		"0 0 31W * *": nil, "0 0 31 * 5": {either}, "* 3 13 * 5": {minutes, either},
		"@daily": nil, "@every 90s": nil, "@reboot": nil, "@manual": nil, "@at 2027-01-01T00:00": nil,
		"@at 2020-01-01T00:00": {"this time is over"},
	} {
		s, err := schedule.Parse(text, schedule.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := s.Cautions(time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC))
		if !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
