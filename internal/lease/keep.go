package lease

import (
	"bytes"
	"encoding/json"
	"sync"
)

// keeping is what the shared store keeps for the next holder of the lease: a record for each job. The
// Lease does not know what is in it.
type keeping struct {
	mu      sync.Mutex // guards the rest
	took    uint64     // heartbeat.Lease.Took of the claim, of which the records are
	records map[string]keptRecord
	version uint64 // of the newest record
}

type keptRecord struct {
	value   json.RawMessage
	version uint64
}

// takeOver replaces the records by those that the last holder has kept. It keeps what that does not have.
func (k *keeping) takeOver(took uint64, found []byte) {
	var records map[string]json.RawMessage
	_ = json.Unmarshal(found, &records) // it is empty, or of another version of gophd
	k.mu.Lock()
	defer k.mu.Unlock()
	k.took = took
	for name, value := range records {
		k.put(name, value)
	}
}

func (k *keeping) put(name string, value []byte) (version uint64) {
	if k.records == nil {
		k.records = map[string]keptRecord{}
	}
	r := k.records[name]
	if !bytes.Equal(r.value, value) {
		k.version++
		r = keptRecord{value, k.version}
		k.records[name] = r
	}
	return r.version
}

// value is heartbeat.Options.Keep.
func (k *keeping) value(took uint64) (value []byte, version uint64, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.took != took || len(k.records) == 0 {
		return nil, 0, false
	}
	values := make(map[string]json.RawMessage, len(k.records))
	for name, r := range k.records {
		values[name] = r.value
	}
	value, err := json.Marshal(values)
	return value, k.version, err == nil
}

// Keep makes the shared store keep the record of a job, compact JSON, for the next holder. It replaces the
// earlier one. It returns nil if the store has it, need not have it because there is none, or takes none
// although it renews the lease. Otherwise it returns a channel that is closed when it is worth calling
// Keep again. It does not block.
func (l *Lease) Keep(job string, record []byte) <-chan struct{} {
	if l.shared == nil {
		return nil
	}
	l.keeping.mu.Lock()
	version := l.keeping.put(job, record)
	l.keeping.mu.Unlock()
	hb := l.shared.hb.Load()
	if hb == nil { // it is written when the lease is held
		return nil
	}
	now, changed := hb.Watch()
	if now.Unproven || now.KeepErr != nil || now.Kept >= version {
		return nil
	}
	hb.Keep()
	return changed
}

// Kept returns the record of a job that the holder before the last takeover has kept, or that was kept since;
// nil if there is none.
func (l *Lease) Kept(job string) []byte {
	l.keeping.mu.Lock()
	defer l.keeping.mu.Unlock()
	return l.keeping.records[job].value
}

// Took counts the takeovers of the lease: how often it was acquired after another instance may have held
// it. It is 0 while it is that of the old process.
func (l *Lease) Took() (n uint64) {
	for _, c := range l.claims() {
		now, _ := c.now()
		n += now.Took
	}
	return n
}
