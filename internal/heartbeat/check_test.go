package heartbeat

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestLookReportsWhatAClaimWouldFind: Look returns the error, and writes nothing.
func TestLookReportsWhatAClaimWouldFind(t *testing.T) {
	record := encode(Record{V: version, PID: 7, ID: "other"})
	state := encode(stateRecord{V: version, Fence: 3, Owner: "other", Op: "x"})
	silent := errors.New("silent")
	for name, tc := range map[string]struct {
		items    map[string][]byte
		silent   time.Duration
		patience time.Duration
		took     time.Duration
		check    func(error) bool
	}{
		"free": {check: func(err error) bool { return err == nil }},
		"released": {items: map[string][]byte{"k.state": state},
			check: func(err error) bool { return err == nil }},
		"held":          {items: map[string][]byte{"k": record, "k.state": state}, check: heldBy(7)},
		"held, foreign": {items: map[string][]byte{"k": []byte("pid 8")}, check: heldBy(8)},
		"foreign state": {items: map[string][]byte{"k.state": []byte("x")}, patience: time.Minute,
			check: func(err error) bool { return errors.As(err, new(*foreignValueError)) }},
		"answers late": {silent: time.Second, patience: 2 * time.Second, took: time.Second,
			check: func(err error) bool { return err == nil }},
		"silent": {silent: time.Hour, patience: 2 * time.Second, took: 2 * time.Second,
			check: func(err error) bool { return errors.As(err, new(*UnreachableError)) && errors.Is(err, silent) }},
		"one attempt": {silent: time.Hour,
			check: func(err error) bool { return errors.As(err, new(*UnreachableError)) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, start := newFake(), time.Now()
				f.before = func(op, _ string) error {
					if op != "get" {
						t.Errorf("Look called %s", op)
					}
					if time.Since(start) < tc.silent {
						return silent
					}
					return nil
				}
				for k, v := range tc.items {
					f.items[k] = fakeItem{Entry: Entry{Value: v, Token: 1}}
				}
				if err := Look(t.Context(), f, "k", tc.patience); !tc.check(err) || time.Since(start) != tc.took {
					t.Errorf("after %s: %v; want it after %s", time.Since(start), err, tc.took)
				}
			})
		})
	}
}

// If ctx ends first, the error is the cause, and not the end of ctx.
func TestLookReportsTheCauseAtTheEndOfItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("connection refused")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f := newFake()
		f.before = func(string, string) error { return cmp.Or(ctx.Err(), refused) }
		if err := Look(ctx, f, "k", time.Minute); !errors.Is(err, refused) || errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func heldBy(pid int) func(error) bool {
	return func(err error) bool {
		var held *HeldError
		return errors.As(err, &held) && held.Holder.PID == pid
	}
}
