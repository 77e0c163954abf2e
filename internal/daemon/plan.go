package daemon

import (
	"context"

	"gophd/internal/api"
	"gophd/internal/config"
	"gophd/internal/request"
)

// Plan returns what a reload would change. The program that a reload would start checks its config in the
// same way, and nothing changes.
func (a apiDaemon) Plan(ctx context.Context) (*api.Plan, error) {
	if !a.probe.planning.CompareAndSwap(false, true) { // each is a process
		return nil, &request.RejectedError{Why: "another plan is being made; try again"}
	}
	defer a.probe.planning.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, 1)
	defer context.AfterFunc(a.probe.ctx, cancel)()
	err := a.call(ctx, func() error {
		if a.machine.state != starting && a.machine.state != serving {
			return &request.RejectedError{Why: "gophd is " + a.machine.String()}
		}
		a.ask(ctx, answers)
		return nil
	})
	if err != nil {
		return nil, err
	}
	checked := <-answers // soon after ctx has ended
	switch {
	case a.probe.ctx.Err() != nil:
		return nil, errEnding
	case checked.err != nil:
		return nil, &request.RejectedError{Why: "a reload would be rejected: " + checked.err.Error()}
	}
	p, ok := config.PlanOf(checked.previous, checked.config)
	if !ok {
		return nil, nil
	}
	return a.planOf(p), nil
}

// planOf returns a plan in its shape.
func (a apiDaemon) planOf(p config.Plan) *api.Plan {
	active := map[string]bool{}
	for _, j := range a.board.Snapshot().Jobs {
		active[j.Name] = len(j.Active) > 0
	}
	shape := &api.Plan{Settings: settingsOf(p.Settings), Jobs: []api.PlannedJob{}, Unchanged: p.Unchanged}
	for _, j := range p.Jobs {
		planned := api.PlannedJob{Name: j.Name, Change: "changed", Settings: settingsOf(j.Settings)}
		switch {
		case j.Added:
			planned.Change, planned.Schedule = "added", j.Spec.Cadence()
		case j.Removed:
			planned.Change = "removed"
			if active[j.Name] {
				planned.Effect = "its run may finish"
			}
		case j.Spec.Service:
			planned.Effect = "at its next start"
		default:
			planned.Effect = "from its next run"
		}
		shape.Jobs = append(shape.Jobs, planned)
	}
	return shape
}

func settingsOf(all []config.Setting) (shapes []api.Setting) {
	for _, s := range all {
		shape := api.Setting{Name: s.Name}
		if s.Before != s.After { // otherwise what differs is hidden, or in a file
			shape.From, shape.To = s.Before, s.After
		}
		shapes = append(shapes, shape)
	}
	return shapes
}
