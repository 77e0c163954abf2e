package schedule_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"gophd/internal/schedule"
)

// A schedule that is decoded is equal to the one that was encoded, in every way that a comparison of
// two jobs looks at, and ~ keeps its value on another host.
func TestDecodedScheduleIsTheSame(t *testing.T) {
	berlin, err := schedule.LoadZone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	window, err := schedule.ParseWindow("00:00-23:59")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []schedule.Options{{}, {Zone: time.UTC}, {Zone: time.Local}, {Zone: berlin, Seconds: true, Seed: "host/job"}} {
		for _, text := range []string{"17 3 * * 1-5", "~ ~  * * *", "0 0 L,15W * fri#2", "@daily", "@every 90s",
			"@at 2030-12-24T18:00", "@reboot", "@manual"} {
			s, err := schedule.Parse(text, o)
			if err != nil {
				t.Fatal(err)
			}
			if o.Seconds {
				var exclude []schedule.Exclusion
				for _, text := range []string{"12-25..12-26", "* 12 * * 5", "1-30/2 30 * * * sun#1"} {
					x, err := schedule.ParseExclusion(text, o)
					if err != nil {
						t.Fatal(err)
					}
					exclude = append(exclude, x)
				}
				if s, err = s.Within(window, exclude); err != nil {
					t.Fatal(err)
				}
			}
			encoded, err := json.Marshal(&s)
			if err != nil {
				t.Fatal(err)
			}
			var got schedule.Schedule
			if err := json.Unmarshal(encoded, &got); err != nil {
				t.Fatalf("%s: %v", encoded, err)
			}
			if !reflect.DeepEqual(s, got) || !s.Equal(&got) || got.String() != strings.Join(strings.Fields(text), " ") {
				t.Errorf("%s became %+v, not %+v", encoded, got, s)
			}
		}
	}
}

func TestDecodeRejectsAnotherSchedule(t *testing.T) {
	for _, text := range []string{`{}`, `[]`, `{"Expression":"0 25 * * *"}`, `{"Expression":"@daily","Zone":"Mars"}`,
		`{"Expression":"@daily","New":1}`,
		`{"Expression":"@daily","Between":"soon"}`, `{"Expression":"@daily","Exclude":["soon"]}`} {
		var s schedule.Schedule
		if err := json.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%s was accepted as %+v", text, s)
		}
	}
}
