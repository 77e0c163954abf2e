package heartbeat

import (
	"context"
	"errors"
	"time"
)

// Store keeps records by key for several instances. Each method is one operation. It is atomic with
// respect to all other clients of the same store, and returns within twice the store's own timeout,
// or soon after ctx ends. The engine has at most one operation in progress.
//
// An operation has one of three results: done (nil); rejected (ErrAbsent, ErrExists or ErrChanged:
// it certainly did not happen); unknown (any other error: it may have happened, or may still happen
// later, when a stopped server continues). A Store never turns one into another: a lost reply, a
// full server and a refused connection are all unknown.
type Store interface {
	// Get reads the entry of key. It returns ErrAbsent if there is none, or if it has expired.
	Get(ctx context.Context, key string) (Entry, error)
	// Add writes value if key has no entry, and returns ErrExists otherwise. The entry may expire
	// earlier than ttl by Traits.Margin, never later. With ttl 0 it does not expire.
	Add(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Swap replaces the entry if nobody wrote it since old was read. It returns ErrChanged if
	// somebody did, and ErrAbsent if there is no entry any more. The ttl starts again.
	Swap(ctx context.Context, key string, old Entry, value []byte, ttl time.Duration) error
	// Expire removes the entry if nobody wrote it since old was read. It returns errors as Swap
	// does.
	Expire(ctx context.Context, key string, old Entry) error
	// Traits returns what is constant for the life of the store. It does no I/O.
	Traits() Traits
	// Close releases the client's resources. It removes no entry, except that the locks of a Lock
	// store end with their descriptor.
	Close() error
}

// ErrUnfit is wrapped in the error of an operation if the server answered, but cannot keep a lease
// as it is configured. A retry does not help, unlike after an outage.
var ErrUnfit = errors.New("no lease can be kept there")

// Entry is the value that a Store has under a key.
type Entry struct {
	Value []byte
	Token any // the store's own proof that nobody wrote since (memcached: the item with its cas id)
}

// Traits describes what a Store guarantees.
type Traits struct {
	// Lock is true if an entry with a ttl lasts exactly as long as the process that added it keeps
	// it (flock): no expiry, no renewal, no deadline and no proof are needed.
	Lock bool
	// Margin is the time by which the server's clock may shorten a ttl (memcached: 2 s).
	Margin time.Duration
	// MinTTL is the smallest useful ttl; every ttl is a multiple of Granularity.
	MinTTL, Granularity time.Duration
	// FenceDurable is true if entries without a ttl, and so the fencing token, survive a restart of
	// the server.
	FenceDurable bool
}

// The errors of an operation that a Store rejected. They may be wrapped: use errors.Is.
var (
	ErrAbsent  = errors.New("the key has no entry")
	ErrExists  = errors.New("the key has an entry")
	ErrChanged = errors.New("the entry is no longer the one that was read")
)
