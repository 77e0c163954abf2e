//go:build !linux

package sdnotify

import (
	"errors"
	"os"
)

// Socket cannot be had here: without the kernel's word on who sends a message, anybody could speak for a run.
type Socket struct{}

// Open fails with errors.ErrUnsupported.
func Open(func(Message, error)) (*Socket, error) { return nil, errors.ErrUnsupported }

// Adopt closes the file, and fails as Open does.
func Adopt(f *os.File, hear func(Message, error)) (*Socket, error) {
	return nil, errors.Join(errors.ErrUnsupported, f.Close())
}

// Address is for the other systems, as those below are.
func (s *Socket) Address() string { return "" }

// Listen does nothing.
func (s *Socket) Listen() {}

// Drain does nothing.
func (s *Socket) Drain() {}

// Leave has nothing to leave.
func (s *Socket) Leave() *os.File { return nil }

// Close does nothing.
func (s *Socket) Close() error { return nil }
