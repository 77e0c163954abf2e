package heartbeat

import (
	"context"
	"errors"
	"time"
)

// Look says why key could not be claimed now, and writes nothing: *HeldError when it has a value, whoever's; or that what is
// kept beside it is not gophd's; or *UnreachableError when the store gave no answer for as long as patience, after one
// attempt at least; or ErrUnfit, wrapped. nil is that nobody has it. It blocks until then, or until ctx ends.
func Look(ctx context.Context, s Store, key string, patience time.Duration) error {
	began := time.Now()
	for {
		err := look(ctx, s, key)
		var held *HeldError
		var strange *strangeError
		if err == nil || errors.As(err, &held) || errors.As(err, &strange) || errors.Is(err, ErrUnfit) {
			return err
		}
		if silence := time.Since(began); silence >= patience || ctx.Err() != nil {
			return &UnreachableError{key, silence, err}
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
		if _, ok := parseMemory(entry.Value); !ok {
			return &strangeError{key}
		}
	}
	return nil
}
