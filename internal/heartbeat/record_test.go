package heartbeat

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseRecord(t *testing.T) {
	full := Record{
		V: 1, PID: 4711, Timestamp: 1790000000, Host: "a1", Job: "nightly", ID: "9f", Op: "0a", State: Active,
		Started: time.Unix(1, 0).UTC(), Renewed: time.Unix(2, 5).UTC(), Seq: 42, Fence: 17, TTL: 10,
		Interval: 0.2, Tick: 900, LastTick: time.Unix(3, 0).UTC(), Boot: "b", PIDNS: "4026531836", PIDStart: 241918,
		Child: 4720, Lock: "1:2", Durable: true,
	}
	for value, want := range map[string]Record{
		string(encode(full)):                full,
		"":                                  {Foreign: true},
		"4711":                              {PID: 4711, Foreign: true},
		"i:4711;":                           {PID: 4711, Foreign: true},
		`s:4:"4711";`:                       {PID: 4, Foreign: true}, // no name before the PID
		`a:1:{s:3:"pid";s:4:"4711";}`:       {PID: 4711, Foreign: true},
		`a:2:{i:0;i:5;s:3:"PID";i:4711;}`:   {PID: 4711, Foreign: true},
		`{"pid":4711}`:                      {PID: 4711, Foreign: true},
		`{"v":1,"pid":4711}`:                {PID: 4711, Foreign: true}, // no id
		`{"v":2,"id":"x","pid":"4711"}`:     {PID: 4711, Foreign: true},
		"99999999999999999999":              {Foreign: true},
		"\x00\xff no number":                {Foreign: true},
		strings.Repeat("[", 20000) + "4711": {PID: 4711, Foreign: true},
	} {
		if diff := cmp.Diff(want, ParseRecord([]byte(value))); diff != "" {
			t.Errorf("%.60q: %s", value, diff)
		}
	}
}

func TestRecordIsSmall(t *testing.T) {
	r := Record{
		V: 1, PID: 4194304, Timestamp: 1790000000, Host: strings.Repeat("h", 30), Job: "nightly",
		ID: nonce(), Op: nonce(), State: Pending, Started: time.Now(), Renewed: time.Now(),
		Seq: 1 << 40, Fence: 1790000000000, TTL: 10, Interval: 60, Tick: 1 << 40, LastTick: time.Now(),
		Boot: "f2b5d7a0-1111-2222-3333-444455556666", PIDNS: "4026531836", PIDStart: 241918,
		Child: 4194303, Lock: "2049:1234567",
	}
	if n := len(encode(r)); n > 700 {
		t.Errorf("%d bytes", n)
	}
}

// FuzzParseRecord checks that a record that counts as ours has an id, and is the same after
// encoding and parsing, and that only the PID is set for any other value.
func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"x","pid":4711,"ttl":1e300,"started":"2026-01-02T10:04:31Z"}`))
	f.Add([]byte(`a:2:{s:3:"pid";i:4712;s:9:"timestamp";i:1790000000;}`))
	f.Add([]byte("4711"))
	f.Fuzz(func(t *testing.T, value []byte) {
		r := ParseRecord(value)
		if r.Foreign {
			if diff := cmp.Diff(Record{PID: r.PID, Foreign: true}, r); diff != "" || r.PID < 0 {
				t.Fatalf("more than the PID of a foreign value is set: %+v", r)
			}
			return
		}
		if r.ID == "" || r.V != version {
			t.Fatalf("%+v counts as ours", r)
		}
		if d := seconds(r.TTL); d < 0 || d > 31*24*time.Hour {
			t.Fatalf("ttl %v", d)
		}
		if diff := cmp.Diff(r, ParseRecord(encode(r))); diff != "" {
			t.Fatal(diff)
		}
	})
}
