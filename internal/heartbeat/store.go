package heartbeat

import (
	"context"
	"errors"
	"time"
)

// Store keeps records by key on behalf of several instances. Each method is one operation that is
// atomic against all other clients of the same store, and returns within twice the store's own
// timeout, or soon after ctx ends. The engine has at most one operation under way.
//
// An operation is answered in one of three ways: done (nil), refused (one of ErrAbsent, ErrExists,
// ErrChanged: it did certainly not happen), and unknown (any other error: it may have happened, or
// may still happen later, when a stopped server goes on). A Store never turns one into another: a
// lost reply, a full server and a refused connection are all unknown.
type Store interface {
	// Get reads the entry of key. ErrAbsent when there is none, or when it has expired.
	Get(ctx context.Context, key string) (Entry, error)
	// Add writes value if key has no entry, else ErrExists. The entry may live shorter than ttl by
	// Traits.Margin, never longer; 0 is for ever.
	Add(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Swap replaces the entry if nobody wrote it since old was got: ErrChanged when somebody did,
	// ErrAbsent when it is gone. The ttl starts anew.
	Swap(ctx context.Context, key string, old Entry, value []byte, ttl time.Duration) error
	// Expire removes the entry if nobody wrote it since old was got: ErrChanged, ErrAbsent as Swap.
	Expire(ctx context.Context, key string, old Entry) error
	// Traits are constant for the life of the store. It does no I/O.
	Traits() Traits
	// Close frees what the store holds on this side. It removes no entry, except that the locks of
	// a Lock store end with their descriptor.
	Close() error
}

// ErrUnfit is in the error of an operation when the server has answered, and no heartbeat can be kept there as it is:
// to ask again will not help, as it may after an outage.
var ErrUnfit = errors.New("no heartbeat can be kept there")

// Entry is what a Store has under a key.
type Entry struct {
	Value []byte
	Token any // the store's own proof that nobody wrote since (memcached: the item with its cas id)
}

// Traits says what can be relied on in a Store.
type Traits struct {
	// Lock says that an entry with a ttl lives exactly as long as the process that added it keeps it
	// (flock): no expiry, no renewal, no deadline and no proof are needed.
	Lock bool
	// Margin is what the server's clock may take from a ttl (memcached: 2 s).
	Margin time.Duration
	// MinTTL is the smallest useful ttl; every ttl is a multiple of Granularity.
	MinTTL, Granularity time.Duration
	// FenceDurable says that entries without a ttl survive a restart of the server, and so do fences.
	FenceDurable bool
}

// The refusals of a Store. They may come wrapped; errors.Is finds them.
var (
	ErrAbsent  = errors.New("the key has no entry")
	ErrExists  = errors.New("the key has an entry")
	ErrChanged = errors.New("the entry is no longer the one that was read")
)
