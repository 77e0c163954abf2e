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

// The values of Record.State.
const (
	Pending = "pending" // the key is claimed, the proof is not complete: nothing runs
	Active  = "active"  // the instance holds the lease
)

// Record is the value of key L, as JSON: who holds the lease. Anybody may poll it. The times in it
// are for display only: no decision depends on a wall clock.
type Record struct {
	V         int       `json:"v"`
	PID       int       `json:"pid"`
	Timestamp int64     `json:"timestamp"` // Unix time of the last renewal, as in PHP-Daemon
	Host      string    `json:"host"`
	Job       string    `json:"job,omitempty"`
	ID        string    `json:"id"` // random for each instance: its identity, because PIDs repeat
	Op        string    `json:"op"` // random for each write: identifies a write that timed out
	State     string    `json:"state"`
	Started   time.Time `json:"started"`
	Renewed   time.Time `json:"renewed"`
	Seq       uint64    `json:"seq"` // counts the writes of this instance
	Fence     uint64    `json:"fence"`
	TTL       float64   `json:"ttl"`      // seconds
	Interval  float64   `json:"interval"` // seconds between the ticks of the loop
	Tick      uint64    `json:"tick"`
	LastTick  time.Time `json:"last_tick,omitzero"`
	Boot      string    `json:"boot,omitempty"`     // boot id of the host
	PIDNS     string    `json:"pidns,omitempty"`    // inode of the PID namespace
	PIDStart  uint64    `json:"pidstart,omitempty"` // start time of the process, in clock ticks
	Child     int       `json:"child,omitempty"`    // process group of the running command
	Lock      string    `json:"lock,omitempty"`     // dev:ino of the local lock
	Durable   bool      `json:"fence_durable"`      // the fencing token survives a store restart

	Foreign bool `json:"-"` // not written by this version of gophd; only PID may be set
}

// Compiled on first use: most instances never read a foreign value.
var foreignPID = sync.OnceValues(func() (named, digits *regexp.Regexp) {
	return regexp.MustCompile(`(?i)pid['"]?\s*[;:=]*\s*(?:>\s*)?(?:[is]:(?:\d+:)?)?['"]?(\d+)`),
		regexp.MustCompile(`\d+`)
})

// ParseRecord parses the value of key L. It never fails. A value that gophd did not write, or that
// a later gophd wrote with another v, is Foreign, with the PID that was found in it. PHP-Daemon
// wrote a bare number or a serialized array.
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

// String names the holder for a message.
func (r Record) String() string {
	switch {
	case r.Foreign && r.PID == 0:
		return "a value that gophd did not write"
	case r.Foreign:
		return fmt.Sprintf("PID %d (a value that gophd did not write)", r.PID)
	}
	return fmt.Sprintf("PID %d on %s", r.PID, r.Host)
}

// stateRecord is the value of key S, which does not expire: it outlives the holder.
type stateRecord struct {
	V     int     `json:"v"`
	Fence uint64  `json:"fence"`
	Owner string  `json:"owner"` // id of the last instance that completed the proof
	Op    string  `json:"op"`    // random for each write, as in Record
	Clean bool    `json:"clean"` // the owner's command had exited when the owner released the key
	TTL   float64 `json:"ttl"`   // the owner's, in seconds
	// Kept is what Options.Keep has returned for the next holder, as JSON.
	Kept json.RawMessage `json:"kept,omitempty"`
}

// parseStateRecord returns false for a value that gophd did not write.
func parseStateRecord(value []byte) (stateRecord, bool) {
	var m stateRecord
	if json.Unmarshal(value, &m) != nil || m.V != version || m.Owner == "" || m.Fence > maxFence {
		return stateRecord{}, false
	}
	return m, true
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // only for a non-finite Interval or a year after 9999: an error of the caller
		panic(fmt.Errorf("heartbeat value: %w", err))
	}
	return b
}
