package main

import (
	"strings"
	"testing"
	"time"

	"gophd/internal/api"
	"gophd/internal/job"
)

// TestListedRuns: what a row of gophd list says of the last run and of the next one.
func TestListedRuns(t *testing.T) {
	now := time.Now()
	next := now.Add(90 * time.Second)
	last := &api.Last{Outcome: job.EndingSuccess, Started: now.Add(-time.Minute), Length: 2}
	active := []api.Run{{Run: 1, Started: now.Add(-8 * time.Second)}}
	for want, j := range map[string]api.Job{
		"waiting | - | - | in 1min 30s":                    {State: api.Waiting, NextRun: &next},
		"waiting | 1min ago, 2.0s | success | in 1min 30s": {State: api.Waiting, NextRun: &next, Last: last},
		"running | 8.0s so far | running | -":              {State: api.Running, Running: active},
		"running | 1min ago, 2.0s | success | -":           {State: api.Running, Running: active, Last: last},
		"paused | - | - | paused":                          {State: api.Paused, NextRun: &next, Paused: true, Skip: 1},
		"waiting | - | - | in 1min 30s, skipped":           {State: api.Waiting, NextRun: &next, Skip: 1},
		"waiting | - | - | in 1min 30s, 3 skipped":         {State: api.Waiting, NextRun: &next, Skip: 3},
	} {
		var got []string
		for i, c := range listRows([]api.ListedJob{{Job: j}}, now)[1] {
			if i == 1 || i >= 3 && i <= 5 {
				got = append(got, c.text)
			}
		}
		if text := strings.Join(got, " | "); text != want {
			t.Errorf("got %q, want %q", text, want)
		}
	}
}
