package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"gophd/internal/status"
)

// The coming runs of all jobs are together in the order of their due times, and say what of them does not start.
func TestNextRunsOfADaemon(t *testing.T) {
	hourly, daily := timed("hourly", "0 * * * *"), timed("daily", "30 1 * * *")
	hourly.Splay = time.Minute
	jobs := []status.Job{{Name: "poll", Schedule: "every 5s"}, {Name: "hourly", Timed: hourly},
		{Name: "daily", Timed: daily, Skip: 1}, {Name: "boot", Timed: timed("boot", "@reboot")}}
	path := listenTo(t, newServer(t, t.TempDir(), func(o *Options) {
		o.Daemon = daemon{func() status.Snapshot { return status.Snapshot{Name: "d", Jobs: jobs} }}
	}))
	ctx, client := context.Background(), NewClient(path)
	from := time.Date(2040, 1, 1, 0, 30, 0, 0, time.UTC)
	all, err := client.Next(ctx, "", from, 3)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range all.Runs {
		got = append(got, r.Job+" "+r.Due.Format("15:04")+" "+r.Local.Format("15:04 ")+r.Zone+" "+r.Note)
	}
	want := []string{"hourly 01:00 01:00 UTC starts 1m later", "daily 01:30 01:30 UTC ", "hourly 02:00 02:00 UTC starts 1m later"}
	if !slices.Equal(got, want) || all.Daemon != "d" || len(all.None) != 1 {
		t.Errorf("%q, %+v", got, all)
	}

	// A skip is that of the next run from now on, and a pause is one of all.
	now := time.Now()
	all, err = client.Next(ctx, "daily", now, 2)
	if err != nil || all.Runs[0].Note != "is skipped, as requested" || all.Runs[1].Note != "" {
		t.Errorf("%+v, %v", all, err)
	}
	jobs = slices.Clone(jobs)
	jobs[1].Held = "paused"
	if all, err = client.Next(ctx, "hourly", now, 1); err != nil || all.Runs[0].Note != "starts 1m later; the job is paused" {
		t.Errorf("%+v, %v", all, err)
	}
	for name, code := range map[string]int{"other": http.StatusNotFound, "poll": http.StatusConflict} {
		_, err := client.Next(ctx, name, now, 1)
		if refused := (*Refused)(nil); !errors.As(err, &refused) || refused.Code != code {
			t.Errorf("%s: %v", name, err)
		}
	}
}
