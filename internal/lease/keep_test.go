package lease

import (
	"testing"
)

// What is kept is that of all jobs, and of the last takeover.
func TestRecordsOfAllJobsAreKept(t *testing.T) {
	var k keeping
	if _, _, ok := k.value(0); ok {
		t.Error("without a record there is something to keep")
	}
	k.put("a", []byte(`{"skip":1}`))
	first := k.put("b", []byte(`{"paused":true}`))
	if again := k.put("b", []byte(`{"paused":true}`)); again != first {
		t.Errorf("the same record has version %d after %d", again, first)
	}
	want := func(took uint64, text string) {
		t.Helper()
		if value, version, ok := k.value(took); string(value) != text || !ok || version != k.version {
			t.Errorf("%s, version %d of %d, %t, want %s", value, version, k.version, ok, text)
		}
	}
	want(0, `{"a":{"skip":1},"b":{"paused":true}}`)

	k.takeOver(1, []byte(`{"b":{"skip":7},"gone":{"paused":true}}`))
	if _, _, ok := k.value(0); ok {
		t.Error("the records are still those of before the takeover")
	}
	want(1, `{"a":{"skip":1},"b":{"skip":7},"gone":{"paused":true}}`)
	for _, found := range []string{"", "null", "[1]", "{", `"x"`} { // the server has lost it, or another gophd has written it
		k.takeOver(2, []byte(found))
		want(2, `{"a":{"skip":1},"b":{"skip":7},"gone":{"paused":true}}`)
	}
}
