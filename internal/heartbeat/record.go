package heartbeat

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// version is the v of every value that this package writes.
const version = 1

// The states that a Record shows to those who poll.
const (
	Pending = "pending" // claimed, and not yet proven to be alone: nothing runs
	Active  = "active"  // holds the heartbeat
)

// Record is the value of key L, as JSON: who holds the heartbeat. Anybody may poll it; times in it
// are for display only, nothing is ever decided by a wall clock.
type Record struct {
	V         int       `json:"v"`
	PID       int       `json:"pid"`
	Timestamp int64     `json:"timestamp"` // unix seconds of the last renewal, as the PHP daemon wrote it
	Host      string    `json:"host"`
	Job       string    `json:"job,omitempty"`
	ID        string    `json:"id"` // random for each instance; the identity, since PIDs repeat
	Op        string    `json:"op"` // random for each write, by which a timed-out write is recognised
	State     string    `json:"state"`
	Started   time.Time `json:"started"`
	Renewed   time.Time `json:"renewed"`
	Seq       uint64    `json:"seq"` // counts the writes of this instance
	Fence     uint64    `json:"fence"`
	Slot      int       `json:"slot"`
	Slots     int       `json:"slots"`
	TTL       float64   `json:"ttl"`      // seconds
	Interval  float64   `json:"interval"` // seconds between the ticks of the loop
	Tick      uint64    `json:"tick"`
	LastTick  time.Time `json:"last_tick,omitzero"`
	Boot      string    `json:"boot,omitempty"`     // boot id of the host
	PIDNS     string    `json:"pidns,omitempty"`    // inode of the PID namespace
	PIDStart  uint64    `json:"pidstart,omitempty"` // start time of the process in clock ticks after boot
	Child     int       `json:"child,omitempty"`    // process group of the running command
	Lock      string    `json:"lock,omitempty"`     // dev:ino of the local lock
	Durable   bool      `json:"fence_durable"`      // fences go on growing over a restart of the store

	Foreign bool `json:"-"` // the value is not one that this version of gophd writes; only PID may be known
}

// Compiled when first needed: most instances never meet a foreign value.
var foreignPID = sync.OnceValues(func() (named, digits *regexp.Regexp) {
	return regexp.MustCompile(`(?i)pid['"]?\s*[;:=]*\s*(?:>\s*)?(?:[is]:(?:\d+:)?)?['"]?(\d+)`),
		regexp.MustCompile(`\d+`)
})

// ParseRecord reads the value of key L. It never fails: what gophd did not write, or a later gophd
// wrote with another v, is Foreign, with the PID that could be found in it (the old PHP daemon
// wrote a bare number or a serialised array).
func ParseRecord(value []byte) Record {
	var r Record
	if json.Unmarshal(value, &r) == nil && r.V == version && r.ID != "" {
		return r
	}
	named, digits := foreignPID()
	pid := digits.Find(value)
	if m := named.FindSubmatch(value); m != nil {
		pid = m[1]
	}
	n, err := strconv.ParseInt(string(pid), 10, 32)
	if err != nil {
		n = 0
	}
	return Record{PID: int(n), Foreign: true}
}

// String names the owner for a message.
func (r Record) String() string {
	switch {
	case r.Foreign && r.PID == 0:
		return "a value that is not gophd's"
	case r.Foreign:
		return fmt.Sprintf("PID %d (a value that is not gophd's)", r.PID)
	}
	return fmt.Sprintf("PID %d on %s", r.PID, r.Host)
}

// memory is the value of key S, which never expires: what outlives the holder.
type memory struct {
	V     int     `json:"v"`
	Fence uint64  `json:"fence"`
	Owner string  `json:"owner"` // id of the last instance that proved itself
	Op    string  `json:"op"`    // random for each write, as in Record
	Clean bool    `json:"clean"` // the owner's command had ended when it released the key
	TTL   float64 `json:"ttl"`   // the owner's, in seconds
	Slots int     `json:"slots"`
}

// parseMemory says false for what gophd did not write.
func parseMemory(value []byte) (memory, bool) {
	var m memory
	if json.Unmarshal(value, &m) != nil || m.V != version || m.Owner == "" || m.Fence > maxFence {
		return memory{}, false
	}
	return m, true
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // only a non-finite Interval or a year past 9999: a fault of the caller
		panic(fmt.Errorf("heartbeat value: %w", err))
	}
	return b
}
