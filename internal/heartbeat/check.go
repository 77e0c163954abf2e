package heartbeat

import (
	"context"
	"errors"
	"time"
)

// Look returns why key could not be claimed now, and writes nothing. It returns nil if nobody holds
// the lease; *HeldError if the key has a value of any kind; an error if gophd did not write the
// value of the state key; ErrUnfit, wrapped; or *UnreachableError if the store gave no answer for
// the time of patience. It makes at least one attempt. It blocks until it has an answer, or
// patience is over, or ctx ends.
func Look(ctx context.Context, s Store, key string, patience time.Duration) error {
	start := time.Now()
	var last error // the end of ctx is no cause
	for {
		err := look(ctx, s, key)
		var held *HeldError
		var foreign *foreignValueError
		if err == nil || errors.As(err, &held) || errors.As(err, &foreign) || errors.Is(err, ErrUnfit) {
			return err
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if silence := time.Since(start); silence >= patience || ctx.Err() != nil {
			return &UnreachableError{key, silence, last}
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
		}
	}
}

func look(ctx context.Context, s Store, key string) error {
	switch entry, err := s.Get(ctx, key); {
	case err == nil:
		return &HeldError{key, ParseRecord(entry.Value)}
	case !errors.Is(err, ErrAbsent):
		return err
	}
	key += stateSuffix
	switch entry, err := s.Get(ctx, key); {
	case errors.Is(err, ErrAbsent):
	case err != nil:
		return err
	default:
		if !IsState(entry.Value) {
			return &foreignValueError{key}
		}
	}
	return nil
}

// IsState reports whether the engine can use the value of a state key. Otherwise it ends with an
// error, because it never overwrites a value that this version of gophd did not write.
func IsState(value []byte) bool {
	_, ok := parseStateRecord(value)
	return ok || wasLost(value)
}

// wasLost reports whether the value of a state key was lost: gophd writes no empty one, but a file
// may be empty after a power loss, on a disk that ignores fsync, or in a backup. An error would not
// help: the only fix would be to remove the value. The engine continues as if there was none, with a
// fencing token that is certainly higher than the lost one.
func wasLost(value []byte) bool { return len(value) == 0 }
