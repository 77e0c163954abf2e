//go:build !linux

package sdnotify

import (
	"errors"
	"os"
)

// Socket is not supported on this system: without the sender's credentials from the kernel, any
// process could send messages for a run.
type Socket struct{}

// Open fails with errors.ErrUnsupported.
func Open(func(Message, error)) (*Socket, error) { return nil, errors.ErrUnsupported }

// Adopt closes the file, and fails as Open does.
func Adopt(f *os.File, _ func(Message, error)) (*Socket, error) {
	return nil, errors.Join(errors.ErrUnsupported, f.Close())
}

// Address returns nothing on this system.
func (s *Socket) Address() string { return "" }

// Listen does nothing.
func (s *Socket) Listen() {}

// Drain does nothing.
func (s *Socket) Drain() {}

// Leave does nothing.
func (s *Socket) Leave() *os.File { return nil }

// Close does nothing.
func (s *Socket) Close() error { return nil }
